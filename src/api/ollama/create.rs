//! `POST /api/create`.

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::convert;
use super::pull::bring;
use super::quantize::{Step, quantize};
use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError};
use crate::api::extract::Ollama;
use crate::api::names::{self, Base};
use crate::api::progress::respond;
use crate::api::stream::Pieces;
use crate::create::{CreateError, CreateFile, CreateInfo, CreateRequest, create as make, quantizations};
use crate::prompt::go_prompt::GoPrompt;
use crate::pull::Source;
use crate::store::{Store, StoreError};
use crate::types::ModelName;
use crate::types::chat::OrderedMap;
use crate::wire::ollama::{self as wire, Progress};

pub async fn create(
    State(state): State<AppState>,
    Ollama(request): Ollama<wire::CreateRequest>,
) -> Result<Response, OllamaError> {
    let asked = if request.model.is_empty() { &request.name } else { &request.model };
    for (path, digest) in request.files.iter().chain(request.draft_files.iter()) {
        CreateFile::new(path, digest)?;
    }
    let quantizes_draft = !request.draft_quantize.is_empty();
    if quantizes_draft && request.draft_files.0.is_empty() && request.from.is_empty() {
        return Err(CreateError::NoDraft.into());
    }
    let name = ModelName::parse(asked).map_err(ApiError::invalid_name)?;
    let stream = request.stream.unwrap_or(true);
    Ok(respond(stream, run(state, name, request)).await)
}

/// The work, whose errors are told where its progress is.
fn run(state: AppState, name: ModelName, request: wire::CreateRequest) -> Pieces<Progress> {
    Box::pin(async_stream::try_stream! {
        let mut request = convert_request(name, request)?;
        if let Some(from) = request.from.clone().filter(|from| is_absent(&state.store, from)) {
            let mut base = std::pin::pin!(bring(&state.puller, Source::Registry(from), None, false));
            while let Some(progress) = base.next().await {
                let progress = progress?;
                if progress.status != "success" {
                    yield progress;
                }
            }
        }
        let (store, checked) = (state.store.clone(), request.clone());
        let check = tokio::task::spawn_blocking(move || {
            let mut told = Vec::new();
            let steps = quantizations(&store, &checked, |event| told.push(Progress::status(event.to_string())));
            steps.map(|steps| (told, steps)).map_err(|error| in_ollamas_words(&store, error))
        });
        let (told, steps) = check.await.map_err(ApiError::internal)??;
        for progress in told {
            yield progress;
        }
        for step in steps {
            for await step in quantize(state.store.clone(), &state.quantizer, step) {
                match step? {
                    Step::Told(progress) => yield progress,
                    Step::Done(done) => request.quantized.push(done),
                }
            }
        }
        let (send, receive) = mpsc::unbounded_channel();
        let (store, told) = (state.store.clone(), send.clone());
        let work = tokio::task::spawn_blocking(move || {
            let events = |event: crate::create::CreateEvent| drop(told.send(Ok(Progress::status(event.to_string()))));
            if let Err(error) = make(&store, request, events) {
                told.send(Err(in_ollamas_words(&store, error))).ok();
            }
        });
        drop(send);
        for await progress in UnboundedReceiverStream::new(receive) {
            yield progress?;
        }
        work.await.map_err(ApiError::internal)?;
    })
}

fn convert_request(name: ModelName, request: wire::CreateRequest) -> Result<CreateRequest, ApiError> {
    let (from, remote) = match request.from.as_str() {
        "" if request.remote_host.is_empty() => (None, None),
        text => match names::base(text, &request.remote_host)? {
            Base::Here(name) => (Some(name), None),
            Base::Elsewhere(remote) => (None, Some(remote)),
        },
    };
    if from.is_none() && remote.is_none() && request.files.0.is_empty() {
        return Err(CreateError::NoSource.into());
    }
    if !request.template.is_empty() {
        GoPrompt::parse(&request.template).map_err(|error| ApiError::Invalid(format!("template error: {error}")))?;
    }
    let files = |map: &OrderedMap<String>| {
        map.iter().map(|(path, digest)| CreateFile::new(path, digest)).collect::<Result<Vec<_>, _>>()
    };
    let set = |first: &str, second: &str| [first, second].into_iter().find(|text| !text.is_empty()).map(str::to_owned);
    Ok(CreateRequest {
        from,
        remote,
        files: files(&request.files)?,
        adapters: files(&request.adapters)?,
        drafts: files(&request.draft_files)?,
        info: CreateInfo::parse(&request.info)?,
        licenses: licenses(request.license),
        parameters: request.parameters,
        messages: request.messages.into_iter().map(convert::message).collect(),
        quantize: set(&request.quantize, &request.quantization),
        draft_quantize: set(&request.draft_quantize, ""),
        template: request.template,
        system: request.system,
        renderer: request.renderer,
        parser: request.parser,
        requires: request.requires,
        ..CreateRequest::new(name)
    })
}

/// There is no such name. (One that is broken is an error of its own.)
fn is_absent(store: &Store, name: &ModelName) -> bool {
    matches!(store.tags().get(name), Err(StoreError::NotFound(_)))
}

/// One text or several.
fn licenses(license: Value) -> Vec<String> {
    match license {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// What Ollama says of a blob that is not there is what its file system said.
fn in_ollamas_words(store: &Store, error: CreateError) -> ApiError {
    match error {
        CreateError::Store(StoreError::MissingBlob(digest)) => {
            let path = store.blobs().path(&digest);
            ApiError::Internal(format!("open {}: no such file or directory", path.display()))
        }
        error => error.into(),
    }
}
