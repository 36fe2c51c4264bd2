//! `POST /api/chat`.

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::convert;
use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::names;
use crate::api::stream::{Pieces, ndjson};
use crate::api::turn::{Chat, Chunk, Done, Event, Turn, Wish, fold};
use crate::types::{KeepAlive, Role};
use crate::wire::ollama::{ChatRequest, ChatResponse, DebugInfo, Message};

pub async fn chat(
    State(state): State<AppState>,
    Ollama(mut request): Ollama<ChatRequest>,
) -> Result<Response, OllamaError> {
    let began = Instant::now();
    let model = request.model.clone();
    let logprobs = convert::logprobs(request.logprobs, request.top_logprobs)?;
    let name = names::model(&model, || ApiError::invalid("model is required"))?;
    let wish = Wish {
        asked: model.clone(),
        options: std::mem::take(&mut request.options),
        keep_alive: request.keep_alive,
        think: request.think,
        truncate: request.truncate,
        shift: request.shift,
        logprobs,
        format: None,
    };
    let turn = Turn::new(&state, &name, wish, began).await?;
    if request.messages.is_empty() && request.keep_alive == Some(KeepAlive::Unload) {
        turn.unload(&state).await?;
        return Ok(json(&nothing(&model, "unload")));
    }
    let chat = Chat { messages: request.messages.into_iter().map(convert::message).collect(), tools: request.tools.0 };
    let Some((mut loaded, prompt)) = turn.chat(&state, chat).await? else {
        return Ok(json(&nothing(&model, "load")));
    };
    if request.debug_render_only {
        let debug_info = Some(DebugInfo { rendered_template: prompt.text, image_count: prompt.images as u64 });
        return Ok(json(&ChatResponse { debug_info, message: Message::default(), ..line(&model) }));
    }
    loaded.turn.wish.format = convert::format(&request.format)?;
    let calls_last = loaded.turn.known.calls_come_last();
    let events = loaded.answer(prompt);
    if request.stream.unwrap_or(true) {
        return Ok(ndjson(lines(model, events, calls_last)).await?);
    }
    let (chunk, done) = fold(events).await?;
    Ok(json(&finish(of_chunk(&model, chunk), &done)))
}

fn lines(model: String, events: Pieces<Event>, calls_last: bool) -> Pieces<ChatResponse> {
    let mut late = Chunk::default();
    Box::pin(events.filter_map(move |event| {
        let line = match event {
            Err(error) => Some(Err(error)),
            Ok(Event::Done(done)) => Some(Ok(finish(of_chunk(&model, std::mem::take(&mut late)), &done))),
            Ok(Event::Chunk(mut chunk)) => {
                if calls_last {
                    late.tool_calls.append(&mut chunk.tool_calls);
                }
                (!chunk.is_empty()).then(|| Ok(of_chunk(&model, chunk)))
            }
        };
        std::future::ready(line)
    }))
}

fn line(model: &str) -> ChatResponse {
    ChatResponse {
        model: model.to_owned(),
        created_at: convert::now(),
        message: Message { role: Role::ASSISTANT.to_owned(), ..Message::default() },
        ..ChatResponse::default()
    }
}

/// The object that says a model was loaded or unloaded, and no more.
fn nothing(model: &str, done_reason: &'static str) -> ChatResponse {
    ChatResponse { done: true, done_reason, ..line(model) }
}

fn of_chunk(model: &str, chunk: Chunk) -> ChatResponse {
    let mut answer = line(model);
    answer.message.content = chunk.content;
    answer.message.thinking = chunk.thinking;
    answer.message.tool_calls = chunk.tool_calls.into_iter().map(convert::wire_call).collect();
    answer.logprobs = convert::wire_logprobs(chunk.logprobs);
    answer
}

fn finish(line: ChatResponse, done: &Done) -> ChatResponse {
    ChatResponse { done: true, done_reason: convert::reason(done.finish), metrics: convert::metrics(done), ..line }
}
