//! Speculative decoding: tokens are guessed, evaluated in one batch with the one that is certain, and kept as far as the
//! model itself chooses them. A guess changes how long an answer takes and never what it says.
//!
//! What a guess is worth is measured, not assumed. Guesses of the lookup cost nothing until they are evaluated, so they
//! are made always and compared with what then comes, whoever's guesses are evaluated. Those of a draft model cost its time:
//! it is asked where that pays, and elsewhere now and then.

use std::sync::Arc;

use super::lookup::Lookup;
use super::policy::Offer;
use crate::engine::tokens::Tokens;

/// Tokens guessed at once, at the most.
pub const MOST: usize = 16;
/// A guess behind so many tokens that agree is another matter than one behind few.
const LONG: usize = 8;

/// Where a guess comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Lookup,
    Draft,
}

/// How often guesses come true, where the latest count most.
#[derive(Clone, Copy, Debug)]
struct Odds {
    true_ones: f64,
    all: f64,
}

impl Odds {
    /// What is held to be so until there is more to go by.
    fn new(first: f64) -> Self {
        Self { true_ones: 2.0 * first, all: 2.0 }
    }

    fn chance(&self) -> f64 {
        self.true_ones / self.all
    }

    fn learn(&mut self, came_true: bool) {
        const KEPT: f64 = 0.95;
        self.true_ones = KEPT * self.true_ones + f64::from(u8::from(came_true));
        self.all = KEPT * self.all + 1.0;
    }
}

/// How often guesses of a draft model come true: those that it was asked for, since it may be too unsure to make one, and
/// those that it made.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    asked: Odds,
    made: Odds,
}

impl Record {
    /// Of a draft that was never asked.
    pub fn new() -> Self {
        Self { asked: Odds::new(0.7), made: Odds::new(0.7) }
    }

    /// Of a sequence to begin with, when another has this one.
    fn renewed(self) -> Self {
        Self { asked: Odds::new(self.asked.chance()), made: Odds::new(self.made.chance()) }
    }
}

/// What one source guesses to come next, evaluated or not.
#[derive(Default)]
struct Line {
    /// In reverse.
    next: Vec<u32>,
    /// Behind them it was asked for another and would not say.
    unsure: bool,
}

impl Line {
    /// `token` came: was it guessed? `None` when nobody asked for a guess.
    fn saw(&mut self, token: u32) -> Option<bool> {
        let right = match self.next.pop() {
            Some(guessed) => guessed == token,
            None if self.unsure => false,
            None => return None,
        };
        if !right {
            *self = Self::default();
        }
        Some(right)
    }
}

/// One sequence's guesses.
pub struct Guesser {
    tokens: Arc<Tokens>,
    lookup: Lookup,
    found: Line,
    drafted: Line,
    /// Of what was found where few tokens agreed, and where many did.
    short: Odds,
    long: Odds,
    is_long: bool,
    /// Of the draft, once it was asked, and whether there is news in it.
    record: Option<Record>,
    is_news: bool,
    /// All that the draft was asked for last came true.
    proven: bool,
}

impl Guesser {
    pub fn new(tokens: &Arc<Tokens>) -> Self {
        Self {
            tokens: tokens.clone(),
            lookup: Lookup::default(),
            found: Line::default(),
            drafted: Line::default(),
            short: Odds::new(0.5),
            long: Odds::new(0.8),
            is_long: false,
            record: None,
            is_news: false,
            proven: false,
        }
    }

    /// Guesses from what stands in `history`.
    pub fn look(&mut self, history: &[u32]) -> Offer {
        let found = self.lookup.find(history, MOST);
        self.is_long = found.as_ref().is_some_and(|found| found.agreed >= LONG);
        let next = found.map_or_else(Vec::new, |found| self.sound(found.tokens));
        self.found = Line { next, unsure: false };
        let odds = if self.is_long { self.long } else { self.short };
        Offer { chance: odds.chance(), most: self.found.next.len() }
    }

    /// The chance that a guess comes true for which the draft is asked. For a sequence that is new to it, what its `record`
    /// elsewhere says.
    pub fn promise(&self, record: Record) -> f64 {
        self.record.unwrap_or(record).asked.chance()
    }

    /// Whether all that the draft was asked for last came true.
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// The draft's record here, if anything came since of what it was asked for.
    pub fn news(&mut self) -> Option<Record> {
        self.record.filter(|_| std::mem::take(&mut self.is_news))
    }

    /// The draft, with this `record` elsewhere, was asked for `wished` guesses and made these.
    pub fn take(&mut self, tokens: Vec<u32>, wished: usize, record: Record) {
        let unsure = tokens.len() < wished;
        self.drafted = Line { next: self.sound(tokens), unsure };
        self.record.get_or_insert_with(|| record.renewed());
        self.proven = false;
    }

    /// The guesses that the draft made.
    pub fn drafted(&self) -> Offer {
        let chance = self.record.map_or(0.0, |record| record.made.chance());
        Offer { chance, most: self.drafted.next.len() }
    }

    /// Guesses in reverse. Nothing comes after the end, and what stands for an image is no token.
    fn sound(&self, mut guesses: Vec<u32>) -> Vec<u32> {
        let sound = |token: &u32| (*token as usize) < self.tokens.count() && !self.tokens.is_end(*token);
        guesses.truncate(guesses.iter().take_while(|token| sound(token)).count());
        guesses.reverse();
        guesses
    }

    /// The next tokens that were guessed, up to `count`.
    pub fn first(&self, source: Source, count: usize) -> Vec<u32> {
        let line = match source {
            Source::Lookup => &self.found,
            Source::Draft => &self.drafted,
        };
        line.next.iter().rev().take(count).copied().collect()
    }

    /// `token` came: was it guessed?
    pub fn saw(&mut self, token: u32) {
        if let Some(right) = self.found.saw(token) {
            let odds = if self.is_long { &mut self.long } else { &mut self.short };
            odds.learn(right);
        }
        let made = !self.drafted.next.is_empty();
        if let (Some(right), Some(record)) = (self.drafted.saw(token), &mut self.record) {
            record.asked.learn(right);
            if made {
                record.made.learn(right);
            }
            self.is_news = true;
            self.proven = right && self.drafted.next.is_empty() && !self.drafted.unsure;
        }
    }

    /// The history lost its middle.
    pub fn forget(&mut self) {
        self.lookup.forget();
        (self.found, self.drafted) = (Line::default(), Line::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tokens::Piece;

    fn guesser() -> Guesser {
        let piece = |byte: u8| Piece { bytes: vec![byte], special: false };
        Guesser::new(&Arc::new(Tokens::new((0..100).map(piece).collect(), vec![50])))
    }

    #[test]
    fn guesses_that_fail_lose_their_credit_and_those_that_come_true_win_it_back() {
        let mut guesser = guesser();
        let mut history: Vec<u32> = (0..40).chain(0..3).collect();
        let before = guesser.look(&history).chance;
        for token in 3..30 {
            guesser.look(&history);
            assert_eq!(guesser.first(Source::Lookup, 1), [token]);
            guesser.saw(token);
            history.push(token);
        }
        assert!(guesser.short.chance() > before && guesser.look(&history).chance > 0.9);
        for _ in 0..40 {
            guesser.look(&history);
            guesser.saw(99);
        }
        assert!(guesser.look(&history).chance < 0.3);
    }

    #[test]
    fn several_tokens_of_one_guess_are_compared_one_by_one() {
        let mut guesser = guesser();
        guesser.take(vec![5, 6, 7], 3, Record::new());
        assert_eq!((guesser.drafted().most, guesser.first(Source::Draft, 2)), (3, vec![5, 6]));
        guesser.saw(5);
        assert_eq!(guesser.first(Source::Draft, 9), [6, 7]);
        guesser.saw(1);
        assert!(guesser.first(Source::Draft, 9).is_empty());
    }

    #[test]
    fn what_is_found_is_compared_while_a_draft_speaks() {
        let mut guesser = guesser();
        let history: Vec<u32> = (0..40).chain(0..9).collect();
        let before = (guesser.look(&history).chance, Record::new().made.chance());
        guesser.take(vec![1], 1, Record::new());
        guesser.saw(9);
        assert!(guesser.look(&history).chance > before.0);
        assert!(guesser.drafted().chance < before.1);
    }

    #[test]
    fn a_draft_that_is_unsure_promises_less_and_is_no_less_right() {
        let mut guesser = guesser();
        let (promise, right) = (guesser.promise(Record::new()), Record::new().made.chance());
        guesser.take(vec![5], 4, Record::new());
        guesser.saw(5);
        assert!(guesser.promise(Record::new()) > promise && !guesser.is_proven());
        guesser.saw(6);
        assert!(guesser.promise(Record::new()) < promise && guesser.drafted().chance > right);
        let unsure = guesser.promise(Record::new());
        guesser.saw(7);
        assert!((guesser.promise(Record::new()) - unsure).abs() < 1e-9, "it was not asked for what comes behind");
        for _ in 0..40 {
            guesser.take(Vec::new(), 4, Record::new());
            guesser.saw(2);
        }
        assert!(guesser.promise(Record::new()) < 0.1 && guesser.drafted().chance > right);
        let record = guesser.news().unwrap();
        assert!(guesser.news().is_none() && Guesser::new(&guesser.tokens).promise(record) < 0.1);
    }

    #[test]
    fn a_draft_is_proven_while_all_that_it_was_asked_for_comes_true() {
        let mut guesser = guesser();
        guesser.take(vec![5, 6], 2, Record::new());
        guesser.saw(5);
        assert!(!guesser.is_proven());
        guesser.saw(6);
        assert!(guesser.is_proven());
        guesser.take(vec![7], 1, Record::new());
        guesser.saw(8);
        assert!(!guesser.is_proven());
    }

    #[test]
    fn nothing_is_guessed_behind_the_end_or_of_what_is_no_token() {
        let mut guesser = guesser();
        guesser.take(vec![5, 50, 7], 3, Record::new());
        assert_eq!(guesser.first(Source::Draft, 9), [5]);
        guesser.take(vec![5, 6, 1 << 31, 7], 4, Record::new());
        assert_eq!(guesser.first(Source::Draft, 9), [5, 6]);
    }
}
