//! Speculative decoding: tokens are guessed, evaluated in one batch with the one that is certain, and kept as far as the
//! model itself chooses them. A guess changes how long an answer takes and never what it says.
//!
//! What a guess is worth is measured, not assumed. Guesses of the lookup cost nothing until they are evaluated, so they
//! are made always and compared with what then comes; they are evaluated only while they come true often enough to pay
//! for the longer batch on this machine.

use std::sync::Arc;

use super::lookup::Lookup;
use crate::engine::tokens::Tokens;

/// Tokens guessed at once, at the most.
pub const MOST: usize = 16;
/// A guess behind so many tokens that agree is another matter than one behind few.
const LONG: usize = 8;
/// How much faster guessing must be to be done: measured times and chances are no better than that. Lower ones cost more
/// than two in a hundred where the machine has other work (`policy.rs` tells).
const GAIN: f64 = 1.1;

/// Where a guess comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A few tokens agreed with a place before.
    Short,
    /// Many tokens did.
    Long,
    /// A draft model.
    Draft,
}

/// How often guesses come true, where the latest count most.
#[derive(Clone, Copy, Debug)]
struct Odds {
    true_ones: f64,
    all: f64,
    first: f64,
}

impl Odds {
    /// What is held to be so until there is more to go by.
    fn new(first: f64) -> Self {
        Self { true_ones: 2.0 * first, all: 2.0, first }
    }

    fn chance(&self) -> f64 {
        self.true_ones / self.all
    }

    fn learn(&mut self, came_true: bool) {
        const KEPT: f64 = 0.95;
        self.true_ones = KEPT * self.true_ones + f64::from(u8::from(came_true));
        self.all = KEPT * self.all + 1.0;
    }

    /// Back towards the beginning, a little, so that what failed is tried again one day.
    fn fade(&mut self) {
        const KEPT: f64 = 0.99;
        self.true_ones = KEPT * self.true_ones + (1.0 - KEPT) * self.first * self.all;
    }
}

/// One sequence's guesses.
pub struct Guesser {
    tokens: Arc<Tokens>,
    lookup: Lookup,
    odds: [Odds; 3],
    /// What is guessed to come next, evaluated or not, in reverse.
    next: Vec<u32>,
    source: Source,
}

impl Guesser {
    pub fn new(tokens: &Arc<Tokens>) -> Self {
        Self {
            tokens: tokens.clone(),
            lookup: Lookup::default(),
            odds: [Odds::new(0.5), Odds::new(0.8), Odds::new(0.7)],
            next: Vec::new(),
            source: Source::Short,
        }
    }

    /// Guesses from what stands in `history`. Gives the chance that each comes true.
    pub fn look(&mut self, history: &[u32]) -> f64 {
        match self.lookup.find(history, MOST) {
            Some(found) => self.set(found.tokens, if found.agreed < LONG { Source::Short } else { Source::Long }),
            None => self.next.clear(),
        }
        self.chance(self.source)
    }

    /// These are the guesses now, by a draft model.
    pub fn take(&mut self, tokens: Vec<u32>) {
        self.set(tokens, Source::Draft);
    }

    fn set(&mut self, mut tokens: Vec<u32>, source: Source) {
        // Nothing comes after the end, and what stands for an image is no token.
        let sound = |token: &u32| (*token as usize) < self.tokens.count() && !self.tokens.is_end(*token);
        tokens.truncate(tokens.iter().take_while(|token| sound(token)).count());
        tokens.reverse();
        (self.next, self.source) = (tokens, source);
    }

    /// How many tokens are guessed.
    pub fn count(&self) -> usize {
        self.next.len()
    }

    /// The next tokens that were guessed, up to `count`.
    pub fn first(&self, count: usize) -> Vec<u32> {
        self.next.iter().rev().take(count).copied().collect()
    }

    /// The chance that a guess of this kind comes true.
    pub fn chance(&self, source: Source) -> f64 {
        self.odds[source as usize].chance()
    }

    /// A draft was not asked.
    pub fn pass(&mut self) {
        self.odds[Source::Draft as usize].fade();
    }

    /// `token` came: was it guessed?
    pub fn saw(&mut self, token: u32) {
        if let Some(guessed) = self.next.pop() {
            self.odds[self.source as usize].learn(guessed == token);
            if guessed != token {
                self.next.clear();
            }
        }
    }

    /// The history lost its middle.
    pub fn forget(&mut self) {
        self.lookup.forget();
        self.next.clear();
    }
}

/// Tokens that come of `count` guesses in a row, each of which comes true with `chance` if all before it did.
pub fn come_true(chance: f64, count: usize) -> f64 {
    (1..=count)
        .scan(1.0, |all, _| {
            *all *= chance;
            Some(*all)
        })
        .sum()
}

/// How many guesses, up to `most`, make the most tokens a second; zero when none pays. The batch makes `made` tokens
/// without them, and takes `seconds(guesses)`.
pub fn worth(chance: f64, most: usize, made: f64, seconds: impl Fn(usize) -> Option<f64>) -> usize {
    let Some(alone) = seconds(0).filter(|seconds| *seconds > 0.0) else { return 0 };
    let rate = |count: usize| Some((made + come_true(chance, count)) / seconds(count)?);
    let rates = (1..=most).filter_map(|count| Some((count, rate(count)?)));
    match rates.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
        Some((count, best)) if best > GAIN * made / alone => count,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tokens::Piece;

    #[test]
    fn guesses_are_made_where_they_pay() {
        // A batch of any length takes the same time: as many as there are.
        assert_eq!(worth(0.9, 8, 1.0, |_| Some(1.0)), 8);
        // Every token takes as long as the first: none.
        assert_eq!(worth(0.99, 8, 1.0, |count| Some(1.0 + count as f64)), 0);
        // A second token is dear and further ones are cheap: some, if they are likely.
        let seconds = |count: usize| Some(if count == 0 { 1.0 } else { 1.5 + 0.3 * count as f64 });
        assert!((3..16).contains(&worth(0.9, 16, 1.0, seconds)));
        assert_eq!(worth(0.5, 16, 1.0, seconds), 0);
        // Beside other answers there is less to win.
        assert_eq!(worth(0.5, 8, 1.0, |count| Some(1.0 + 0.3 * count as f64)), 1);
        assert_eq!(worth(0.5, 8, 4.0, |count| Some(1.9 + 0.3 * count as f64)), 0);
        assert_eq!((worth(0.9, 8, 1.0, |_| None), worth(0.9, 0, 1.0, |_| Some(1.0))), (0, 0));
    }

    fn guesser() -> Guesser {
        let piece = |byte: u8| Piece { bytes: vec![byte], special: false };
        Guesser::new(&Arc::new(Tokens::new((0..100).map(piece).collect(), vec![50])))
    }

    #[test]
    fn guesses_that_fail_lose_their_credit_and_those_that_come_true_win_it_back() {
        let mut guesser = guesser();
        let mut history: Vec<u32> = (0..40).chain(0..3).collect();
        let before = guesser.look(&history);
        for token in 3..30 {
            guesser.look(&history);
            assert_eq!(guesser.first(1), [token]);
            guesser.saw(token);
            history.push(token);
        }
        assert!(guesser.chance(Source::Short) > before && guesser.chance(Source::Long) > 0.9);
        for _ in 0..40 {
            guesser.look(&history);
            guesser.saw(99);
        }
        assert!(guesser.chance(Source::Long) < 0.3);
        for _ in 0..40 {
            guesser.take(vec![1]);
            guesser.saw(2);
        }
        let failed = guesser.chance(Source::Draft);
        (0..200).for_each(|_| guesser.pass());
        assert!(failed < 0.2 && guesser.chance(Source::Draft) > 0.5);
    }

    #[test]
    fn several_tokens_of_one_guess_are_compared_one_by_one() {
        let mut guesser = guesser();
        guesser.take(vec![5, 6, 7]);
        assert_eq!(guesser.first(2), [5, 6]);
        guesser.saw(5);
        assert_eq!(guesser.first(9), [6, 7]);
        guesser.saw(1);
        assert!(guesser.first(9).is_empty());
        assert!((come_true(0.5, 2) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn nothing_is_guessed_behind_the_end_or_of_what_is_no_token() {
        let mut guesser = guesser();
        guesser.take(vec![5, 50, 7]);
        assert_eq!(guesser.first(9), [5]);
        guesser.take(vec![5, 6, 1 << 31, 7]);
        assert_eq!((guesser.first(9), guesser.count()), (vec![5, 6], 2));
    }
}
