//! Files of this machine that become models without a copy. The command line's own process asks for that, and nobody over a
//! network: a path is no business of a client's.

use std::path::PathBuf;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Ollama;
use crate::api::models::blocking;
use crate::api::names;
use crate::api::progress::{Teller, working};
use crate::create::{LinkEvent, LinkRequest, link as take, scan as search};
use crate::store::{StoreError, Taken};
use crate::types::Digest;
use crate::wire::hanzod::{self as wire, FoundFile, Scanned};
use crate::wire::ollama::Progress;

/// Marks a request that this process makes of itself.
#[derive(Clone, Copy, Debug)]
pub struct Inside;

fn only_inside(inside: Option<Extension<Inside>>) -> Result<(), ApiError> {
    inside.map(drop).ok_or_else(|| ApiError::Forbidden("only `hanzod link` on this machine takes files by path".into()))
}

pub async fn link(
    State(state): State<AppState>,
    inside: Option<Extension<Inside>>,
    Ollama(request): Ollama<wire::LinkRequest>,
) -> Result<Response, OllamaError> {
    only_inside(inside)?;
    let name = match request.name.is_empty() {
        true => None,
        false => Some(names::model(&request.name, || ApiError::invalid("model is required"))?),
    };
    let more = request.more.iter().map(PathBuf::from).collect();
    let asked = LinkRequest { name, file: request.path.into(), more, copy: request.copy };
    let work = move |teller: &mut Teller<Progress>| {
        let mut tell = |event: LinkEvent| match &event {
            LinkEvent::Reading { total, completed, .. } => teller.step(*completed, *total, || progress(&event)),
            LinkEvent::Taken { .. } | LinkEvent::Made(_) => teller.tell(progress(&event)),
        };
        take(&state.store, &asked, &mut tell).map(drop).map_err(ApiError::from)
    };
    Ok(working(request.stream.unwrap_or(true), work).await)
}

fn progress(event: &LinkEvent) -> Progress {
    match event {
        LinkEvent::Reading { file, total, completed } => Progress {
            status: format!("reading {}", file.file_name().unwrap_or_default().to_string_lossy()),
            digest: Digest::of(file.as_os_str().as_encoded_bytes()).to_string(),
            total: *total,
            completed: *completed,
        },
        LinkEvent::Taken { file, taken } => {
            let how = match taken {
                Taken::Present => "its content was there already",
                Taken::Cloned => "cloned, it shares blocks with the original",
                Taken::Linked => "linked, the original is the same file and read-only now",
                Taken::Copied => "copied",
            };
            Progress::status(format!("{}: {how}", file.display()))
        }
        LinkEvent::Made(event) => Progress::status(event.to_string()),
    }
}

pub async fn scan(
    State(state): State<AppState>,
    inside: Option<Extension<Inside>>,
    Ollama(request): Ollama<wire::ScanRequest>,
) -> Result<Response, OllamaError> {
    only_inside(inside)?;
    let folders: Vec<PathBuf> = request.folders.iter().map(PathBuf::from).collect();
    let found = blocking(move || Ok::<_, StoreError>(search(&state.store, &folders))).await?;
    let file = |file: crate::create::LooseGguf| FoundFile {
        path: file.path.display().to_string(),
        size: file.size,
        parts: file.parts,
        linked: file.linked,
    };
    Ok(json(&Scanned { files: found.into_iter().map(file).collect() }))
}
