//! Models as files: `GET /api/hanzod/export/:model` writes an archive while it is read from the store, and
//! `POST /api/hanzod/import` takes one in as it comes.

use std::io::{self, Read, Write};

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::AppState;
use crate::api::error::{ApiError, OllamaError, json};
use crate::api::extract::Upload;
use crate::api::models::blocking;
use crate::api::names;
use crate::create::archive;
use crate::types::ModelName;
use crate::wire::hanzod::Imported;

/// Bytes that go over in one piece.
const PIECE: usize = 256 << 10;
/// Pieces that wait for the other side.
const WAITING: usize = 8;

fn name(text: &str) -> Result<ModelName, ApiError> {
    names::model(text, || ApiError::invalid("model is required"))
}

pub async fn export(State(state): State<AppState>, Path(model): Path<String>) -> Result<Response, OllamaError> {
    let name = name(&model)?;
    let export = blocking(move || archive::export(&state.store, &name)).await?;
    let (send, receive) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(PIECE, Out(send.clone()));
        if let Err(error) = export.write(out) {
            tracing::warn!(%error, "an export ends early");
            // Breaks the answer off: a client must not take it for whole.
            send.blocking_send(Err(error)).ok();
        }
    });
    let body = Body::from_stream(ReceiverStream::new(receive));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

pub async fn import(
    State(state): State<AppState>,
    model: Option<Path<String>>,
    body: Body,
) -> Result<Response, OllamaError> {
    let name = model.map(|Path(model)| name(&model)).transpose()?;
    let (send, receive) = mpsc::channel(WAITING);
    let input = In { receive, piece: Bytes::new() };
    let work = tokio::spawn(blocking(move || archive::import(&state.store, input, name.as_ref())));
    let mut upload = Upload::new(body);
    let mut broken = None;
    loop {
        match upload.next().await {
            Ok(Some(piece)) => {
                // Nobody takes it: the import has come to its end.
                if send.send(Ok(piece)).await.is_err() {
                    upload.linger().await;
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                send.send(Err(io::Error::other(error.to_string()))).await.ok();
                broken = Some(error);
                break;
            }
        }
    }
    drop(send);
    let models = work.await.map_err(ApiError::internal)?;
    if let Some(error) = broken {
        return Err(error.into());
    }
    let models = models?;
    Ok(json(&Imported { status: "success", models: models.iter().map(ModelName::short).collect() }))
}

/// Hands bytes to the answer.
struct Out(mpsc::Sender<io::Result<Bytes>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes bytes from the request.
struct In {
    receive: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for In {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receive.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
