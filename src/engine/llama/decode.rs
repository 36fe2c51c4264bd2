//! Continuous batching: one loop, each turn of which takes every answer a token further and evaluates pieces of the
//! prompts that wait, all in one batch.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;

use super::answer::Answer;
use super::cache::{self, Cached, Traits};
use super::prompt::Prompt;
use super::vocab::{Vocab, native};
use crate::engine::backend::Events;
use crate::engine::event::EngineError;
use crate::engine::protocol::{Command, SequenceId};
use crate::engine::request::GenerateRequest;

/// How long a batch may take while answers are being read.
const PATIENCE: Duration = Duration::from_millis(200);
/// Tokens of prompts in a batch at the least, however slow the model is.
const LEAST: usize = 16;

pub struct Decoder<'m> {
    pub context: LlamaContext<'m>,
    vocab: &'m Vocab<'m>,
    traits: Traits,
    /// Tokens of one sequence at the most.
    length: usize,
    /// What llama.cpp remembers, by slot.
    cached: Vec<Cached>,
    /// What is being written, by slot.
    answers: Vec<Option<Answer>>,
    /// In the order they came.
    waiting: VecDeque<Answer>,
    batch: LlamaBatch<'static>,
    pace: Pace,
    clock: u64,
    events: Events,
}

/// A piece of a slot's tokens in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    slot: usize,
    tokens: usize,
}

impl<'m> Decoder<'m> {
    pub fn new(
        context: LlamaContext<'m>,
        vocab: &'m Vocab<'m>,
        traits: Traits,
        limits: super::load::Limits,
        events: Events,
    ) -> Self {
        let slots = limits.parallel as usize;
        let largest = context.n_batch() as usize;
        Self {
            context,
            vocab,
            traits,
            length: limits.context,
            cached: std::iter::repeat_with(Cached::default).take(slots).collect(),
            answers: std::iter::repeat_with(|| None).take(slots).collect(),
            waiting: VecDeque::new(),
            batch: LlamaBatch::new(largest, 1),
            pace: Pace::new(largest),
            clock: 0,
            events,
        }
    }

    /// Serves `commands` until their channel closes.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let idle = self.waiting.is_empty() && self.answers.iter().all(Option::is_none);
            if idle {
                let Ok(command) = commands.recv() else { return };
                self.take(command);
            }
            if self.drain(commands).is_break() {
                return;
            }
            self.seat();
            self.step();
        }
    }

    fn drain(&mut self, commands: &Receiver<Command>) -> ControlFlow<()> {
        loop {
            match commands.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Generate { sequence, request } => match self.answer(sequence, &request) {
                Ok(answer) => self.waiting.push_back(answer),
                Err(error) => self.events.failed(sequence, error),
            },
            Command::Cancel { sequence } => {
                self.waiting.retain(|answer| answer.sequence != sequence);
                for answer in &mut self.answers {
                    answer.take_if(|answer| answer.sequence == sequence);
                }
            }
            Command::Embed { sequence, .. } => {
                let error = "this server does not support embeddings: the model was loaded for text";
                self.events.failed(sequence, EngineError::Invalid(error.into()));
            }
            other => super::common(self.vocab, other, &self.events),
        }
    }

    fn answer(&self, sequence: SequenceId, request: &GenerateRequest) -> Result<Answer, EngineError> {
        let prompt = Prompt::new(self.vocab, request, self.length)?;
        Answer::new(sequence, request, prompt, self.vocab, self.length)
    }

    /// Gives free slots to those who wait.
    fn seat(&mut self) {
        while let Some(answer) = self.waiting.front() {
            let free: Vec<usize> = (0..self.answers.len()).filter(|slot| self.answers[*slot].is_none()).collect();
            let Some(place) = cache::place(&self.cached, &free, &answer.tokens, self.traits.copies()) else { return };
            let Some(mut answer) = self.waiting.pop_front() else { return };
            let slot = place.slot;
            if let Some(from) = place.from {
                let common = self.cached[from].common(&answer.tokens);
                self.traits.copy(&mut self.context, &mut self.cached, from, slot, common);
            }
            let common = self.cached[slot].common(&answer.tokens);
            cache::keep(&mut self.context, slot, &mut self.cached[slot], common, self.traits);
            answer.begin(self.cached[slot].tokens.len());
            self.clock += 1;
            self.cached[slot].used = self.clock;
            self.answers[slot] = Some(answer);
        }
    }

    /// One batch.
    fn step(&mut self) {
        let pieces = self.plan();
        if pieces.is_empty() {
            return;
        }
        let outputs = self.fill(&pieces);
        let begun = Instant::now();
        if let Err(error) = self.decode() {
            for Piece { slot, .. } in pieces {
                cache::clear(&mut self.context, slot, &mut self.cached[slot]);
                if let Some(answer) = self.answers[slot].take() {
                    self.events.failed(answer.sequence, error.clone());
                }
            }
            return;
        }
        for &Piece { slot, tokens } in &pieces {
            if let Some(answer) = &self.answers[slot] {
                let known = &mut self.cached[slot].tokens;
                known.extend_from_slice(&answer.tokens[known.len()..known.len() + tokens]);
            }
        }
        for (slot, index) in outputs {
            self.advance(slot, index);
        }
        self.pace.learn(pieces.iter().map(|piece| piece.tokens).sum(), begun.elapsed());
    }

    /// What the next batch holds: a token of each answer, then prompts, the longest seated first.
    fn plan(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut prompts = Vec::new();
        for (slot, answer) in self.answers.iter().enumerate() {
            let Some(answer) = answer else { continue };
            let pending = answer.tokens.len() - self.cached[slot].tokens.len();
            if answer.is_answering() && pending == 1 {
                pieces.push(Piece { slot, tokens: 1 });
            } else {
                prompts.push((self.cached[slot].used, Piece { slot, tokens: pending }));
            }
        }
        prompts.sort_unstable_by_key(|(seated, _)| *seated);
        let mut room = self.pace.room(pieces.len());
        for (_, Piece { slot, tokens }) in prompts {
            let tokens = tokens.min(room);
            room -= tokens;
            if tokens > 0 {
                pieces.push(Piece { slot, tokens });
            }
        }
        pieces
    }

    /// Fills the batch, and gives the slots whose last token is in it with its place there.
    fn fill(&mut self, pieces: &[Piece]) -> Vec<(usize, i32)> {
        self.batch.clear();
        let mut outputs = Vec::new();
        for &Piece { slot, tokens } in pieces {
            let Some(answer) = &self.answers[slot] else { continue };
            let known = self.cached[slot].tokens.len();
            for at in known..known + tokens {
                let last = at + 1 == answer.tokens.len();
                if last {
                    outputs.push((slot, self.batch.n_tokens()));
                }
                let position = i32::try_from(at).expect("a context beyond llama.cpp's positions: a bug");
                self.batch
                    .add(native(answer.tokens[at]), position, &[cache::sequence(slot)], last)
                    .expect("the batch is larger than planned: a bug");
            }
        }
        outputs
    }

    fn decode(&mut self) -> Result<(), EngineError> {
        match self.context.decode(&mut self.batch) {
            Err(DecodeError::NoKvCacheSlot) => {
                // Only what nobody needs can be in the way.
                for slot in 0..self.answers.len() {
                    if self.answers[slot].is_none() {
                        cache::clear(&mut self.context, slot, &mut self.cached[slot]);
                    }
                }
                self.context.decode(&mut self.batch)
            }
            other => other,
        }
        .map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// Takes the answer in `slot` a token further.
    fn advance(&mut self, slot: usize, index: i32) {
        let Some(answer) = &mut self.answers[slot] else { return };
        let logits = self.context.get_logits_ith(index);
        let over = answer.step(logits, self.vocab, self.length, &self.events).unwrap_or_else(|error| {
            self.events.failed(answer.sequence, error);
            true
        });
        if over {
            self.answers[slot] = None;
        } else if answer.tokens.len() >= self.length {
            let from = answer.keep;
            let to = answer.forget();
            self.traits.shift(&mut self.context, slot, &mut self.cached[slot], from, to);
        }
    }
}

/// How many tokens of prompts go into a batch.
struct Pace {
    largest: usize,
    /// Seconds a token of a large batch takes.
    token: f64,
}

impl Pace {
    fn new(largest: usize) -> Self {
        Self { largest, token: 0.0 }
    }

    /// All there is when nobody reads an answer; else what can be done while a reader waits.
    fn room(&self, answering: usize) -> usize {
        let room = self.largest - answering.min(self.largest);
        if answering == 0 || self.token == 0.0 {
            return room;
        }
        room.min(((PATIENCE.as_secs_f64() / self.token) as usize).max(LEAST))
    }

    fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens >= LEAST {
            let token = took.as_secs_f64() / tokens as f64;
            self.token = if self.token == 0.0 { token } else { 0.5 * (self.token + token) };
        }
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
        assert_eq!(pace.room(2), LEAST);
    }
}
