//! Slots for those who wait: where a prompt goes, and where what is known of it comes from.

use super::Decoder;
use crate::engine::llama::cache::{self, Place};
use crate::engine::saved::{Look, Turn};

impl Decoder<'_> {
    /// Gives free slots to those who wait, in their order. For each whose prompt or whose saved state is still being read a slot
    /// is left free, and those behind it may have the others.
    pub(super) fn seat(&mut self) {
        let mut passed = 0;
        let mut turn = Turn::First;
        while let Some(job) = self.waiting.next(&mut passed, self.free().count()) {
            let Some(slot) = self.place(job.answer.history(), turn) else {
                self.waiting.enter(job.sequence, job);
                passed += 1;
                turn = Turn::Behind;
                continue;
            };
            self.waiting.leave(job.sequence);
            self.clock += 1;
            self.cached[slot].used = self.clock;
            let job = self.jobs[slot].insert(job);
            let known = self.cached[slot].tokens.len();
            job.media.retain(|medium| medium.span.at >= known);
            job.answer.begin(known);
            self.encode(slot);
        }
    }

    fn free(&self) -> impl Iterator<Item = usize> {
        (0..self.jobs.len()).filter(|slot| self.jobs[*slot].is_none())
    }

    /// A free slot that knows of `prompt` what is to be had. `None` while none is free, or what is known is still being read.
    fn place(&mut self, prompt: &[u32], turn: Turn) -> Option<usize> {
        let free: Vec<usize> = self.free().collect();
        let Place { slot, from } = cache::place(&self.cached, &free, prompt, self.traits.copies())?;
        let best = &self.cached[from.unwrap_or(slot)];
        match self.saver.as_mut().map_or(Look::Nothing, |saver| saver.look(prompt, best, turn)) {
            Look::Coming => None,
            Look::Here(name, state) => {
                let slot = cache::oldest(&self.cached, &free)?;
                self.save(slot, prompt);
                let (saver, cached) = (self.saver.as_mut()?, &mut self.cached[slot]);
                match saver.restore(&mut self.context, slot, cached, (&name, state), prompt) {
                    true => Some(slot),
                    // It is known no more, so that the next look finds another, or none.
                    false => self.place(prompt, turn),
                }
            }
            Look::Nothing => {
                self.save(slot, prompt);
                if let Some(from) = from {
                    let common = self.cached[from].common(prompt);
                    self.traits.copy(&mut self.context, &mut self.cached, from, slot, common);
                }
                let common = self.cached[slot].common(prompt);
                cache::keep(&mut self.context, slot, &mut self.cached[slot], common, self.traits);
                Some(slot)
            }
        }
    }

    /// Saves what `slot` knows before `prompt` takes its place.
    fn save(&mut self, slot: usize, prompt: &[u32]) {
        if let Some(saver) = &mut self.saver {
            let hurried = self.jobs.iter().flatten().any(|job| job.answering);
            let kept = self.cached[slot].common(prompt);
            saver.save(&self.context, &self.cached, slot, kept, hurried);
        }
    }

    /// Saves all that is worth it. Nobody waits for an answer any more.
    pub(super) fn leave(&mut self) {
        if let Some(saver) = &mut self.saver {
            saver.save_all(&self.context, &self.cached);
        }
    }
}
