//! Continuous batching: one loop, each turn of which takes every answer a token further in one batch, and evaluates pieces of the
//! prompts that wait in another.

mod enter;
mod evaluate;
mod look;
mod queue;
mod seat;

use std::collections::VecDeque;
use std::iter;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;

use super::ahead::{Ahead, Seat};
use super::cache::{self, Cached, Traits};
use super::draft::Draft;
use super::guess::Guesser;
use super::pace::Pace;
use super::piece::{self, Piece, Plan};
use super::reader::{Reader, Reading};
use super::saver::Saver;
use super::vision::{Eyes, Medium};
use crate::engine::answer::{Answer, Next};
use crate::engine::backend::Events;
use crate::engine::constraint::Constrained;
use crate::engine::event::EngineError;
use crate::engine::preparing::Preparing;
use crate::engine::protocol::{Command, SequenceId};
use queue::Queue;

/// A request under way, or waiting for a slot.
pub struct Job {
    sequence: SequenceId,
    pub answer: Answer,
    /// Images and sounds that are still to be evaluated, or not yet to the end.
    media: VecDeque<Medium>,
    /// Its first token is there: somebody is reading.
    answering: bool,
    /// When tokens may be guessed ahead.
    pub guesser: Option<Guesser>,
}

pub struct Decoder<'m> {
    context: LlamaContext<'m>,
    reader: Reader,
    eyes: Eyes,
    traits: Traits,
    /// Tokens of one sequence at the most.
    length: usize,
    /// What llama.cpp remembers, by slot.
    cached: Vec<Cached>,
    /// What it is to remember for longer.
    saver: Option<Saver>,
    /// What is being written, by slot.
    jobs: Vec<Option<Job>>,
    waiting: Queue<Job>,
    /// Those whose constraint is still to be compiled.
    preparing: Preparing<Job, Constrained>,
    batch: LlamaBatch<'static>,
    pace: Pace,
    ahead: Ahead<Draft<'m>>,
    clock: u64,
    events: Events,
}

impl<'m> Decoder<'m> {
    pub fn new(
        context: LlamaContext<'m>,
        reader: Reader,
        traits: Traits,
        limits: super::load::Limits,
        ahead: Ahead<Draft<'m>>,
        events: Events,
    ) -> Self {
        let slots = limits.parallel as usize;
        let largest = context.n_batch() as usize;
        Self {
            context,
            eyes: Eyes::new(reader.projector.clone()),
            reader,
            traits,
            length: limits.context,
            cached: iter::repeat_with(Cached::default).take(slots).collect(),
            saver: None,
            jobs: iter::repeat_with(|| None).take(slots).collect(),
            waiting: Queue::default(),
            preparing: Preparing::default(),
            batch: LlamaBatch::new(largest, 1),
            pace: Pace::new(largest),
            ahead,
            clock: 0,
            events,
        }
    }

    /// The same, and what it knows outlives it.
    pub fn saving(self, saver: Option<Saver>) -> Self {
        Self { saver, ..self }
    }

    /// Serves `commands` until their channel closes or it is told to leave.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let mut busy = true;
        loop {
            if !busy {
                self.rest();
            }
            if self.drain(commands).is_break() || (!busy && self.gather(commands).is_break()) {
                return;
            }
            self.welcome();
            self.seat();
            busy = self.step();
        }
    }

    /// Waits for a command, or for what is made beside this thread: both wake it.
    fn rest(&mut self) {
        if self.waiting.is_empty() && self.jobs.iter().all(Option::is_none) {
            self.saver.iter_mut().for_each(Saver::let_go);
        }
        thread::park();
    }

    /// Lets those catch up who come at once with the first, so that one pass over the weights is for all.
    fn gather(&mut self, commands: &Receiver<Command>) -> ControlFlow<()> {
        let mut here = 0;
        let mut until = Instant::now();
        while self.waiting.len() < self.jobs.len() {
            if here < self.waiting.len() {
                here = self.waiting.len();
                until = Instant::now() + self.pace.moment();
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
            self.drain(commands)?;
        }
        ControlFlow::Continue(())
    }

    fn drain(&mut self, commands: &Receiver<Command>) -> ControlFlow<()> {
        loop {
            match commands.try_recv() {
                Ok(command) => self.take(command)?,
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
    }

    fn take(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Generate { sequence, request } => match self.reader.read(sequence, request) {
                Ok(Reading::Done(asked)) => self.enter(sequence, asked),
                Ok(Reading::Text) => self.waiting.keep(sequence),
                Ok(Reading::Files) => {}
                Err(error) => self.events.failed(sequence, error),
            },
            Command::Tokenize { sequence, text, add_special } => {
                match self.reader.tokenize(sequence, text, add_special) {
                    Ok(Some(tokens)) => self.events.tokens(sequence, tokens),
                    Ok(None) => {}
                    Err(error) => self.events.failed(sequence, error),
                }
            }
            Command::Cancel { sequence } => {
                self.reader.cancel(sequence);
                self.eyes.cancel(sequence);
                self.preparing.cancel(sequence);
                self.waiting.leave(sequence);
                for job in &mut self.jobs {
                    job.take_if(|job| job.sequence == sequence);
                }
            }
            Command::Embed { sequence, .. } => {
                let error = "this model does not support embeddings";
                self.events.failed(sequence, EngineError::Invalid(error.into()));
            }
            Command::Leave => {
                self.leave();
                return ControlFlow::Break(());
            }
            other => super::common(&self.reader.vocab, other, &self.events),
        }
        ControlFlow::Continue(())
    }

    /// One turn: a token of each answer, then pieces of prompts. False when there was nothing to do.
    ///
    /// These are two batches. llama.cpp passes over the weights with as many rows of each sequence, so in one batch the answers'
    /// pass would have a row of each prompt as well, and on a processor two to seven rows take several times as long as one.
    /// So separated the answers' tokens also leave before the prompts are evaluated.
    fn step(&mut self) -> bool {
        let Plan { answers, prompts, sight } = self.plan();
        let busy = sight.is_some() || !(answers.is_empty() && prompts.is_empty());
        self.go_on(answers);
        if let Some(Piece { slot, tokens, .. }) = sight {
            self.look(slot, tokens);
        }
        let prompts = self.pad(prompts);
        if let Some(took) = self.evaluate(&prompts) {
            self.pace.learn(prompts.iter().map(|piece| piece.tokens).sum(), took);
        }
        busy
    }

    /// Takes answers a token further, or several that were guessed.
    fn go_on(&mut self, mut answers: Vec<Piece>) {
        if self.ahead.is_on() {
            self.guess(&mut answers);
        }
        let answers = self.pad(answers);
        if let Some(took) = self.evaluate(&answers) {
            self.ahead.learn(&answers.iter().map(Piece::rows).collect::<Vec<_>>(), took, &self.pace);
        }
    }

    /// What the next turn evaluates.
    fn plan(&self) -> Plan {
        let (mut answers, mut prompts) = (Vec::new(), Vec::new());
        for (slot, job) in self.jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            let end = job.media.front().map_or(job.answer.history().len(), |medium| medium.span.at);
            let tokens = end - self.cached[slot].tokens.len();
            let answers_on = job.answering && tokens == 1;
            if answers_on { &mut answers } else { &mut prompts }.push(Piece::new(slot, tokens));
        }
        let room = self.pace.room(answers.len());
        let sight = self.sight();
        prompts.extend(sight.clone());
        let mut prompts = piece::share(prompts, room);
        let sight = sight.and_then(|sight| prompts.extract_if(.., |piece| piece.slot == sight.slot).next());
        // llama.cpp evaluates neighbouring sequences together, in the order of the batch.
        prompts.sort_unstable_by_key(|piece| piece.slot);
        Plan { answers, prompts, sight }
    }

    /// Puts guesses behind the answers' tokens, of which `pieces` are, in the order of their slots.
    fn guess(&mut self, pieces: &mut [Piece]) {
        let jobs = self.jobs.iter_mut().enumerate();
        let answering = jobs.filter(|(slot, _)| pieces.iter().any(|piece| piece.slot == *slot));
        let seats = answering.filter_map(|(slot, job)| {
            let Job { answer, guesser, .. } = job.as_mut()?;
            Some(Seat { slot, history: answer.history(), room: answer.room(), guesser: guesser.as_mut() })
        });
        let guesses = self.ahead.guess(&mut seats.collect::<Vec<_>>(), &self.pace);
        for (piece, guess) in pieces.iter_mut().zip(guesses) {
            piece.guess = guess;
        }
    }

    /// Takes the answer in `slot` a token further, and by as many more as were guessed right.
    fn advance(&mut self, slot: usize, index: i32, guess: &[u32]) {
        let Some(job) = &mut self.jobs[slot] else { return };
        job.answering = true;
        job.answer.guessed(guess.len());
        let mut right = 0;
        let next = loop {
            let next = job.answer.push(self.context.get_logits_ith(index + right as i32));
            let Next::Token(token) = next else { break next };
            if let Some(guesser) = &mut job.guesser {
                guesser.saw(token);
            }
            if guess.get(right) != Some(&token) {
                break next;
            }
            job.answer.guessed_right();
            right += 1;
        };
        let known = self.cached[slot].tokens.len() + right;
        self.cached[slot].tokens.extend_from_slice(guess);
        if right < guess.len() {
            cache::keep(&mut self.context, slot, &mut self.cached[slot], known, self.traits);
        }
        match next {
            Next::Token(_) => {}
            Next::Full(_) => {
                let range = job.answer.shift();
                if let Some(guesser) = &mut job.guesser {
                    guesser.forget();
                }
                self.traits.shift(&mut self.context, slot, &mut self.cached[slot], range.start, range.end);
            }
            Next::Over => self.jobs[slot] = None,
        }
    }
}
