//! How far to guess ahead, and when to try again what did not pay: rules over measured chances and measured times, which
//! know no engine. What they win and cost over whole texts is reckoned in their tests.

/// How much faster guessing must be to be done: measured times and chances are no better than that. Lower ones cost more
/// than two in a hundred where the machine has other work.
const GAIN: f64 = 1.1;
/// How much longer a step may take for answers that are not guessed ahead themselves.
const LONGER: f64 = 2.5;
/// How much of the time may go into trying again what did not pay.
const SHARE: f64 = 0.01;

/// A rest from what did not pay, long enough to make its cost a small share of the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    seconds: f64,
}

impl Rest {
    /// Something cost `seconds` and won nothing.
    pub fn after(&mut self, seconds: f64) {
        self.seconds = seconds / SHARE;
    }

    /// So much time went by.
    pub fn pass(&mut self, seconds: f64) {
        self.seconds -= seconds;
    }

    pub fn is_over(&self) -> bool {
        self.seconds <= 0.0
    }
}

/// What can be guessed of one sequence: so many tokens, each of which comes true with `chance` if those before it did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offer {
    pub chance: f64,
    pub most: usize,
}

impl Offer {
    /// Tokens that come of `count` guesses in a row.
    fn tokens(&self, count: usize) -> f64 {
        let all = (1..=count).scan(1.0, |all, _| {
            *all *= self.chance;
            Some(*all)
        });
        all.sum()
    }
}

/// How many guesses to take of each offer, so that most tokens come a second; none when that is not enough to win. One
/// sequence has one offer. A step takes `alone` seconds without guesses and `seconds(guesses)` with them.
pub fn plan(offers: &[Offer], alone: Option<f64>, seconds: impl Fn(&[usize]) -> Option<f64>) -> Vec<usize> {
    let none = vec![0; offers.len()];
    let Some(alone) = alone.filter(|alone| *alone > 0.0) else { return none };
    let fair = |counts: &[usize]| seconds(counts).filter(|seconds| !counts.contains(&0) || *seconds <= LONGER * alone);
    let best = best(offers, fair).filter(|(rate, _)| *rate > GAIN * offers.len() as f64 / alone);
    best.map_or(none, |(_, counts)| counts)
}

/// The most tokens a second, and the guesses that make them. Sequences are guessed equally far, since llama.cpp evaluates
/// those together: the likeliest one, or the two likeliest, and so on.
pub fn best(offers: &[Offer], seconds: impl Fn(&[usize]) -> Option<f64>) -> Option<(f64, Vec<usize>)> {
    let mut likeliest: Vec<usize> = (0..offers.len()).filter(|at| offers[*at].most > 0).collect();
    likeliest.sort_by(|a, b| offers[*b].chance.total_cmp(&offers[*a].chance));
    let rate = |counts: &[usize]| {
        let tokens: f64 = offers.iter().zip(counts).map(|(offer, count)| 1.0 + offer.tokens(*count)).sum();
        Some(tokens / seconds(counts)?)
    };
    let mut best: Option<(f64, Vec<usize>)> = None;
    for several in 1..=likeliest.len() {
        let chosen = &likeliest[..several];
        for length in 1..=chosen.iter().map(|at| offers[*at].most).max()? {
            let mut counts = vec![0; offers.len()];
            chosen.iter().for_each(|at| counts[*at] = length.min(offers[*at].most));
            if let Some(rate) = rate(&counts)
                && best.as_ref().is_none_or(|(most, _)| rate > *most)
            {
                best = Some((rate, counts));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
