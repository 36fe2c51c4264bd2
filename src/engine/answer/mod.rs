//! One answer as it grows: chooses each token, turns it into text and knows when it is over. The same for every backend,
//! which only turns tokens into logits.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::backend::Events;
use crate::engine::constraint::Constrained;
use crate::engine::detokenize::{Certain, TextStream};
use crate::engine::event::{Completion, EngineError, FinishReason, StepEvent, Usage};
use crate::engine::protocol::SequenceId;
use crate::engine::request::GenerateRequest;
use crate::engine::sampler::{self, Sampler};
use crate::engine::tokens::Tokens;

/// An open-ended answer ends after this many contexts, as Ollama's does.
const LONGEST_ANSWER: u64 = 10;

/// What a backend does after a token was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Evaluate the token and ask again.
    Token(u32),
    /// The context is full with this token: make room with [`Answer::shift`], then go on.
    Full(u32),
    /// The answer is over and its last event is out.
    Over,
}

/// One sequence's answer.
pub struct Answer {
    sequence: SequenceId,
    events: Events,
    tokens: Arc<Tokens>,
    /// Tokens the context holds.
    context: usize,
    keep: usize,
    shifts: bool,
    /// Tokens the answer may have.
    limit: u64,
    logprobs: Option<u8>,
    preserved: Vec<String>,
    sampler: Sampler,
    constrained: Option<Constrained>,
    text: TextStream,
    /// The prompt and what was generated, as far as the context holds it.
    history: Vec<u32>,
    /// Of `history`, where the answer begins.
    answer: usize,
    /// Bytes of text that went out, of the tokens still in `history`.
    shown: usize,
    usage: Usage,
    began: Instant,
    over: bool,
}

impl Answer {
    /// An answer to `prompt`, which fits into `context` ([`fit`]). `prefix` is how many of its tokens the tokenizer put in
    /// front by itself. The request's constraint is held by [`Self::hold`].
    pub fn new(
        sequence: SequenceId,
        request: &GenerateRequest,
        prompt: Vec<u32>,
        prefix: usize,
        context: usize,
        tokens: &Arc<Tokens>,
        events: &Events,
    ) -> Self {
        let bound = context as u64 * LONGEST_ANSWER;
        let limit = u64::try_from(request.sampling.num_predict).ok().filter(|limit| (1..bound).contains(limit));
        Self {
            sequence,
            events: events.clone(),
            tokens: tokens.clone(),
            context,
            keep: kept(request, prompt.len(), prefix, context),
            shifts: request.shift,
            limit: limit.unwrap_or(bound),
            logprobs: request.logprobs,
            preserved: request.preserved.clone(),
            sampler: Sampler::new(&request.sampling, context, RandomState::new().build_hasher().finish()),
            constrained: None,
            text: TextStream::new(&request.sampling.stop),
            usage: Usage { prompt_tokens: prompt.len() as u64, ..Usage::default() },
            answer: prompt.len(),
            history: prompt,
            shown: 0,
            began: Instant::now(),
            over: false,
        }
    }

    /// Holds the answer to a constraint, before its first token.
    pub fn hold(&mut self, constrained: Constrained) {
        self.constrained = Some(constrained);
    }

    /// The prompt's evaluation begins now; `cached` of its tokens need none.
    pub fn begin(&mut self, cached: usize) {
        self.began = Instant::now();
        self.usage.cached_tokens = cached as u64;
    }

    /// What the next logits must have been made from: all tokens the context holds.
    pub fn history(&self) -> &[u32] {
        &self.history
    }

    /// Takes the logits that follow [`Self::history`], chooses a token and sends what is certain by now.
    pub fn push(&mut self, logits: &[f32]) -> Next {
        if self.over {
            return Next::Over;
        }
        let next = self.step(&logits[..logits.len().min(self.tokens.count())]);
        next.unwrap_or_else(|error| {
            self.over = true;
            self.events.failed(self.sequence, error);
            Next::Over
        })
    }

    /// Discards the older half of what lies behind the kept tokens: of `history`, the range that is returned.
    pub fn shift(&mut self) -> std::ops::Range<usize> {
        let discarded = self.keep..self.keep + ((self.history.len() - self.keep) / 2).max(1);
        let unseen = &self.history[discarded.start.max(self.answer).min(discarded.end)..discarded.end];
        let bytes = unseen.iter().map(|&token| visible(&self.tokens, &self.preserved, token).len());
        self.shown = self.shown.saturating_sub(bytes.sum());
        self.answer = self.answer.saturating_sub(discarded.len()).max(self.keep.min(self.answer));
        self.history.drain(discarded.clone());
        discarded
    }

    fn step(&mut self, logits: &[f32]) -> Result<Next, EngineError> {
        if self.usage.completion_tokens == 0 {
            self.usage.prompt_ns = nanoseconds(self.began);
            self.began = Instant::now();
        }
        let allowed = self.constrained.as_mut().map(Constrained::allowed).transpose()?.flatten();
        let allowed = allowed.as_ref().map(|mask| mask.as_slice());
        let token = self.sampler.sample(logits, &self.history, allowed);
        let token = token.ok_or_else(|| EngineError::Failed("the model gives no token a chance".into()))?;
        self.usage.completion_tokens += 1;
        if self.tokens.is_end(token) {
            return Ok(self.finish(FinishReason::Stop));
        }
        self.history.push(token);
        if let Some(constrained) = &mut self.constrained {
            constrained.accept(token, self.tokens.bytes(token))?;
        }

        let logprob = self
            .logprobs
            .map(|top| sampler::logprobs(logits, token, usize::from(top), |token| self.tokens.bytes(token).to_vec()));
        let certain = self.text.push(visible(&self.tokens, &self.preserved, token), logprob);
        if let Some(stop) = self.show(certain) {
            return Ok(self.stopped(stop));
        }
        if self.constrained.as_ref().is_some_and(Constrained::is_over) && self.usage.completion_tokens < self.limit {
            // The end is all that may follow: it is taken, and counted, without evaluating anything for it.
            self.usage.completion_tokens += 1;
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.usage.completion_tokens >= self.limit {
            return Ok(self.finish(FinishReason::Length));
        }
        match self.history.len() < self.context {
            true => Ok(Next::Token(token)),
            false if self.shifts => Ok(Next::Full(token)),
            false => Ok(self.finish(FinishReason::Length)),
        }
    }

    /// Sends text and gives the stop string that ended it.
    fn show(&mut self, certain: Certain) -> Option<String> {
        let Certain { text, logprobs, stop } = certain;
        self.shown += text.len();
        if !text.is_empty() || !logprobs.is_empty() {
            self.events.step(self.sequence, StepEvent::Text { text, logprobs });
        }
        stop
    }

    fn finish(&mut self, reason: FinishReason) -> Next {
        let certain = self.text.finish();
        match self.show(certain) {
            Some(stop) => self.stopped(stop),
            None => self.done(reason, None),
        }
    }

    /// Ends at a stop string. Tokens that reach into it are no part of the answer.
    fn stopped(&mut self, stop: String) -> Next {
        let mut length = 0;
        let kept = self.history[self.answer..].iter().take_while(|&&token| {
            length += visible(&self.tokens, &self.preserved, token).len();
            length <= self.shown
        });
        let kept = kept.count();
        self.history.truncate(self.answer + kept);
        self.done(FinishReason::Stop, Some(stop))
    }

    fn done(&mut self, finish: FinishReason, stop: Option<String>) -> Next {
        self.over = true;
        self.usage.completion_ns = nanoseconds(self.began);
        let mut tokens = std::mem::take(&mut self.history);
        // What stands for an image is no token, and means nothing to the next request.
        tokens.retain(|token| (*token as usize) < self.tokens.count());
        let completion = Completion { finish, usage: self.usage, tokens, stop };
        self.events.step(self.sequence, StepEvent::Done(completion));
        Next::Over
    }
}

/// For backends that guess ahead.
#[cfg(any(feature = "llama", test))]
impl Answer {
    /// Tokens that may be guessed behind [`Self::history`] and still leave the answer one more to choose.
    pub fn room(&self) -> usize {
        let limit = self.limit.saturating_sub(self.usage.completion_tokens);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.context.saturating_sub(self.history.len()).min(limit).saturating_sub(1)
    }

    /// So many tokens were guessed ahead.
    pub fn guessed(&mut self, tokens: usize) {
        self.usage.guessed_tokens += tokens as u64;
    }

    /// One of them was the next.
    pub fn guessed_right(&mut self) {
        self.usage.accepted_tokens += 1;
    }
}

/// A token's bytes as an answer shows them.
fn visible<'a>(tokens: &'a Tokens, preserved: &[String], token: u32) -> &'a [u8] {
    let bytes = tokens.bytes(token);
    let hidden = tokens.is_special(token) && !preserved.iter().any(|text| text.as_bytes() == bytes);
    if hidden { &[] } else { bytes }
}

/// Tokens at the front that are never discarded.
fn kept(request: &GenerateRequest, prompt: usize, prefix: usize, context: usize) -> usize {
    // Room for a few tokens must stay, or nothing could be discarded.
    let most = context.saturating_sub(4);
    usize::try_from(request.sampling.num_keep).map_or(prompt, |keep| keep.saturating_add(prefix)).min(most).min(prompt)
}

/// A prompt that leaves room for an answer in `context`. One that is too long loses its middle; `prefix` is how many of its
/// tokens the tokenizer put in front by itself.
///
/// # Errors
/// [`EngineError::Invalid`] when the prompt is empty, or too long and not to be cut.
pub fn fit(
    mut prompt: Vec<u32>,
    request: &GenerateRequest,
    prefix: usize,
    context: usize,
) -> Result<Vec<u32>, EngineError> {
    let length = prompt.len();
    if length == 0 {
        return Err(EngineError::Invalid("the prompt is empty".into()));
    }
    if context < 2 {
        // A file may say so of its model.
        let message = format!("a context of {context} tokens has no room for a prompt and an answer");
        return Err(EngineError::Invalid(message));
    }
    if length < context {
        return Ok(prompt);
    }
    if !request.truncate {
        // The body of llama-server, which Ollama passes on as its error's text.
        let message = format!(
            "request ({length} tokens) exceeds the available context size ({context} tokens), try increasing it"
        );
        let error = serde_json::json!({"error": {"code": 400, "message": message, "type": "exceed_context_size_error",
            "n_prompt_tokens": length, "n_ctx": context}});
        return Err(EngineError::Invalid(error.to_string()));
    }
    if !request.shift {
        return Err(EngineError::Invalid(
            "the prompt is longer than the context length currently available to the model; shorten the prompt or raise \
             num_ctx"
                .into(),
        ));
    }
    let keep = kept(request, length, prefix, context);
    let total = context - ((context - keep) / 2).max(1);
    prompt.drain(keep..length - (total - keep));
    Ok(prompt)
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
