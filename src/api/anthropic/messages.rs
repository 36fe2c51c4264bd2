//! `POST /v1/messages`.

use axum::extract::State;
use axum::response::Response;
use tokio::time::Instant;

use super::convert;
use super::end::{reason, usage};
use super::stream::{Stream, frame};
use crate::api::error::{AnthropicError, ApiError, json_line};
use crate::api::extract::Anthropic;
use crate::api::stream::sse;
use crate::api::turn::{Chat, Chunk, Done, Turn, Wish, fold};
use crate::api::{AppState, id, names};
use crate::store::Capability;
use crate::types::{Role, Think, ToolCall};
use crate::wire::anthropic::{Answer, Block, MessagesRequest, Usage};

pub async fn messages(
    State(state): State<AppState>,
    Anthropic(request): Anthropic<MessagesRequest>,
) -> Result<Response, AnthropicError> {
    let began = Instant::now();
    check(&request)?;
    let chat = Chat { messages: convert::messages(&request)?, tools: convert::tools(&request.tools)? };
    let wish = Wish {
        asked: request.model.clone(),
        options: convert::options(&request),
        think: convert::think(&request),
        ..Wish::default()
    };
    let name = names::model(&request.model, || ApiError::invalid("model is required"))?;
    let mut turn = Turn::new(&state, &name, wish, began).await?;
    if turn.wish.think.is_some_and(Think::is_on) && !turn.known.can(Capability::Thinking) {
        // here a model that cannot think is not an error
        turn.wish.think = None;
    }
    let loaded = turn.chat(&state, chat).await?;
    let (loaded, prompt) = loaded.ok_or_else(|| ApiError::invalid("messages is required"))?;
    let calls_last = loaded.turn.known.calls_come_last();
    let events = loaded.answer(prompt);
    if request.stream {
        let start = start(request.model.clone(), convert::estimate(&request));
        return Ok(sse(Stream::new(start, calls_last).events(events), frame).await?);
    }
    let (chunk, done) = fold(events).await?;
    Ok(json_line(&whole(request.model, chunk, &done)))
}

fn check(request: &MessagesRequest) -> Result<(), ApiError> {
    if request.model.is_empty() {
        return Err(ApiError::invalid("model is required"));
    }
    if request.max_tokens <= 0 {
        return Err(ApiError::invalid("max_tokens is required and must be positive"));
    }
    if request.messages.is_empty() {
        return Err(ApiError::invalid("messages is required"));
    }
    Ok(())
}

/// An answer of which nothing is there yet.
fn start(model: String, input_tokens: u64) -> Answer {
    Answer {
        id: id::hex("msg_"),
        kind: "message",
        role: Role::ASSISTANT,
        model,
        content: Vec::new(),
        stop_reason: None,
        usage: Usage { input_tokens, output_tokens: 0 },
    }
}

fn whole(model: String, chunk: Chunk, done: &Done) -> Answer {
    let stop_reason = Some(reason(done, !chunk.tool_calls.is_empty()));
    let mut content = Vec::new();
    if !chunk.thinking.is_empty() {
        content.push(Block::Thinking { thinking: chunk.thinking });
    }
    if !chunk.content.is_empty() {
        content.push(Block::Text { text: chunk.content });
    }
    content.extend(chunk.tool_calls.into_iter().map(tool_use));
    Answer { content, stop_reason, usage: usage(done), ..start(model, 0) }
}

fn tool_use(call: ToolCall) -> Block {
    Block::ToolUse { id: call.id, name: call.function.name, input: call.function.arguments }
}
