//! `POST /v1/chat/completions`.

use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{answer, convert, usage};
use crate::api::error::{ApiError, OpenAiError};
use crate::api::extract::OpenAi;
use crate::api::ollama::convert as native;
use crate::api::stream::{Pieces, event, sse};
use crate::api::turn::{Chat, Chunk, Done, Event, Turn, Wish, fold};
use crate::api::{AppState, id, names};
use crate::engine::TokenLogprob;
use crate::types::{Role, ToolCall};
use crate::wire::ollama::DebugInfo;
use crate::wire::openai::FINGERPRINT;
use crate::wire::openai::chat as wire;
use crate::wire::time;

pub async fn chat(
    State(state): State<AppState>,
    OpenAi(request): OpenAi<wire::ChatRequest>,
) -> Result<Response, OpenAiError> {
    let began = Instant::now();
    if request.messages.is_empty() {
        return Err(ApiError::invalid("[] is too short - 'messages'").into());
    }
    let wish = Wish {
        asked: request.model.clone(),
        options: convert::options(&request),
        think: convert::think(&request)?,
        format: convert::format(&request),
        logprobs: native::logprobs(request.logprobs.unwrap_or_default(), request.top_logprobs)?,
        ..Wish::default()
    };
    let usage_wanted = request.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let chat = Chat { messages: convert::messages(request.messages)?, tools: request.tools.0 };
    let name = names::model(&request.model, || ApiError::invalid("model is required"))?;
    let turn = Turn::new(&state, &name, wish, began).await?;
    let head = Head { id: format!("chatcmpl-{}", id::below(999)), created: now(), model: request.model };
    let Some((loaded, prompt)) = turn.chat(&state, chat).await? else {
        return Err(ApiError::invalid("[] is too short - 'messages'").into());
    };
    if request.debug_render_only {
        let info = DebugInfo { rendered_template: prompt.text, image_count: prompt.images as u64 };
        return Ok(answer(&wire::Completion { debug_info: Some(info), ..head.whole(Chunk::default(), None) }));
    }
    let events = loaded.answer(prompt);
    if request.stream {
        return Ok(sse(chunks(head, events, usage_wanted), frame).await?);
    }
    let (chunk, done) = fold(events).await?;
    Ok(answer(&head.whole(chunk, Some(done))))
}

pub(super) fn now() -> i64 {
    time::unix(SystemTime::now())
}

/// What all pieces of an answer say.
struct Head {
    id: String,
    created: i64,
    model: String,
}

impl Head {
    fn whole(self, chunk: Chunk, done: Option<Done>) -> wire::Completion {
        let finish_reason = done.as_ref().map(|done| reason(done, !chunk.tool_calls.is_empty()));
        let message = wire::Delta {
            role: Some(Role::ASSISTANT),
            content: Some(chunk.content),
            reasoning: chunk.thinking,
            tool_calls: calls(chunk.tool_calls),
        };
        let choice = wire::Choice { index: 0, message, finish_reason, logprobs: logprobs(chunk.logprobs) };
        wire::Completion {
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            system_fingerprint: FINGERPRINT,
            choices: vec![choice],
            usage: done.map(|done| usage(&done.usage)).unwrap_or_default(),
            debug_info: None,
        }
    }

    fn chunk(&self, choices: Vec<wire::ChunkChoice>) -> wire::Chunk {
        wire::Chunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: FINGERPRINT,
            choices,
            usage: None,
        }
    }

    fn delta(&self, delta: wire::Delta, logprobs: Option<wire::Logprobs>) -> wire::Chunk {
        self.chunk(vec![wire::ChunkChoice { index: 0, delta, finish_reason: None, logprobs }])
    }
}

fn reason(done: &Done, called: bool) -> &'static str {
    match native::reason(done.finish) {
        "stop" if called => "tool_calls",
        reason => reason,
    }
}

fn logprobs(list: Vec<TokenLogprob>) -> Option<wire::Logprobs> {
    let content: Vec<_> = native::wire_logprobs(list).into_iter().map(Into::into).collect();
    (!content.is_empty()).then_some(wire::Logprobs { content })
}

fn calls(calls: Vec<ToolCall>) -> Vec<wire::ToolCall> {
    let call = |call: ToolCall| wire::ToolCall {
        id: call.id,
        index: call.function.index as i64,
        kind: "function".into(),
        function: wire::Function {
            name: call.function.name,
            arguments: crate::go::json::to_string(&call.function.arguments).unwrap_or_default(),
        },
    };
    calls.into_iter().map(call).collect()
}

/// A chunk of the stream, or the mark of its end.
enum Piece {
    Chunk(Box<wire::Chunk>),
    End,
}

fn chunks(head: Head, mut events: Pieces<Event>, usage_wanted: bool) -> Pieces<Piece> {
    Box::pin(async_stream::try_stream! {
        let mut role = Some(Role::ASSISTANT);
        let mut called = false;
        while let Some(event) = events.next().await {
            let done = match event? {
                Event::Chunk(chunk) if chunk.is_empty() => continue,
                Event::Chunk(chunk) => {
                    called |= !chunk.tool_calls.is_empty();
                    for chunk in deltas(&head, chunk, &mut role) {
                        yield Piece::Chunk(Box::new(chunk));
                    }
                    continue;
                }
                Event::Done(done) => done,
            };
            if role.is_some() {
                let first = wire::Delta { role, content: Some(String::new()), ..wire::Delta::default() };
                yield Piece::Chunk(Box::new(head.delta(first, None)));
            }
            let mut last = head.delta(wire::Delta::default(), None);
            last.choices[0].finish_reason = Some(reason(&done, called));
            yield Piece::Chunk(Box::new(last));
            if usage_wanted {
                let usage = Some(usage(&done.usage));
                yield Piece::Chunk(Box::new(wire::Chunk { usage, ..head.chunk(Vec::new()) }));
            }
            yield Piece::End;
            break;
        }
    })
}

/// Thinking that comes together with something else is told before it.
fn deltas(head: &Head, chunk: Chunk, role: &mut Option<&'static str>) -> Vec<wire::Chunk> {
    let more = !chunk.content.is_empty() || !chunk.tool_calls.is_empty();
    let mut deltas = Vec::new();
    let mut reasoning = chunk.thinking;
    if !reasoning.is_empty() && more {
        let reasoning = std::mem::take(&mut reasoning);
        let first = wire::Delta { role: role.take(), reasoning, ..wire::Delta::default() };
        deltas.push(head.delta(first, logprobs(chunk.logprobs.clone())));
    }
    let logprobs = if deltas.is_empty() { logprobs(chunk.logprobs) } else { None };
    let content = Some(chunk.content);
    let delta = wire::Delta { role: role.take(), content, reasoning, tool_calls: calls(chunk.tool_calls) };
    deltas.push(head.delta(delta, logprobs));
    deltas
}

/// An error in the middle is an event of its own, as OpenAI sends it.
fn frame(piece: Result<Piece, ApiError>) -> Bytes {
    match piece {
        Ok(Piece::Chunk(chunk)) => event(None, &chunk),
        Ok(Piece::End) => Bytes::from_static(b"data: [DONE]\n\n"),
        Err(error) => event(None, &OpenAiError(error).envelope()),
    }
}
