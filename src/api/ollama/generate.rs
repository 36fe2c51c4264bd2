//! `POST /api/generate`.

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::convert;
use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::models::in_place;
use crate::api::names;
use crate::api::stream::{Pieces, ndjson};
use crate::api::turn::{Chunk, Done, Event, Loaded, Prompt, Turn, Wish, fold};
use crate::engine::PromptPart;
use crate::prompt::Conversation;
use crate::prompt::format::Format;
use crate::store::Capability;
use crate::types::{KeepAlive, Message, Role};
use crate::wire::ollama::{DebugInfo, GenerateRequest, GenerateResponse};

pub async fn generate(
    State(state): State<AppState>,
    Ollama(request): Ollama<GenerateRequest>,
) -> Result<Response, OllamaError> {
    let (events, quiet) = match start(&state, &request, Instant::now()).await? {
        Generated::Object(object) => return Ok(json(&object)),
        Generated::Answer { events, quiet } => (events, quiet),
    };
    if request.stream.unwrap_or(true) {
        return Ok(ndjson(lines(request, events, quiet)).await?);
    }
    let (mut chunk, done) = fold(events).await?;
    let tool_calls = chunk.tool_calls.drain(..).map(convert::wire_call).collect();
    let answer = finish(of_chunk(&request.model, chunk), &request, done);
    Ok(json(&GenerateResponse { tool_calls, ..answer }))
}

/// What a request comes to.
pub enum Generated {
    /// Nothing is generated: the model was loaded or unloaded, or the prompt is only to be seen.
    Object(Box<GenerateResponse>),
    /// `quiet` answers leave out the steps in which nothing is to be seen.
    Answer { events: Pieces<Event>, quiet: bool },
}

/// Does all that comes before the first piece.
///
/// # Errors
/// In Ollama's order: the name, the model, what it can do, loading it, the prompt, the format.
pub async fn start(state: &AppState, request: &GenerateRequest, began: Instant) -> Result<Generated, ApiError> {
    let logprobs = convert::logprobs(request.logprobs, request.top_logprobs)?;
    let name = names::model(&request.model, || ApiError::NotFound("model '' not found".into()))?;
    let wish = Wish {
        asked: request.model.clone(),
        options: request.options.clone(),
        keep_alive: request.keep_alive,
        think: request.think,
        truncate: request.truncate,
        shift: request.shift,
        logprobs,
        format: None,
    };
    let mut turn = Turn::new(state, &name, wish, began).await?;
    if request.prompt.is_empty() && request.keep_alive == Some(KeepAlive::Unload) {
        turn.unload(state).await?;
        return Ok(Generated::Object(Box::new(nothing(request, "unload"))));
    }
    check(request, &mut turn)?;
    let mut loaded = turn.load(state).await?;
    if request.prompt.is_empty() {
        return Ok(Generated::Object(Box::new(nothing(request, "load"))));
    }
    let prompt = in_place(|| prompt(request, &loaded))?;
    if request.debug_render_only {
        let info = DebugInfo { rendered_template: prompt.text, image_count: prompt.images as u64 };
        let object = GenerateResponse { debug_info: Some(info), ..line(&request.model) };
        return Ok(Generated::Object(Box::new(object)));
    }
    loaded.check_fits(&prompt.parts).await?;
    loaded.turn.wish.format = convert::format(&request.format)?;
    let quiet = loaded.turn.known.has_builtin_parser();
    Ok(Generated::Answer { events: loaded.answer(prompt), quiet })
}

/// What the request asks of the model, in Ollama's order.
fn check(request: &GenerateRequest, turn: &mut Turn) -> Result<(), ApiError> {
    if turn.known.model.config.capabilities.iter().any(|kind| kind == "image") {
        return Err(ApiError::invalid("image generation models are not currently supported"));
    }
    if request.raw && !(request.template.is_empty() && request.system.is_empty() && request.context.is_empty()) {
        return Err(ApiError::invalid("raw mode does not support template, system, or context"));
    }
    turn.settle_thinking()?;
    turn.need_completion("generate")?;
    if !request.suffix.is_empty() {
        turn.need(Capability::Insert)?;
    }
    Ok(())
}

fn prompt(request: &GenerateRequest, loaded: &Loaded) -> Result<Prompt, ApiError> {
    if request.raw {
        return Ok(Prompt::plain(with_images(request), &request.images));
    }
    let known = &loaded.turn.known;
    let think = loaded.turn.wish.think;
    if !request.suffix.is_empty() {
        let text = known.format()?.render_suffix(&request.prompt, &request.suffix, think)?;
        return Ok(Prompt::plain(text, &[]));
    }
    let conversation = Conversation { messages: messages(request, loaded), tools: Vec::new(), think };
    let mut prompt = match request.template.as_str() {
        "" => loaded.render(conversation)?,
        template => Prompt::rendered(Format::of_template(template)?, &conversation)?,
    };
    let context: Vec<u32> = request.context.iter().filter_map(|token| u32::try_from(*token).ok()).collect();
    if !context.is_empty() {
        prompt.parts.insert(0, PromptPart::Tokens(context));
    }
    Ok(prompt)
}

/// A raw prompt whose images have no places in it has them in front.
fn with_images(request: &GenerateRequest) -> String {
    if request.prompt.contains("[img-0]") {
        return request.prompt.clone();
    }
    let marks: String = (0..request.images.len()).map(|index| format!("[img-{index}]")).collect();
    marks + &request.prompt
}

/// One question as a conversation. With the tokens of a former answer, the model's own messages are in them already.
fn messages(request: &GenerateRequest, loaded: &Loaded) -> Vec<Message> {
    let model = &loaded.turn.known.model;
    let own = model.system.as_deref().unwrap_or_default();
    let system = if request.system.is_empty() { own } else { request.system.as_str() };
    let mut messages = Vec::new();
    if !system.is_empty() {
        messages.push(Message::text(Role::SYSTEM, system));
    }
    if request.context.is_empty() {
        messages.extend(model.messages.iter().cloned());
    }
    messages.push(Message { images: request.images.clone(), ..Message::text(Role::USER, request.prompt.clone()) });
    messages
}

fn lines(request: GenerateRequest, events: Pieces<Event>, quiet: bool) -> Pieces<GenerateResponse> {
    let mut calls = Vec::new();
    Box::pin(events.filter_map(move |event| {
        let line = match event {
            Err(error) => Some(Err(error)),
            Ok(Event::Done(done)) => {
                let tool_calls = std::mem::take(&mut calls).into_iter().map(convert::wire_call).collect();
                let last = finish(line(&request.model), &request, done);
                Some(Ok(GenerateResponse { tool_calls, ..last }))
            }
            Ok(Event::Chunk(mut chunk)) => {
                calls.append(&mut chunk.tool_calls);
                (!quiet || !chunk.is_empty()).then(|| Ok(of_chunk(&request.model, chunk)))
            }
        };
        std::future::ready(line)
    }))
}

fn line(model: &str) -> GenerateResponse {
    GenerateResponse { model: model.to_owned(), created_at: convert::now(), ..GenerateResponse::default() }
}

/// The object that says a model was loaded or unloaded, and no more.
fn nothing(request: &GenerateRequest, done_reason: &'static str) -> GenerateResponse {
    GenerateResponse { done: true, done_reason, ..line(&request.model) }
}

fn of_chunk(model: &str, chunk: Chunk) -> GenerateResponse {
    GenerateResponse {
        response: chunk.content,
        thinking: chunk.thinking,
        logprobs: convert::wire_logprobs(chunk.logprobs),
        ..line(model)
    }
}

fn finish(line: GenerateResponse, request: &GenerateRequest, done: Done) -> GenerateResponse {
    GenerateResponse {
        done: true,
        done_reason: convert::reason(done.finish),
        metrics: convert::metrics(&done),
        context: if request.raw { Vec::new() } else { done.tokens },
        ..line
    }
}
