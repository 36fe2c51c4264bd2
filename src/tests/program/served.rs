//! A registry in this process that counts what it sends, as slowly as it is told to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hanzod::types::Digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore as _;
use serde_json::{Value, json};

pub const CONFIG: &[u8] = b"{\"model_format\":\"gguf\"}";

/// Whatever name is asked for, it has the one model.
pub struct Registry {
    model: Mutex<Model>,
    piece: usize,
    /// After each piece of a body.
    pause: Mutex<Duration>,
    sent: AtomicU64,
}

#[derive(Clone)]
struct Model {
    blobs: HashMap<String, Bytes>,
    manifest: String,
}

/// Bytes that no disk makes fewer.
pub fn noise(random: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

impl Model {
    fn of(layers: &[(&str, Vec<u8>)]) -> Self {
        let mut blobs = HashMap::new();
        let mut blob = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes).to_string();
            let told = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
            blobs.insert(digest, Bytes::copy_from_slice(bytes));
            told
        };
        let config = blob("application/vnd.docker.container.image.v1+json", CONFIG);
        let layers: Vec<Value> =
            layers.iter().map(|(kind, bytes)| blob(&format!("application/vnd.ollama.image.{kind}"), bytes)).collect();
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }).to_string();
        Self { blobs, manifest }
    }
}

impl Registry {
    /// Layers by the last word of their media types.
    pub fn new(layers: &[(&str, Vec<u8>)], piece: usize, pause: Duration) -> Arc<Self> {
        let model = Mutex::new(Model::of(layers));
        Arc::new(Self { model, piece, pause: Mutex::new(pause), sent: AtomicU64::new(0) })
    }

    /// From now on it has this model.
    pub fn replace(&self, layers: &[(&str, Vec<u8>)]) {
        *self.model.lock().unwrap() = Model::of(layers);
    }

    pub fn hurry(&self) {
        *self.pause.lock().unwrap() = Duration::ZERO;
    }

    /// Each blob's digest, and how many bytes it is long.
    pub fn blobs(&self) -> Vec<(Digest, u64)> {
        let model = self.model.lock().unwrap();
        model.blobs.iter().map(|(digest, bytes)| (digest.parse().unwrap(), bytes.len() as u64)).collect()
    }

    pub fn size(&self) -> u64 {
        self.blobs().iter().map(|(_, size)| size).sum()
    }

    /// Bytes of blobs up to now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Gives its address.
    pub async fn serve(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = self.clone();
        let app = axum::Router::new().fallback(move |request: Request| {
            let registry = registry.clone();
            async move { registry.answer(&request) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    fn answer(self: &Arc<Self>, request: &Request) -> Response {
        let path = request.uri().path();
        let model = self.model.lock().unwrap().clone();
        if path.contains("/manifests/") {
            return model.manifest.into_response();
        }
        let Some(blob) = path.rsplit('/').next().and_then(|digest| model.blobs.get(digest)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let total = blob.len();
        let asked = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
        let bounds = asked.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let bounds =
            bounds.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse::<usize>().map_or(total, |to| to + 1)));
        let (from, to) = bounds.unwrap_or((0, total));
        let body = blob.slice(from..to);
        let pieces: Vec<_> = body.chunks(self.piece).map(|piece| body.slice_ref(piece)).collect();
        let (registry, pause) = (self.clone(), *self.pause.lock().unwrap());
        let body = stream::iter(pieces).then(move |piece| {
            let registry = registry.clone();
            async move {
                tokio::time::sleep(pause).await;
                registry.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(piece)
            }
        });
        let length = (header::CONTENT_LENGTH, (to - from).to_string());
        match bounds {
            None => ([length], Body::from_stream(body)).into_response(),
            Some(_) => {
                let range = (header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", to - 1));
                (StatusCode::PARTIAL_CONTENT, [length, range], Body::from_stream(body)).into_response()
            }
        }
    }
}
