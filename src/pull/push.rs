//! The course of a push: each blob that the registry lacks, then the manifest, byte for byte as the store has it.
//!
//! Blobs go up in chunks of one upload session, in order, as every OCI registry takes them. Ollama's registry also offers
//! to take chunks in parallel at other addresses; it does so only to clients that say they can, and this one does not.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_stream::try_stream;
use futures_util::{Stream, TryStreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, Url};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::MissedTickBehavior;
use tokio_util::io::ReaderStream;

use super::http;
use super::registry::Registry;
use super::transfer::{Rate, backoff, blocking};
use super::{PullError, Puller, PushEvent};
use crate::store::{Descriptor, Manifest, Store, StoreError};
use crate::types::ModelName;

/// Bytes that are read from the disk in one go.
const BUFFER: usize = 256 << 10;
/// Bytes in a second at which a registry is expected to check what it was sent.
const CHECKING: u64 = 32 << 20;
const OCTETS: &str = "application/octet-stream";

impl Puller {
    /// Sends `name` to its registry. Dropped, the stream stops where it is.
    pub fn push(
        &self,
        name: ModelName,
        insecure: bool,
    ) -> impl Stream<Item = Result<PushEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            yield PushEvent::Retrieving;
            let (store, asked) = (puller.store().clone(), name.clone());
            let read = blocking(move || read(&store, &asked)).await?;
            if read.is_err() {
                yield PushEvent::NotRetrieved;
            }
            let (bytes, manifest) = read?;
            // What is being sent is not removed meanwhile.
            let _pins: Vec<_> = manifest.descriptors().map(|blob| puller.store().pin(blob.digest)).collect();
            let registry = puller.registry(&name, insecure).await?;

            for blob in manifest.descriptors() {
                let (digest, total) = (blob.digest, blob.size);
                if !is_there(&registry, blob).await? {
                    let sent = Arc::new(AtomicU64::new(0));
                    let mut upload = std::pin::pin!(puller.upload(&registry, blob, &sent));
                    let mut tick = tokio::time::interval(puller.settings().tick);
                    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    loop {
                        let ended = tokio::select! {
                            ended = &mut upload => Some(ended),
                            _ = tick.tick() => None,
                        };
                        if let Some(ended) = ended {
                            ended?;
                            break;
                        }
                        let completed = sent.load(Ordering::Relaxed).min(total);
                        yield PushEvent::Layer { digest, total, completed };
                    }
                }
                yield PushEvent::Layer { digest, total, completed: total };
            }
            yield PushEvent::Manifest;
            let kind = manifest.media_type.as_str().to_owned();
            let prepare = |request: RequestBuilder| request.header(CONTENT_TYPE, &kind).body(bytes.clone());
            let response = registry.send(Method::PUT, &registry.manifest_url(), &prepare).await?;
            accepted(&registry, response).await?;
            yield PushEvent::Done;
        }
    }

    /// Uploads a blob. When that fails in a way that may pass, it is gone on with where the registry says it is, or begun
    /// anew. Only tries that got nothing across count.
    async fn upload(&self, registry: &Registry, blob: &Descriptor, sent: &Arc<AtomicU64>) -> Result<(), PullError> {
        let (mut failures, mut session, mut best) = (0, None, 0);
        loop {
            sent.store(session.as_ref().map_or(0, |session: &Session| session.at), Ordering::Relaxed);
            let error = match self.try_upload(registry, blob, sent, &mut session).await {
                Err(error) if !error.is_transient() || error.is_refusal() => return Err(error),
                Err(error) => error,
                Ok(()) => return Ok(()),
            };
            // What has to be sent again is no progress.
            let mut farther = |session: &Option<Session>| {
                let at = session.as_ref().map_or(0, |session| session.at);
                let farther = at > best;
                best = best.max(at);
                farther
            };
            if farther(&session) {
                failures = 0;
            }
            if failures == self.settings().retries {
                return Err(PullError::Retries(Arc::new(error)));
            }
            failures += 1;
            let wait = error.retry_after().unwrap_or_else(|| backoff(self.settings(), failures));
            tokio::time::sleep(wait).await;
            if let Some(former) = session.take() {
                session = going_on(registry, &former, blob.size).await;
                if farther(&session) {
                    failures = 0;
                }
                // The answer to the last request may be all that got lost.
                if session.is_none() && former.at == blob.size && is_there(registry, blob).await? {
                    return Ok(());
                }
            }
        }
    }

    async fn try_upload(
        &self,
        registry: &Registry,
        blob: &Descriptor,
        sent: &Arc<AtomicU64>,
        known: &mut Option<Session>,
    ) -> Result<(), PullError> {
        let session = match known {
            Some(session) => session,
            None => match begin(registry, blob).await? {
                Some(url) => known.insert(Session { url, at: 0 }),
                None => return Ok(()),
            },
        };
        let path = self.store().blobs().path(&blob.digest);
        let stall = self.settings().stall;
        let rates = [self.inner.transfers.rate().clone(), Arc::new(Rate::new(self.limit))];
        while session.at < blob.size {
            let length = self.settings().upload.max(1).min(blob.size - session.at);
            let chunk = Chunk { path: path.clone(), at: session.at, length, rates: rates.clone() };
            let response = send_chunk(registry, &session.url, &chunk, sent, stall).await?;
            let response = accepted(registry, response).await?;
            session.url = next_session(&session.url, response.headers())?;
            session.at += length;
        }
        let mut commit = session.url.clone();
        commit.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let checking = stall + Duration::from_secs(blob.size / CHECKING);
        let response = send_patiently(registry, Method::PUT, &commit, checking).await?;
        accepted(registry, response).await.map(drop)
    }
}

fn read(store: &Store, name: &ModelName) -> Result<(Vec<u8>, Manifest), StoreError> {
    let (bytes, _) = store.tags().bytes(name)?;
    let manifest = Manifest::parse(&bytes)?;
    for blob in manifest.descriptors() {
        if store.blobs().size(&blob.digest) != Some(blob.size) {
            return Err(StoreError::MissingBlob(blob.digest));
        }
    }
    Ok((bytes, manifest))
}

async fn is_there(registry: &Registry, blob: &Descriptor) -> Result<bool, PullError> {
    let url = registry.blob_url(&blob.digest);
    let (response, _) = registry.follow(Method::HEAD, url, &|request| request).await?;
    match response.status().as_u16() {
        200 => Ok(true),
        404 => Ok(false),
        400.. => Err(registry.http.refusal(response).await),
        status => Err(PullError::Broken(format!("status {status} for a blob"))),
    }
}

/// An upload under way: where its rest is to go, and how much is there.
struct Session {
    url: Url,
    at: u64,
}

/// Begins an upload. `None` when the registry has the blob by that.
async fn begin(registry: &Registry, blob: &Descriptor) -> Result<Option<Url>, PullError> {
    let start = session_url(registry, blob);
    let empty = |request: RequestBuilder| request.header(CONTENT_LENGTH, 0);
    let response = accepted(registry, registry.send(Method::POST, &start, &empty).await?).await?;
    match response.status().as_u16() {
        201 => Ok(None),
        _ => next_session(&start, response.headers()).map(Some),
    }
}

/// How far an upload has come, as the registry sees it. `None` when it does not say.
async fn going_on(registry: &Registry, session: &Session, size: u64) -> Option<Session> {
    let response = registry.send(Method::GET, &session.url, &|request| request).await.ok()?;
    if response.status() != 204 {
        return None;
    }
    let range = response.headers().get(RANGE)?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    // `0-0` is what is said of nothing.
    let at = if last == 0 { 0 } else { last + 1 };
    let url = next_session(&session.url, response.headers()).unwrap_or_else(|_| session.url.clone());
    (at <= size).then_some(Session { url, at })
}

/// Where an upload begins. A layer that was taken from another model of the registry may be mounted from there.
fn session_url(registry: &Registry, blob: &Descriptor) -> Url {
    let mut url = registry.url("blobs/uploads/");
    let from = blob.from.as_deref().and_then(|from| ModelName::parse(from).ok());
    if let Some(from) = from.filter(|from| registry.is_named(from.host())) {
        url.query_pairs_mut()
            .append_pair("mount", &blob.digest.to_string())
            .append_pair("from", &format!("{}/{}", from.namespace(), from.model()));
    }
    url
}

/// Where the registry wants the rest of an upload.
fn next_session(from: &Url, headers: &HeaderMap) -> Result<Url, PullError> {
    let location = headers.get("docker-upload-location").or_else(|| headers.get(LOCATION));
    let location = location.and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| PullError::Broken("an upload without a location".into()))?;
    http::target(from, location)
}

async fn accepted(registry: &Registry, response: Response) -> Result<Response, PullError> {
    match response.status().as_u16() {
        200..300 => Ok(response),
        401 => Err(PullError::Unauthorized),
        400.. => Err(registry.http.refusal(response).await),
        status => Err(PullError::Broken(format!("status {status} for an upload"))),
    }
}

/// A part of a file.
struct Chunk {
    path: PathBuf,
    at: u64,
    length: u64,
    rates: [Arc<Rate>; 2],
}

impl Chunk {
    /// Its bytes, counted as they are taken, no faster than they may be.
    async fn body(&self, sent: &Arc<AtomicU64>) -> std::io::Result<Body> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.at)).await?;
        let sent = sent.clone();
        sent.store(self.at, Ordering::Relaxed);
        let (bytes, rates) = (ReaderStream::with_capacity(file.take(self.length), BUFFER), self.rates.clone());
        let paced = bytes.and_then(move |bytes| {
            let rates = rates.clone();
            async move {
                for rate in rates {
                    rate.take(bytes.len() as u64).await;
                }
                Ok(bytes)
            }
        });
        Ok(Body::wrap_stream(paced.inspect_ok(move |bytes| {
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        })))
    }
}

/// Sends a part of a blob, for as long as it moves.
async fn send_chunk(
    registry: &Registry,
    session: &Url,
    chunk: &Chunk,
    sent: &Arc<AtomicU64>,
    stall: Duration,
) -> Result<Response, PullError> {
    for _ in 0..3 {
        let (request, shown) = registry.begin(Method::PATCH, session).await?;
        let body = chunk.body(sent).await.map_err(StoreError::io("read", &chunk.path))?;
        let request = request
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, chunk.length)
            .header(CONTENT_RANGE, format!("{}-{}", chunk.at, chunk.at + chunk.length - 1))
            .body(body);
        let mut answer = std::pin::pin!(request.send());
        let answer = loop {
            let before = sent.load(Ordering::Relaxed);
            match tokio::time::timeout(stall, &mut answer).await {
                Ok(answer) => break answer,
                Err(_) if sent.load(Ordering::Relaxed) > before => {}
                Err(_) => return Err(PullError::Stalled(stall)),
            }
        };
        let response = answer.map_err(|error| http::transport(&Method::PATCH, session, error))?;
        if response.status() != 401 || !registry.is_own(session) {
            return Ok(response);
        }
        registry.unlock(&response, shown.as_ref()).await?;
    }
    Err(PullError::Unauthorized)
}

/// Sends a request without a body whose answer takes time.
async fn send_patiently(
    registry: &Registry,
    method: Method,
    url: &Url,
    patience: Duration,
) -> Result<Response, PullError> {
    for _ in 0..3 {
        let (request, shown) = registry.begin(method.clone(), url).await?;
        let answer = tokio::time::timeout(patience, request.header(CONTENT_LENGTH, 0).send()).await;
        let answer = answer.map_err(|_| PullError::Stalled(patience))?;
        let response = answer.map_err(|error| http::transport(&method, url, error))?;
        if response.status() != 401 || !registry.is_own(url) {
            return Ok(response);
        }
        registry.unlock(&response, shown.as_ref()).await?;
    }
    Err(PullError::Unauthorized)
}
