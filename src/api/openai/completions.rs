//! `POST /v1/completions`: the native generate in other words.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::chat::now;
use super::{answer, usage};
use crate::api::error::{ApiError, OpenAiError};
use crate::api::extract::OpenAi;
use crate::api::ollama::convert::reason;
use crate::api::ollama::generate::{Generated, start};
use crate::api::stream::{Pieces, event, sse};
use crate::api::turn::{Event, fold};
use crate::api::{AppState, id};
use crate::wire::ollama::GenerateRequest;
use crate::wire::openai::completions::{Choice, Chunk, Completion, CompletionRequest};
use crate::wire::openai::{FINGERPRINT, Usage};

pub async fn completions(
    State(state): State<AppState>,
    OpenAi(request): OpenAi<CompletionRequest>,
) -> Result<Response, OpenAiError> {
    let began = Instant::now();
    let native = GenerateRequest {
        model: request.model.clone(),
        prompt: request.prompt.clone(),
        suffix: request.suffix.clone(),
        options: options(&request)?,
        debug_render_only: request.debug_render_only,
        ..GenerateRequest::default()
    };
    let head = Head { id: format!("cmpl-{}", id::below(999)), model: request.model };
    let (events, quiet) = match start(&state, &native, began).await? {
        Generated::Answer { events, quiet } => (events, quiet),
        Generated::Object(object) => {
            let text = object.debug_info.map(|info| info.rendered_template).unwrap_or_default();
            return Ok(answer(&head.whole(text, None, Usage::default())));
        }
    };
    if request.stream {
        let wanted = request.stream_options.is_some_and(|options| options.include_usage);
        return Ok(sse(chunks(head, events, wanted, quiet), frame).await?);
    }
    let (chunk, done) = fold(events).await?;
    Ok(answer(&head.whole(chunk.content, Some(reason(done.finish)), usage(&done.usage))))
}

fn options(request: &CompletionRequest) -> Result<Map<String, Value>, ApiError> {
    let mut options = Map::new();
    let mut set = |name: &str, value: Value| drop(options.insert(name.to_owned(), value));
    match &request.stop {
        Value::Null => {}
        Value::String(_) => set("stop", Value::Array(vec![request.stop.clone()])),
        Value::Array(list) => match list.iter().find(|item| !item.is_string()) {
            Some(other) => return Err(bad_stop(other)),
            None => set("stop", request.stop.clone()),
        },
        other => return Err(bad_stop(other)),
    }
    set("temperature", request.temperature.unwrap_or(1.0).into());
    set("top_p", if request.top_p == 0.0 { 1.0 } else { request.top_p }.into());
    set("frequency_penalty", request.frequency_penalty.into());
    set("presence_penalty", request.presence_penalty.into());
    if let Some(tokens) = request.max_tokens {
        set("num_predict", tokens.into());
    }
    if let Some(seed) = request.seed {
        set("seed", seed.into());
    }
    Ok(options)
}

fn bad_stop(value: &Value) -> ApiError {
    let kind = match value {
        Value::Number(_) => "float64",
        Value::Bool(_) => "bool",
        Value::Null => "<nil>",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    };
    ApiError::Invalid(format!("invalid type for 'stop' field: {kind}"))
}

struct Head {
    id: String,
    model: String,
}

impl Head {
    fn whole(self, text: String, finish_reason: Option<&'static str>, usage: Usage) -> Completion {
        Completion {
            id: self.id,
            object: "text_completion",
            created: now(),
            model: self.model,
            system_fingerprint: FINGERPRINT,
            choices: vec![Choice { text, index: 0, finish_reason }],
            usage,
        }
    }

    fn chunk(&self, choices: Vec<Choice>, usage: Option<Usage>) -> Chunk {
        Chunk {
            id: self.id.clone(),
            object: "text_completion",
            created: now(),
            choices,
            model: self.model.clone(),
            system_fingerprint: FINGERPRINT,
            usage,
        }
    }
}

enum Piece {
    Chunk(Box<Chunk>),
    End,
}

/// Thinking has no place here: its chunks are empty. With usage asked for, every chunk has one, and only the last counts.
fn chunks(head: Head, mut events: Pieces<Event>, usage_wanted: bool, quiet: bool) -> Pieces<Piece> {
    let none = usage_wanted.then(Usage::default);
    Box::pin(async_stream::try_stream! {
        while let Some(event) = events.next().await {
            let done = match event? {
                Event::Chunk(chunk) if quiet && chunk.is_empty() => continue,
                Event::Chunk(chunk) => {
                    let choice = Choice { text: chunk.content, index: 0, finish_reason: None };
                    yield Piece::Chunk(Box::new(head.chunk(vec![choice], none)));
                    continue;
                }
                Event::Done(done) => done,
            };
            let last = Choice { text: String::new(), index: 0, finish_reason: Some(reason(done.finish)) };
            yield Piece::Chunk(Box::new(head.chunk(vec![last], none)));
            if usage_wanted {
                yield Piece::Chunk(Box::new(head.chunk(Vec::new(), Some(usage(&done.usage)))));
            }
            yield Piece::End;
            break;
        }
    })
}

fn frame(piece: Result<Piece, ApiError>) -> Bytes {
    match piece {
        Ok(Piece::Chunk(chunk)) => event(None, &chunk),
        Ok(Piece::End) => Bytes::from_static(b"data: [DONE]\n\n"),
        Err(error) => event(None, &OpenAiError(error).envelope()),
    }
}
