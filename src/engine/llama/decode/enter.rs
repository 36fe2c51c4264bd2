//! Requests come in: their prompts are read, their constraints compiled, and they wait for a slot.

use super::{Decoder, Job};
use crate::engine::answer::{self, Answer};
use crate::engine::event::EngineError;
use crate::engine::llama::guess::Guesser;
use crate::engine::llama::prompt::Prompt;
use crate::engine::llama::reader::{Asked, Read};
use crate::engine::llama::saver::Saver;
use crate::engine::protocol::SequenceId;
use crate::engine::request::{Constraint, GenerateRequest};

impl Decoder<'_> {
    /// Takes in what was made beside this thread.
    pub(super) fn welcome(&mut self) {
        self.saver.iter_mut().for_each(Saver::settle);
        for (sequence, read) in self.reader.have_read() {
            match read {
                Ok(Read::Prompt(asked)) => self.enter(sequence, asked),
                Ok(Read::Tokens(tokens)) => self.events.tokens(sequence, tokens),
                Err(error) => self.refuse(sequence, error),
            }
        }
        for (mut job, constrained) in self.preparing.done() {
            match constrained {
                Ok(constrained) => {
                    job.answer.hold(constrained);
                    self.waiting.enter(job.sequence, job);
                }
                Err(error) => self.events.failed(job.sequence, error),
            }
        }
        self.take_embeddings();
    }

    /// Takes in a request whose prompt is read.
    pub(super) fn enter(&mut self, sequence: SequenceId, (mut request, prompt): Asked) {
        let constraint = request.constraint.take();
        let admitted = self.job(sequence, &mut request, prompt).and_then(|job| self.admit(job, constraint));
        if let Err(error) = admitted {
            self.refuse(sequence, error);
        }
    }

    fn refuse(&mut self, sequence: SequenceId, error: EngineError) {
        self.waiting.leave(sequence);
        self.events.failed(sequence, error);
    }

    /// A constraint is compiled beside this thread, which all answers wait for. So is its vocabulary, which may take seconds: who
    /// came later need not wait for that.
    fn admit(&mut self, job: Job, constraint: Option<Constraint>) -> Result<(), EngineError> {
        let Some(constraint) = constraint else {
            self.waiting.enter(job.sequence, job);
            return Ok(());
        };
        self.waiting.leave(job.sequence);
        let constraints = self.reader.vocab.constraints.clone();
        self.preparing.start(job.sequence, job, move || constraints.constrain(&constraint))
    }

    fn job(
        &mut self,
        sequence: SequenceId,
        request: &mut GenerateRequest,
        Prompt { tokens, prefix, media }: Prompt,
    ) -> Result<Job, EngineError> {
        if !media.is_empty() {
            // An image cannot be cut in two.
            (request.truncate, request.shift) = (false, false);
        }
        let context = request.context_in(self.length);
        let prompt = answer::fit(tokens, request, prefix, context)?;
        let tokens = &self.reader.vocab.tokens;
        let answer = Answer::new(sequence, request, prompt, prefix, context, tokens, &self.events);
        // Images stand in the history as numbers that are no tokens.
        let guesses = self.ahead.is_on() && media.is_empty();
        let guesser = guesses.then(|| Guesser::new(tokens));
        Ok(Job { sequence, answer, media, answering: false, guesser })
    }
}
