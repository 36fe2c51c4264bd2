//! The engine's steps into the pieces that dialects show.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::api::error::ApiError;
use crate::api::id;
use crate::api::stream::Pieces;
use crate::engine::{Completion, FinishReason, GenerateRequest, StepEvent, TokenLogprob, Usage};
use crate::prompt::{OutputParser, Piece};
use crate::scheduler::Lease;
use crate::types::ToolCall;

/// A part of an answer. `Done` is the last one of a good answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Chunk(Chunk),
    Done(Done),
}

/// What one step brought. It may be all empty, when the parser holds back what came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    pub content: String,
    pub thinking: String,
    pub tool_calls: Vec<ToolCall>,
    pub logprobs: Vec<TokenLogprob>,
}

impl Chunk {
    /// Nothing of it is to be seen.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Content(text) => self.content.push_str(&text),
                Piece::Thinking(text) => self.thinking.push_str(&text),
                Piece::ToolCall(function) => self.tool_calls.push(ToolCall { id: id::call(), function }),
            }
        }
    }

    /// Lays what came later behind what came before.
    pub fn append(&mut self, later: Self) {
        self.content.push_str(&later.content);
        self.thinking.push_str(&later.thinking);
        self.tool_calls.extend(later.tool_calls);
        self.logprobs.extend(later.logprobs);
    }
}

/// How an answer ended, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    pub finish: FinishReason,
    /// The stop string that ended it.
    pub stop: Option<String>,
    pub usage: Usage,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    /// Waiting for the model and loading it.
    pub load: Duration,
    /// Since the request came.
    pub total: Duration,
}

/// Generates on the leased runner; the lease is held by the stream.
///
/// A constraint that waits for the end of thinking is put in force from the start when the model does not think at all:
/// then the answer begins anew, before anything of it was shown. In `framed` answers what it waits for comes always.
pub(super) fn answer(
    lease: Lease,
    request: GenerateRequest,
    framed: bool,
    mut parsers: impl FnMut() -> Box<dyn OutputParser> + Send + 'static,
    began: Instant,
) -> Pieces<Event> {
    Box::pin(async_stream::try_stream! {
        let after = request.constraint.as_ref().and_then(|constraint| constraint.after.clone());
        // Whether to begin anew is not settled while this is there: what would be asked, and what came so far, as text and as
        // pieces. Only then is the request, which may hold images, there twice.
        let mut unsettled = after.filter(|_| !framed).map(|after| {
            let mut anew = request.clone();
            if let Some(constraint) = &mut anew.constraint {
                constraint.after = None;
            }
            (after, anew, String::new(), Chunk::default())
        });
        let mut steps = lease.runner().generate(request);
        let mut parser = parsers();
        loop {
            let step = steps.next().await.unwrap_or_else(|| {
                Err(crate::engine::EngineError::Failed("the answer ended too early".into()))
            })?;
            let completion = match step {
                StepEvent::Text { text, logprobs } => {
                    let mut chunk = Chunk { logprobs, ..Chunk::default() };
                    chunk.add(parser.push(&text)?);
                    if let Some((after, _, seen, before)) = &mut unsettled {
                        seen.push_str(&text);
                        before.append(chunk);
                        let thinks = !before.thinking.is_empty() || !before.tool_calls.is_empty() || seen.contains(&*after);
                        if !thinks && before.content.trim().is_empty() {
                            continue;
                        }
                        let Some((_, anew, _, before)) = unsettled.take() else { continue };
                        if thinks {
                            yield Event::Chunk(before);
                            continue;
                        }
                        steps = lease.runner().generate(anew);
                        parser = parsers();
                        continue;
                    }
                    yield Event::Chunk(chunk);
                    continue;
                }
                StepEvent::Done(completion) => completion,
            };
            let mut held = unsettled.map(|(.., before)| before).unwrap_or_default();
            held.add(parser.finish()?);
            if !held.is_empty() {
                yield Event::Chunk(held);
            }
            yield Event::Done(done(completion, &lease, began));
            break;
        }
    })
}

fn done(completion: Completion, lease: &Lease, began: Instant) -> Done {
    let Usage { prompt_tokens, cached_tokens, completion_tokens, guessed_tokens, accepted_tokens, .. } =
        completion.usage;
    tracing::debug!(
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        guessed_tokens,
        accepted_tokens,
        "an answer is whole"
    );
    Done {
        finish: completion.finish,
        stop: completion.stop,
        usage: completion.usage,
        tokens: completion.tokens,
        load: lease.load_duration(),
        total: began.elapsed(),
    }
}

/// All of an answer at once.
///
/// # Errors
/// An error anywhere drops what came before it.
pub async fn fold(mut pieces: Pieces<Event>) -> Result<(Chunk, Done), ApiError> {
    let mut whole = Chunk::default();
    while let Some(event) = pieces.next().await {
        match event? {
            Event::Chunk(chunk) => whole.append(chunk),
            Event::Done(done) => return Ok((whole, done)),
        }
    }
    Err(ApiError::internal("the answer ended too early"))
}
