//! Continuous batching: one loop, each turn of which takes every answer a token further and evaluates pieces of the
//! prompts that wait, all in one batch.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;

use super::cache::{self, Cached, Traits};
use super::prompt;
use super::vocab::{Vocab, native};
use crate::engine::answer::{self, Answer, Next};
use crate::engine::backend::Events;
use crate::engine::constraint::Constrained;
use crate::engine::event::EngineError;
use crate::engine::preparing::Preparing;
use crate::engine::protocol::{Command, SequenceId};
use crate::engine::request::{Constraint, GenerateRequest};

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

/// How long to wait for a constraint when there is nothing else to do, before looking for a cancel.
const LISTEN: Duration = Duration::from_millis(5);

/// A request under way, or waiting for a slot.
struct Job {
    sequence: SequenceId,
    answer: Answer,
    /// Its first token is there: somebody is reading.
    answering: bool,
}

pub struct Decoder<'m> {
    context: LlamaContext<'m>,
    vocab: &'m Vocab<'m>,
    traits: Traits,
    /// Tokens of one sequence at the most.
    length: usize,
    /// What llama.cpp remembers, by slot.
    cached: Vec<Cached>,
    /// What is being written, by slot.
    jobs: Vec<Option<Job>>,
    /// In the order they came.
    waiting: VecDeque<Job>,
    /// Those whose constraint is still to be compiled.
    preparing: Preparing<Job, Constrained>,
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
            jobs: std::iter::repeat_with(|| None).take(slots).collect(),
            waiting: VecDeque::new(),
            preparing: Preparing::default(),
            batch: LlamaBatch::new(largest, 1),
            pace: Pace::new(largest),
            clock: 0,
            events,
        }
    }

    /// Serves `commands` until their channel closes.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let idle = self.waiting.is_empty() && self.jobs.iter().all(Option::is_none);
            self.welcome(if idle { LISTEN } else { Duration::ZERO });
            if idle && self.waiting.is_empty() && self.preparing.is_idle() {
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
            Command::Generate { sequence, mut request } => {
                let constraint = request.constraint.take();
                let admitted = self.job(sequence, &request).and_then(|job| self.admit(job, constraint));
                if let Err(error) = admitted {
                    self.events.failed(sequence, error);
                }
            }
            Command::Cancel { sequence } => {
                self.preparing.cancel(sequence);
                self.waiting.retain(|job| job.sequence != sequence);
                for job in &mut self.jobs {
                    job.take_if(|job| job.sequence == sequence);
                }
            }
            Command::Embed { sequence, .. } => {
                let error = "this model does not support embeddings";
                self.events.failed(sequence, EngineError::Invalid(error.into()));
            }
            other => super::common(self.vocab, other, &self.events),
        }
    }

    /// A constraint is compiled beside this thread, which all answers wait for.
    fn admit(&mut self, job: Job, constraint: Option<Constraint>) -> Result<(), EngineError> {
        let Some(constraint) = constraint else {
            self.waiting.push_back(job);
            return Ok(());
        };
        let tokens = self.vocab.tokens.clone();
        self.preparing.start(job.sequence, job, move || tokens.constrain(&constraint))
    }

    /// Takes in those whose constraint is compiled. If there are others, waits for one as long as `patience`.
    fn welcome(&mut self, patience: Duration) {
        for (mut job, constrained) in self.preparing.done(patience) {
            match constrained {
                Ok(constrained) => {
                    job.answer.hold(constrained);
                    self.waiting.push_back(job);
                }
                Err(error) => self.events.failed(job.sequence, error),
            }
        }
    }

    fn job(&self, sequence: SequenceId, request: &GenerateRequest) -> Result<Job, EngineError> {
        let (tokens, prefix) = prompt::tokens(self.vocab, &request.prompt)?;
        let context = request.context_in(self.length);
        let prompt = answer::fit(tokens, request, prefix, context)?;
        let tokens = &self.vocab.tokens;
        let answer = Answer::new(sequence, request, prompt, prefix, context, tokens, &self.events)?;
        Ok(Job { sequence, answer, answering: false })
    }

    /// Gives free slots to those who wait.
    fn seat(&mut self) {
        while let Some(job) = self.waiting.front() {
            let free: Vec<usize> = (0..self.jobs.len()).filter(|slot| self.jobs[*slot].is_none()).collect();
            let prompt = job.answer.history();
            let Some(place) = cache::place(&self.cached, &free, prompt, self.traits.copies()) else { return };
            let slot = place.slot;
            if let Some(from) = place.from {
                let common = self.cached[from].common(prompt);
                self.traits.copy(&mut self.context, &mut self.cached, from, slot, common);
            }
            let common = self.cached[slot].common(prompt);
            cache::keep(&mut self.context, slot, &mut self.cached[slot], common, self.traits);
            self.clock += 1;
            self.cached[slot].used = self.clock;
            self.jobs[slot] = self.waiting.pop_front();
            if let Some(job) = &mut self.jobs[slot] {
                job.answer.begin(self.cached[slot].tokens.len());
            }
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
                if let Some(job) = self.jobs[slot].take() {
                    self.events.failed(job.sequence, error.clone());
                }
            }
            return;
        }
        for &Piece { slot, tokens } in &pieces {
            if let Some(job) = &self.jobs[slot] {
                let known = &mut self.cached[slot].tokens;
                known.extend_from_slice(&job.answer.history()[known.len()..known.len() + tokens]);
            }
        }
        for (slot, index) in outputs {
            self.advance(slot, index);
        }
        self.pace.learn(pieces.iter().map(|piece| piece.tokens).sum(), begun.elapsed());
    }

    /// What the next batch holds: a token of each answer, then pieces of prompts.
    fn plan(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut prompts = Vec::new();
        for (slot, job) in self.jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            let tokens = job.answer.history().len() - self.cached[slot].tokens.len();
            let answers = job.answering && tokens == 1;
            if answers { &mut pieces } else { &mut prompts }.push(Piece { slot, tokens });
        }
        let room = self.pace.room(pieces.len());
        pieces.extend(share(prompts, room));
        pieces
    }

    /// Fills the batch, and gives the slots whose last token is in it with its place there.
    fn fill(&mut self, pieces: &[Piece]) -> Vec<(usize, i32)> {
        self.batch.clear();
        let mut outputs = Vec::new();
        for &Piece { slot, tokens } in pieces {
            let Some(job) = &self.jobs[slot] else { continue };
            let history = job.answer.history();
            let known = self.cached[slot].tokens.len();
            for at in known..known + tokens {
                let last = at + 1 == history.len();
                if last {
                    outputs.push((slot, self.batch.n_tokens()));
                }
                let position = i32::try_from(at).expect("a context beyond llama.cpp's positions: a bug");
                self.batch
                    .add(native(history[at]), position, &[cache::sequence(slot)], last)
                    .expect("the batch is larger than planned: a bug");
            }
        }
        outputs
    }

    fn decode(&mut self) -> Result<(), EngineError> {
        match self.context.decode(&mut self.batch) {
            Err(DecodeError::NoKvCacheSlot) => {
                // Only what nobody needs can be in the way.
                for slot in 0..self.jobs.len() {
                    if self.jobs[slot].is_none() {
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
        let Some(job) = &mut self.jobs[slot] else { return };
        job.answering = true;
        match job.answer.push(self.context.get_logits_ith(index)) {
            Next::Token(_) => {}
            Next::Full(_) => {
                let range = job.answer.shift();
                self.traits.shift(&mut self.context, slot, &mut self.cached[slot], range.start, range.end);
            }
            Next::Over => self.jobs[slot] = None,
        }
    }
}

/// Shares `room` out evenly; what a short prompt leaves goes to the longer ones.
fn share(mut prompts: Vec<Piece>, mut room: usize) -> Vec<Piece> {
    prompts.sort_unstable_by_key(|piece| piece.tokens);
    let count = prompts.len();
    for (index, piece) in prompts.iter_mut().enumerate() {
        piece.tokens = piece.tokens.min(room.div_ceil(count - index));
        room -= piece.tokens;
    }
    prompts.retain(|piece| piece.tokens > 0);
    prompts
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

    /// Room beside the tokens of `answering` sequences.
    fn room(&self, answering: usize) -> usize {
        let room = self.largest - answering.min(self.largest);
        let Patience { time, least } = if answering == 0 { UNREAD } else { READ };
        if self.token == 0.0 {
            return room;
        }
        room.min(((time.as_secs_f64() / self.token) as usize).max(least))
    }

    fn learn(&mut self, tokens: usize, took: Duration) {
        if tokens >= READ.least {
            let token = took.as_secs_f64() / tokens as f64;
            self.token = if self.token == 0.0 { token } else { 0.5 * (self.token + token) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared() {
        let prompts = [300, 5, 100].into_iter().enumerate().map(|(slot, tokens)| Piece { slot, tokens }).collect();
        let shared: Vec<_> = share(prompts, 128).iter().map(|piece| (piece.slot, piece.tokens)).collect();
        assert_eq!(shared, [(1, 5), (2, 62), (0, 61)]);
        assert_eq!(share(vec![Piece { slot: 0, tokens: 9 }], 0), []);
    }

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
}
