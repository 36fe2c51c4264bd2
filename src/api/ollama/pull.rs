//! `POST /api/pull` and `/api/push`.

use axum::extract::State;
use axum::response::Response;
use futures_util::{Stream, StreamExt as _};

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError};
use crate::api::extract::Ollama;
use crate::api::models::blocking;
use crate::api::names;
use crate::api::progress::respond;
use crate::api::stream::Pieces;
use crate::pull::{PullError, PullEvent, Puller, PushEvent, Source, SourceError, SourceKind};
use crate::store::StoreError;
use crate::types::byte_rate::{ByteRate, InvalidRate};
use crate::types::{Digest, ModelName};
use crate::wire::ollama::{Progress, PullRequest, PushRequest};

pub async fn pull(
    State(state): State<AppState>,
    Ollama(request): Ollama<PullRequest>,
) -> Result<Response, OllamaError> {
    let asked = if request.model.is_empty() { &request.name } else { &request.model };
    let source = source(asked, &request.source)?;
    // Beside a `model` from elsewhere, `name` is what it is to be called.
    let called = match &source {
        Source::Registry(_) => None,
        _ if request.model.is_empty() || request.name.is_empty() => None,
        _ => Some(ModelName::parse(&request.name).map_err(ApiError::invalid_name)?),
    };
    let puller = state.puller.limited(limit(&request.limit_rate)?);
    let progress = bring(&puller, source, called, request.insecure);
    Ok(respond(request.stream.unwrap_or(true), Box::pin(progress)).await)
}

fn source(asked: &str, given: &str) -> Result<Source, ApiError> {
    let invalid = |error: SourceError| ApiError::invalid(error.to_string());
    let registered = || names::model(asked, || ApiError::invalid("invalid model name"));
    match SourceKind::of(asked, given) {
        Ok(SourceKind::Registry) => registered().map(Source::Registry),
        Ok(kind) => Source::parse(kind, asked).map_err(invalid),
        // What Ollama would say of the name goes before what it does not know.
        Err(error) => Err(registered().err().unwrap_or_else(|| invalid(error))),
    }
}

/// How fast it may be; nothing for as fast as it can.
fn limit(rate: &str) -> Result<Option<ByteRate>, ApiError> {
    let invalid = |error: InvalidRate| ApiError::invalid(format!("invalid limit_rate {rate:?}: {error}"));
    Some(rate).filter(|rate| !rate.is_empty()).map(str::parse).transpose().map_err(invalid)
}

/// A pull as progress.
pub fn bring(
    puller: &Puller,
    source: Source,
    called: Option<ModelName>,
    insecure: bool,
) -> impl Stream<Item = Result<Progress, ApiError>> + Send + 'static + use<> {
    puller.pull_from(source, called, insecure).map(|event| Ok(pulled(event?)))
}

fn pulled(event: PullEvent) -> Progress {
    Progress::status(match event {
        PullEvent::Manifest => "pulling manifest",
        PullEvent::Layer { digest, total, completed } => return layer("pulling", digest, total, completed),
        PullEvent::File { name, key, total, completed } => {
            return Progress { status: format!("pulling {name}"), digest: key.to_string(), total, completed };
        }
        PullEvent::Verifying => "verifying sha256 digest",
        PullEvent::Writing => "writing manifest",
        PullEvent::Pruning => "removing unused layers",
        PullEvent::Done => "success",
    })
}

fn layer(doing: &str, digest: Digest, total: u64, completed: u64) -> Progress {
    Progress { status: format!("{doing} {}", digest.short()), digest: digest.to_string(), total, completed }
}

pub async fn push(
    State(state): State<AppState>,
    Ollama(request): Ollama<PushRequest>,
) -> Result<Response, OllamaError> {
    let asked = if request.model.is_empty() { request.name } else { request.model };
    if asked.is_empty() {
        return Err(ApiError::invalid("model is required").into());
    }
    let name = ModelName::parse(&asked).map_err(ApiError::invalid_name)?;
    let (stream, puller) = (request.stream.unwrap_or(true), state.puller.limited(limit(&request.limit_rate)?));
    Ok(respond(stream, send(state, puller, name, request.insecure)).await)
}

fn send(state: AppState, puller: Puller, name: ModelName, insecure: bool) -> Pieces<Progress> {
    Box::pin(async_stream::try_stream! {
        let mut events = std::pin::pin!(puller.push(name.clone(), insecure));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => yield pushed(event),
                Err(error) => Err(absent(&state, &name, error).await)?,
            }
        }
    })
}

fn pushed(event: PushEvent) -> Progress {
    Progress::status(match event {
        PushEvent::Retrieving => "retrieving manifest",
        PushEvent::NotRetrieved => "couldn't retrieve manifest",
        PushEvent::Layer { digest, total, completed } => return layer("pushing", digest, total, completed),
        PushEvent::Manifest => "pushing manifest",
        PushEvent::Done => "success",
    })
}

/// What Ollama says of a model that is not there to be pushed is what its file system said.
async fn absent(state: &AppState, name: &ModelName, error: PullError) -> ApiError {
    let missing = matches!(&error, PullError::Store(error) if matches!(**error, StoreError::NotFound(_)));
    if !missing {
        return error.into();
    }
    let (store, name) = (state.store.clone(), name.clone());
    let path = blocking(move || Ok::<_, StoreError>(store.layout().manifest(&store.tags().resolve(&name)))).await;
    path.map_or_else(
        |error| error,
        |path| ApiError::Internal(format!("open {}: no such file or directory", path.display())),
    )
}
