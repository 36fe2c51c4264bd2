//! Images and sounds among the batches: no answer waits longer for a piece of one than for a piece of another's prompt.

use std::time::Instant;

use super::{Decoder, Job, Piece};
use crate::engine::llama::vision;

impl Decoder<'_> {
    /// Has the encoder go on with what the answer in `slot` waits for.
    pub(super) fn encode(&mut self, slot: usize) {
        let Some(job) = &mut self.jobs[slot] else { return };
        if let Err(error) = self.eyes.encode(job.sequence, &mut job.media) {
            self.fail(slot, error);
        }
    }

    /// Takes what the encoder has made.
    pub(super) fn take_embeddings(&mut self) {
        for (sequence, embeddings) in self.eyes.have_encoded() {
            let waits = |job: &Option<Job>| job.as_ref().is_some_and(|job| job.sequence == sequence);
            let Some(slot) = self.jobs.iter().position(waits) else { continue };
            match (embeddings, &mut self.jobs[slot]) {
                (Ok(embeddings), Some(job)) => vision::encoded(&mut job.media, embeddings),
                (Err(error), _) => self.fail(slot, error),
                (Ok(_), None) => {}
            }
        }
    }

    /// The slot whose image or sound is next, that of the answer which came first, and how many tokens of it are ready.
    pub(super) fn sight(&self) -> Option<Piece> {
        let next = |slot: usize| self.jobs[slot].as_ref().and_then(|job| job.media.front());
        let ready = |slot: usize| {
            let medium = next(slot).filter(|medium| medium.span.at == self.cached[slot].tokens.len())?;
            Some(Piece::new(slot, medium.ready())).filter(|piece| piece.tokens > 0)
        };
        (0..self.jobs.len()).filter_map(ready).min_by_key(|piece| self.cached[piece.slot].used)
    }

    /// Evaluates as many tokens of an image or a sound.
    pub(super) fn look(&mut self, slot: usize, tokens: usize) {
        let cached = &mut self.cached[slot];
        let Some(job) = &mut self.jobs[slot] else { return };
        let Some(medium) = job.media.front_mut() else { return };
        let position = cached.position(medium.span.at);
        let begun = Instant::now();
        match medium.evaluate(self.eyes.projector(), &mut self.context, slot, position, tokens) {
            Ok(count) => {
                self.context.synchronize();
                self.pace.learn(count, begun.elapsed());
            }
            Err(error) => return self.fail(slot, error),
        }
        if medium.is_over() {
            cached.tokens.extend(std::iter::repeat_n(medium.number, medium.span.tokens));
            cached.spans.push(medium.span);
            job.media.pop_front();
        }
        self.encode(slot);
    }
}
