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
/// How long the first of several who come at once waits for the others, at the most, and the share of one token's time that it is
/// where tokens are fast.
const MOMENT: Duration = Duration::from_millis(1);
const SHARE: f64 = 0.25;

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

    /// How long to wait for one more who comes along: hardly longer than nothing beside what a pass over the weights takes, which all of
    /// them then share. None where nothing is known yet.
    pub fn moment(&self) -> Duration {
        Duration::try_from_secs_f64(SHARE * self.token).unwrap_or(MOMENT).min(MOMENT)
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

    #[test]
    fn nobody_waits_long_for_others() {
        let mut pace = Pace::new(512);
        assert_eq!(pace.moment(), Duration::ZERO);
        pace.learn(500, Duration::from_millis(50));
        assert_eq!(pace.moment(), Duration::from_micros(25));
        pace.learn(500, Duration::from_secs(50));
        assert_eq!(pace.moment(), MOMENT);
    }
}
