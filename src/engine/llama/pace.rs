//! How much of waiting prompts goes into a batch: as much as keeps those who read an answer from waiting.

use std::time::Duration;

/// How long a batch may take: no answer comes and no cancel is heard meanwhile. And the tokens of prompts that it holds
/// at the least, however slow the model is; fewer are not worth a pass over the weights.
struct Patience {
    time: Duration,
    least: usize,
}

/// While answers are being read.
const READ: Patience = Patience { time: Duration::from_millis(200), least: 16 };
/// While nobody reads yet: long enough for whole batches, which use the weights best, short enough to hear a cancel.
const UNREAD: Patience = Patience { time: Duration::from_secs(3), least: 128 };

/// How many tokens of prompts go into a batch.
pub struct Pace {
    largest: usize,
    /// Seconds a token of a large batch takes.
    token: f64,
}

impl Pace {
    pub fn new(largest: usize) -> Self {
        Self { largest, token: 0.0 }
    }

    /// Room beside the tokens of `answering` sequences.
    pub fn room(&self, answering: usize) -> usize {
        let room = self.largest - answering.min(self.largest);
        let Patience { time, least } = if answering == 0 { UNREAD } else { READ };
        if self.token == 0.0 {
            return room;
        }
        room.min(((time.as_secs_f64() / self.token) as usize).max(least))
    }

    pub fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens >= READ.least {
            let token = took.as_secs_f64() / tokens as f64;
            self.token = if self.token == 0.0 { token } else { 0.5 * (self.token + token) };
        }
    }

    /// Seconds a token of a large batch takes, when one was seen.
    pub fn token(&self) -> Option<f64> {
        (self.token > 0.0).then_some(self.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_do_not_hold_answers_up() {
        let mut pace = Pace::new(512);
        assert_eq!((pace.room(0), pace.room(2)), (512, 510));
        pace.learn(512, Duration::from_millis(2560));
        assert_eq!((pace.room(0), pace.room(2)), (512, 40));
        pace.learn(512, Duration::from_secs(3600));
        assert_eq!((pace.room(0), pace.room(2)), (128, 16));
        assert_eq!(Pace::new(64).room(0), 64);
    }
}
