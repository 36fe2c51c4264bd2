//! One answer while it is written: from logits to a token, to text, to events.

use std::collections::HashSet;
use std::time::Instant;

use super::prompt::Prompt;
use super::vocab::Vocab;
use crate::engine::backend::Events;
use crate::engine::constraint::Constrained;
use crate::engine::detokenize::{Certain, TextStream};
use crate::engine::event::{Completion, EngineError, FinishReason, StepEvent, TokenLogprob, Usage};
use crate::engine::protocol::SequenceId;
use crate::engine::request::GenerateRequest;
use crate::engine::sampler::{self, Sampler};

/// An open-ended answer is this many contexts long at the most.
const LONGEST: u64 = 10;

pub struct Answer {
    pub sequence: SequenceId,
    /// What the model sees: the prompt and the answer, less what shifts took out.
    pub tokens: Vec<u32>,
    /// The same without loss.
    whole: Vec<u32>,
    /// Tokens at the beginning that stay when the context shifts.
    pub keep: usize,
    pub shift: bool,
    limit: u64,
    sampler: Sampler,
    text: TextStream,
    constrained: Option<Constrained>,
    preserved: HashSet<u32>,
    logprobs: Option<u8>,
    usage: Usage,
    begun: Instant,
    /// When the first token was there.
    answering: Option<Instant>,
}

impl Answer {
    /// `cached` of the prompt's tokens need no work.
    ///
    /// # Errors
    /// When the constraint is bad.
    pub fn new(
        sequence: SequenceId,
        request: &GenerateRequest,
        prompt: Prompt,
        vocab: &Vocab<'_>,
        context: usize,
    ) -> Result<Self, EngineError> {
        let most = LONGEST * context as u64;
        let options = &request.sampling;
        Ok(Self {
            sequence,
            keep: prompt.keep,
            shift: request.shift,
            limit: u64::try_from(options.num_predict).ok().filter(|limit| *limit > 0).map_or(most, |limit| limit.min(most)),
            sampler: Sampler::new(options, context, entropy()),
            text: TextStream::new(&options.stop),
            constrained: request.constraint.as_ref().map(|constraint| vocab.constrain(constraint)).transpose()?,
            preserved: vocab.named(&request.preserved),
            logprobs: request.logprobs,
            usage: Usage { prompt_tokens: prompt.tokens.len() as u64, ..Usage::default() },
            tokens: prompt.tokens,
            whole: prompt.whole,
            begun: Instant::now(),
            answering: None,
        })
    }

    /// The work begins, with `cached` tokens of the prompt known already.
    pub fn begin(&mut self, cached: usize) {
        self.usage.cached_tokens = cached as u64;
        self.begun = Instant::now();
    }

    /// The answer's text is under way, so that others must not hold it up.
    pub fn is_answering(&self) -> bool {
        self.answering.is_some()
    }

    /// Chooses the next token by the logits behind the last one. True when that was the last.
    ///
    /// # Errors
    /// When no token can be chosen.
    pub fn step(
        &mut self,
        logits: &[f32],
        vocab: &Vocab<'_>,
        context: usize,
        events: &Events,
    ) -> Result<bool, EngineError> {
        if self.answering.is_none() {
            self.answering = Some(Instant::now());
            self.usage.prompt_ns = nanos(self.begun);
        }
        let token = self.choose(logits, vocab)?;
        self.usage.completion_tokens += 1;
        if vocab.is_end(token) {
            self.finish(FinishReason::Stop, events);
            return Ok(true);
        }
        let special = self.preserved.contains(&token);
        let piece = vocab.piece(token, special);
        let logprob = self.logprobs.map(|top| {
            let logprob = sampler::logprobs(logits, token, top.into(), |token| vocab.piece(token, true));
            // The text of a hidden token is not part of the answer, nor of its bytes.
            TokenLogprob { token: String::from_utf8_lossy(&piece).into_owned(), bytes: piece.clone(), ..logprob }
        });
        if let Some(constrained) = &mut self.constrained {
            constrained.accept(token, &vocab.piece(token, true))?;
        }
        let certain = self.text.push(&piece, logprob);
        if let Some(stop) = self.emit(certain, events) {
            self.done(FinishReason::Stop, Some(stop), events);
            return Ok(true);
        }
        self.tokens.push(token);
        self.whole.push(token);
        let reason = if self.constrained.as_ref().is_some_and(Constrained::is_over) {
            FinishReason::Stop
        } else if self.usage.completion_tokens >= self.limit || (self.tokens.len() >= context && !self.shift) {
            FinishReason::Length
        } else {
            return Ok(false);
        };
        self.finish(reason, events);
        Ok(true)
    }

    fn choose(&mut self, logits: &[f32], vocab: &Vocab<'_>) -> Result<u32, EngineError> {
        let mask = self.constrained.as_mut().map(Constrained::allowed).transpose()?.flatten();
        let token = match mask {
            None => self.sampler.sample(logits, &self.tokens, None),
            Some(mask) => {
                // Where the text may end, any of the model's ends will do.
                let may_end = mask.is_allowed(vocab.end()?);
                let allowed = |token: u32| mask.is_allowed(token) || (may_end && vocab.is_end(token));
                self.sampler.sample(logits, &self.tokens, Some(&allowed))
            }
        };
        token.ok_or_else(|| EngineError::Failed("no token can be chosen: the logits are not numbers".into()))
    }

    /// Takes out `keep..keep + discard`, half of what may go, and gives that range's end.
    pub fn forget(&mut self) -> usize {
        let discard = ((self.tokens.len() - self.keep) / 2).max(1);
        self.tokens.drain(self.keep..self.keep + discard);
        self.keep + discard
    }

    fn emit(&self, certain: Certain, events: &Events) -> Option<String> {
        let Certain { text, logprobs, stop } = certain;
        if !text.is_empty() || !logprobs.is_empty() {
            events.step(self.sequence, StepEvent::Text { text, logprobs });
        }
        stop
    }

    fn finish(&mut self, reason: FinishReason, events: &Events) {
        let held = self.text.finish();
        let stop = self.emit(held, events);
        let reason = if stop.is_some() { FinishReason::Stop } else { reason };
        self.done(reason, stop, events);
    }

    fn done(&mut self, finish: FinishReason, stop: Option<String>, events: &Events) {
        self.usage.completion_ns = self.answering.map_or(0, nanos);
        let tokens = std::mem::take(&mut self.whole);
        events.step(self.sequence, StepEvent::Done(Completion { finish, usage: self.usage, tokens, stop }));
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// For answers whose seed is left open.
fn entropy() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(Instant::now())
}
