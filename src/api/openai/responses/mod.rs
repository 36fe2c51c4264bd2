//! `POST /v1/responses`. Nothing is kept: who goes on with a conversation brings all of it again.

mod input;
mod output;
mod stream;
mod tools;

use axum::extract::State;
use axum::response::Response;
use tokio::time::Instant;

use super::{answer, convert};
use crate::api::error::{ApiError, OpenAiError};
use crate::api::extract::OpenAi;
use crate::api::stream::sse;
use crate::api::turn::{Chat, Turn, Wish, fold};
use crate::api::{AppState, names};
use crate::wire::openai::responses::ResponsesRequest;
use tools::Names;

pub async fn responses(
    State(state): State<AppState>,
    OpenAi(mut request): OpenAi<ResponsesRequest>,
) -> Result<Response, OpenAiError> {
    let began = Instant::now();
    let messages = input::messages(&request.instructions, request.input.take())?;
    if messages.is_empty() {
        return Err(ApiError::invalid("input is required").into());
    }
    request.tools = tools::offered(request.tools);
    let names = Names::of(&request.tools);
    let chat = Chat { messages, tools: tools::all(&request.tools)? };
    let name = names::model(&request.model, || ApiError::invalid("model is required"))?;
    let turn = Turn::new(&state, &name, wish(&request)?, began).await?;
    let Some((loaded, prompt)) = turn.chat(&state, chat).await? else {
        return Err(ApiError::invalid("input is required").into());
    };
    let events = loaded.answer(prompt);
    let streamed = request.stream;
    let start = output::start(request);
    if streamed {
        return Ok(sse(stream::Stream::new(start, names).events(events), stream::frame).await?);
    }
    let (chunk, done) = fold(events).await?;
    Ok(answer(&output::whole(start, &names, chunk, &done)))
}

/// # Errors
/// A word that is no effort.
fn wish(request: &ResponsesRequest) -> Result<Wish, ApiError> {
    let effort = request.reasoning.as_ref().map(|reasoning| reasoning.effort.as_str());
    Ok(Wish {
        asked: request.model.clone(),
        options: input::options(request),
        think: convert::effort(effort.unwrap_or_default())?,
        format: convert::format_of(&request.text.format.kind, Some(&request.text.format.schema)),
        // said in so many words, it is meant: the prompt is not to be cut
        truncate: (request.truncation == "disabled").then_some(false),
        ..Wish::default()
    })
}
