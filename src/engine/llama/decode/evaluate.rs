//! A batch: what goes into it, and what becomes of what comes out.

use std::iter;
use std::time::{Duration, Instant};

use super::Decoder;
use crate::engine::event::EngineError;
use crate::engine::llama::cache;
use crate::engine::llama::padding::{self, Room};
use crate::engine::llama::piece::Piece;
use crate::engine::llama::turns::Rows;
use crate::engine::llama::vocab::native;

/// What stands in rows without meaning: any token of the vocabulary.
const MEANINGLESS: u32 = 0;

impl Decoder<'_> {
    /// Adds rows without meaning where that saves passes over the weights.
    pub(super) fn pad(&self, pieces: Vec<Piece>) -> Vec<Piece> {
        if !self.traits.rolls_back() {
            return pieces;
        }
        let rows: Vec<Rows> = pieces.iter().map(Piece::rows).collect();
        let room = |slot: usize| {
            let known = self.cached[slot].tokens.len();
            let next = self.jobs[slot].as_ref().and_then(|job| job.media.front());
            // Part of an image may be there already, where the padding would be.
            let sees = next.is_some_and(|medium| medium.span.at == known);
            Room { most: if sees { 0 } else { self.length.saturating_sub(known) }, behind: known }
        };
        Piece::filled(pieces, padding::pad(&rows, room, self.context.n_batch() as usize))
    }

    /// One batch. `None` when there was nothing in it, or it failed.
    pub(super) fn evaluate(&mut self, pieces: &[Piece]) -> Option<Duration> {
        if pieces.is_empty() {
            return None;
        }
        let outputs = self.fill(pieces);
        let begun = Instant::now();
        if let Err(error) = self.decode() {
            for &Piece { slot, tokens, .. } in pieces {
                match tokens {
                    // Who has only rows without meaning in it begins anew.
                    0 => cache::clear(&mut self.context, slot, &mut self.cached[slot]),
                    _ => self.fail(slot, error.clone()),
                }
            }
            return None;
        }
        self.context.synchronize();
        let took = begun.elapsed();
        for &Piece { slot, tokens, .. } in pieces {
            if let Some(job) = &self.jobs[slot] {
                let known = &mut self.cached[slot].tokens;
                known.extend_from_slice(&job.answer.history()[known.len()..known.len() + tokens]);
            }
        }
        for Piece { slot, guess, .. } in pieces.iter().filter(|piece| piece.padding > 0) {
            let cached = &mut self.cached[*slot];
            let length = cached.tokens.len() + guess.len();
            cache::take_back(&mut self.context, *slot, cached, length);
        }
        for (piece, index) in outputs {
            self.advance(pieces[piece].slot, index, &pieces[piece].guess);
        }
        Some(took)
    }

    /// What llama.cpp knows of the slot may be half of it now.
    pub(super) fn fail(&mut self, slot: usize, error: EngineError) {
        cache::clear(&mut self.context, slot, &mut self.cached[slot]);
        if let Some(job) = self.jobs[slot].take() {
            self.eyes.cancel(job.sequence);
            self.events.failed(job.sequence, error);
        }
    }

    /// Fills the batch, and gives the pieces that end with their sequence's last token, with its place there. Guesses have
    /// the places after it.
    fn fill(&mut self, pieces: &[Piece]) -> Vec<(usize, i32)> {
        self.batch.clear();
        let mut outputs = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let history = self.jobs[piece.slot].as_ref().map_or(&[][..], |job| job.answer.history());
            let cached = &self.cached[piece.slot];
            let (known, position) = (cached.tokens.len(), cached.position(cached.tokens.len()));
            let certain = history.iter().skip(known).take(piece.tokens);
            let meant = certain.chain(&piece.guess).map(|token| Some(*token));
            for (at, token) in (known..).zip(meant.chain(iter::repeat_n(None, piece.padding))) {
                let wanted = token.is_some() && at + 1 >= history.len();
                if piece.tokens > 0 && at + 1 == history.len() {
                    outputs.push((index, self.batch.n_tokens()));
                }
                let position =
                    i32::try_from(position + at - known).expect("a context beyond llama.cpp's positions: a bug");
                self.batch
                    .add(native(token.unwrap_or(MEANINGLESS)), position, &[cache::sequence(piece.slot)], wanted)
                    .expect("the batch is larger than planned: a bug");
            }
        }
        outputs
    }

    fn decode(&mut self) -> Result<(), EngineError> {
        self.context.decode(&mut self.batch).map_err(|error| EngineError::Failed(error.to_string()))
    }
}
