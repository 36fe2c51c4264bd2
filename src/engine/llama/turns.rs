//! How long small batches take: whether a few more tokens in one are dear or cheap, which is the machine's to say.

use super::pace::Pace;

/// Batches of answers only are told apart up to this many tokens.
const SMALL: usize = 64;
/// A size not seen for so many batches is forgotten: what was learnt in a bad moment must not hold for ever.
const MEMORY: u64 = 500;
/// How fast a shorter time replaces the old one, and a longer one. Batches are slowed down now and then and never sped up,
/// so the short times are the true ones.
const DOWN: f64 = 0.3;
const UP: f64 = 0.05;
/// How much longer than before a batch may seem at the most.
const OUTLIER: f64 = 2.0;

/// Seconds that small batches take, by their number of tokens. A second token costs little where the weights' way from
/// memory is what takes time, and nearly as much as the first where it is not: only measuring tells.
pub struct Turns {
    took: [Option<Took>; SMALL],
    now: u64,
}

#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    when: u64,
}

impl Turns {
    pub fn new() -> Self {
        Self { took: [None; SMALL], now: 0 }
    }

    fn known(&self, tokens: usize) -> Option<f64> {
        let took = self.took.get(tokens)?.as_ref()?;
        (self.now - took.when <= MEMORY).then_some(took.seconds)
    }

    pub fn learn(&mut self, tokens: usize, seconds: f64) {
        self.now += 1;
        let before = self.known(tokens);
        if let Some(place) = self.took.get_mut(tokens) {
            let seconds = before.map_or(seconds, |before| {
                let share = if seconds < before { DOWN } else { UP };
                before + share * (seconds.min(OUTLIER * before) - before)
            });
            *place = Some(Took { seconds, when: self.now });
        }
    }

    /// Seconds that a batch of so many tokens will take. Between sizes that were seen there is a line; beyond them each
    /// token costs what `pace` says, in the hope that it is so: one try then tells. `None` when nothing is known.
    pub fn expect(&self, tokens: usize, pace: &Pace) -> Option<f64> {
        let below = (1..=tokens.min(SMALL - 1)).rev().find_map(|size| Some((size, self.known(size)?)));
        let above = (tokens..SMALL).find_map(|size| Some((size, self.known(size)?)));
        match (below, above) {
            (Some((low, least)), Some((high, most))) if low < high => {
                Some(least + (most - least) * (tokens - low) as f64 / (high - low) as f64)
            }
            (Some((low, least)), _) if low == tokens => Some(least),
            (Some((low, least)), _) => Some(least + (tokens - low) as f64 * pace.token()?),
            (None, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_not_seen_is_reckoned_from_what_was() {
        let (mut turns, mut pace) = (Turns::new(), Pace::new(512));
        assert_eq!(turns.expect(1, &pace), None);
        turns.learn(1, 1.0);
        assert_eq!((turns.expect(1, &pace), turns.expect(2, &pace)), (Some(1.0), None));
        pace.learn(100, Duration::from_secs(25));
        assert_eq!(turns.expect(5, &pace), Some(2.0));
        turns.learn(5, 4.0);
        assert_eq!((turns.expect(3, &pace), turns.expect(9, &pace)), (Some(2.5), Some(5.0)));
        turns.learn(5, 1000.0);
        assert!((turns.expect(5, &pace).unwrap() - 4.2).abs() < 1e-9, "one bad moment is not believed");
        for _ in 0..=MEMORY {
            turns.learn(1, 1.0);
        }
        assert_eq!(turns.expect(5, &pace), Some(2.0));
    }
}
