//! A registry in this process that serves honestly unless a test tells it to lie.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};

use crate::store::{Descriptor, Manifest, MediaType};
use crate::types::Digest;

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first and last byte that were asked for.
    pub(super) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().unwrap()))
    }

    pub(super) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

/// A model's manifest and its blobs.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) manifest: Bytes,
    pub(super) blobs: HashMap<Digest, Bytes>,
    /// In the order of the manifest: the layers, then the config.
    pub(super) order: Vec<Digest>,
}

impl Content {
    /// A model with one layer of each of these sizes.
    pub(super) fn new(sizes: &[usize]) -> Self {
        let blob = |kind, bytes: &[u8]| Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64);
        let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| noise(*size)).collect();
        let config = b"{\"model_format\":\"gguf\"}".to_vec();
        let layers: Vec<_> = bodies.iter().map(|body| blob(MediaType::Model, body)).collect();
        let manifest = Manifest::new(blob(MediaType::Config, &config), layers);
        let order = manifest.descriptors().map(|blob| blob.digest).collect();
        let blobs = bodies.into_iter().chain([config]).map(|body| (Digest::of(&body), body.into()));
        Self { manifest: manifest.to_bytes().into(), order, blobs: blobs.collect() }
    }

    pub(super) fn with_manifest(mut self, manifest: impl Into<Bytes>) -> Self {
        self.manifest = manifest.into();
        self
    }

    /// The honest answer.
    pub(super) fn serve(&self, seen: &Seen) -> Response {
        if seen.path.contains("/manifests/") {
            return self.manifest.clone().into_response();
        }
        let digest = seen.path.rsplit('/').next().and_then(|name| name.parse().ok());
        let Some(body) = digest.and_then(|digest: Digest| self.blobs.get(&digest)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        match seen.range() {
            None => body.clone().into_response(),
            Some((first, last)) => part(first, last, body.len(), body.slice(first..=last)),
        }
    }

    /// The bytes that an honest answer would have, and how it would begin.
    pub(super) fn body(&self, seen: &Seen) -> Bytes {
        let digest = seen.path.rsplit('/').next().and_then(|name| name.parse().ok());
        let body = digest.and_then(|digest: Digest| self.blobs.get(&digest)).cloned().unwrap_or_default();
        seen.range().map_or(body.clone(), |(first, last)| body.slice(first..=last))
    }
}

/// Bytes without a pattern, the same for the same length.
pub(super) fn noise(size: usize) -> Vec<u8> {
    let mut state = size as u64 + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

pub(super) fn part(first: usize, last: usize, total: usize, body: impl Into<Body>) -> Response {
    let range = format!("bytes {first}-{last}/{total}");
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], body.into()).into_response()
}

pub(super) fn redirect(status: u16, location: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, location.to_owned())]).into_response()
}

/// The same head, but only the first `length` bytes, after which the connection breaks.
pub(super) fn broken_off(response: Response, whole: &Bytes, length: usize) -> Response {
    let body = whole.slice(..length.min(whole.len()));
    let end: Result<Bytes, io::Error> = Err(io::Error::other("broken off"));
    // hyper drops what it has not yet written when the body fails.
    let pause =
        stream::once(async { tokio::time::sleep(Duration::from_millis(5)).await }).filter_map(|()| async { None });
    rebody(response, whole.len(), Body::from_stream(stream::iter([Ok(body)]).chain(pause).chain(stream::iter([end]))))
}

/// The same head, but only the first `length` bytes, after which nothing comes any more.
pub(super) fn stalled(response: Response, whole: &Bytes, length: usize) -> Response {
    let body: Result<Bytes, Infallible> = Ok(whole.slice(..length.min(whole.len())));
    rebody(response, whole.len(), Body::from_stream(stream::iter([body]).chain(stream::pending())))
}

pub(super) fn rebody(response: Response, length: usize, body: Body) -> Response {
    let (mut head, _) = response.into_parts();
    head.headers.insert(header::CONTENT_LENGTH, length.into());
    Response::from_parts(head, body)
}

type Answer = dyn Fn(&Seen) -> Response + Send + Sync;

/// Listens until it is dropped.
pub(super) struct Registry {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Registry {
    pub(super) async fn new(answer: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::<Mutex<Vec<Seen>>>::default();
        let (answer, kept): (Arc<Answer>, _) = (Arc::new(answer), log.clone());
        let app = axum::Router::new().fallback(move |request: Request| {
            let (answer, kept) = (answer.clone(), kept.clone());
            async move {
                let (head, body) = request.into_parts();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    headers: head.headers,
                    body: axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default(),
                };
                kept.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, log, task }
    }

    pub(super) async fn honest(content: &Content) -> Self {
        let content = content.clone();
        Self::new(move |seen| content.serve(seen)).await
    }

    /// One that has the manifest, and leads to `store` for the blobs.
    pub(super) async fn leading_to(store: &Self, content: &Content) -> Self {
        let (honest, there) = (content.clone(), store.url(""));
        Self::new(move |seen| match seen.is_blob() {
            true => redirect(307, &format!("{there}{}", seen.path)),
            false => honest.serve(seen),
        })
        .await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn name(&self) -> String {
        format!("{}/team/tiny:latest", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn blobs_seen(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_blob).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}
