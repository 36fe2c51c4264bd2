//! Which answers of a batch get guesses behind their token, and how many: by lookup where that pays, else by a draft
//! model.

use std::time::Duration;

use super::decode::Job;
use super::draft::{Draft, Wish};
use super::guess::{self, Source};
use super::pace::Pace;
use super::piece::Piece;
use super::turns::Turns;
use crate::types::Guessing;

/// With more answers than these at once a batch is well used as it is.
const TOGETHER: usize = 4;

pub struct Ahead<'m> {
    guessing: Guessing,
    draft: Option<Draft<'m>>,
    turns: Turns,
}

impl<'m> Ahead<'m> {
    pub fn new(guessing: Guessing, draft: Option<Draft<'m>>) -> Self {
        Self { guessing, draft, turns: Turns::new() }
    }

    pub fn is_on(&self) -> bool {
        self.guessing != Guessing::Off
    }

    fn always(&self) -> bool {
        self.guessing == Guessing::Always
    }

    /// A batch of nothing but answers took so long, guesses counted.
    pub fn learn(&mut self, tokens: usize, took: Duration) {
        self.turns.learn(tokens, took.as_secs_f64());
    }

    /// Adds guesses to `pieces`, each of which is one token of an answer.
    pub fn guess(&mut self, pieces: &mut [Piece], jobs: &mut [Option<Job>], pace: &Pace) {
        if !self.is_on() || (pieces.len() > TOGETHER && !self.always()) {
            return;
        }
        let made = pieces.len() as f64;
        let share = (pace.room(pieces.len()) / pieces.len()).min(guess::MOST);
        let mut count = pieces.len();
        for piece in pieces.iter_mut() {
            let Some(Job { answer, guesser: Some(guesser), .. }) = &mut jobs[piece.slot] else { continue };
            let chance = guesser.look(answer.history());
            let most = share.min(answer.room()).min(guesser.count());
            let seconds = |more: usize| self.turns.expect(count + more, pace);
            let paying = if self.always() { most } else { guess::worth(chance, most, made, seconds) };
            piece.guess = guesser.first(paying);
            count += piece.guess.len();
        }
        if self.draft.is_some() {
            self.ask(pieces, jobs, pace, share);
        }
    }

    /// Asks the draft model for the pieces that have no guess.
    fn ask(&mut self, pieces: &mut [Piece], jobs: &mut [Option<Job>], pace: &Pace, share: usize) {
        let always = self.always();
        let Some(draft) = &mut self.draft else { return };
        let made = pieces.len() as f64;
        let count: usize = pieces.iter().map(|piece| 1 + piece.guess.len()).sum();
        let mut wanted = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.guess.is_empty()) {
            let Some(Job { answer, guesser: Some(guesser), .. }) = &mut jobs[piece.slot] else { continue };
            let most = share.min(answer.room()).min(draft.most);
            let seconds = |more: usize| Some(self.turns.expect(count + more, pace)? + more as f64 * draft.seconds);
            match if always { most } else { guess::worth(guesser.chance(Source::Draft), most, made, seconds) } {
                0 => guesser.pass(),
                most => wanted.push((piece.slot, most)),
            }
        }
        if wanted.is_empty() {
            return;
        }
        let history = |slot: usize| jobs[slot].as_ref().map_or(&[][..], |job| job.answer.history());
        let wish = |&(slot, most): &(usize, usize)| Wish { slot, history: history(slot), most };
        let guesses = match draft.guess(&wanted.iter().map(wish).collect::<Vec<_>>()) {
            Ok(guesses) => guesses,
            Err(error) => {
                tracing::warn!(%error, "the draft model is given up");
                self.draft = None;
                return;
            }
        };
        for ((slot, most), guess) in wanted.into_iter().zip(guesses) {
            let Some(Job { guesser: Some(guesser), .. }) = &mut jobs[slot] else { continue };
            guesser.take(guess);
            if let Some(piece) = pieces.iter_mut().find(|piece| piece.slot == slot) {
                piece.guess = guesser.first(most);
            }
        }
    }
}
