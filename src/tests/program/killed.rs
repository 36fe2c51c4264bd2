//! A pull whose server is killed, over and over: what has a name is whole at every moment, what has come is not fetched
//! again, and in the end the model is there without anybody's help.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use hanzod::types::Digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use super::harness::{Home, PATIENCE, Server};
use super::store::check;

const KILLS: u64 = 200;
/// What a kill may cost: the bytes between the wire and the journal, on every connection.
const LOST: u64 = 4 << 20;
const PIECE: usize = 64 << 10;

/// A registry of one model, a little slow, that counts what it sends.
struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    manifest: String,
    sent: AtomicU64,
}

impl Registry {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let mut blobs = HashMap::new();
        let mut blob = |kind: &str, bytes: Vec<u8>| {
            let digest = Digest::of(&bytes).to_string();
            let told = json!({ "mediaType": kind, "digest": digest, "size": bytes.len() });
            blobs.insert(digest, bytes);
            told
        };
        let mut noise = |length: usize| {
            let mut bytes = vec![0; length];
            random.fill_bytes(&mut bytes);
            bytes
        };
        let config = blob("application/vnd.docker.container.image.v1+json", b"{\"model_format\":\"gguf\"}".to_vec());
        let layers = json!([
            blob("application/vnd.ollama.image.model", noise(40 << 20)),
            blob("application/vnd.ollama.image.projector", noise(5 << 20)),
            blob("application/vnd.ollama.image.license", b"as you like".to_vec()),
        ]);
        let kind = "application/vnd.docker.distribution.manifest.v2+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }).to_string();
        Self { blobs, manifest, sent: AtomicU64::new(0) }
    }

    fn size(&self) -> u64 {
        self.blobs.values().map(|blob| blob.len() as u64).sum()
    }

    fn answer(self: &Arc<Self>, request: &Request) -> Response {
        let path = request.uri().path();
        if path.contains("/manifests/") {
            return self.manifest.clone().into_response();
        }
        let Some(blob) = path.rsplit('/').next().and_then(|digest| self.blobs.get(digest)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let total = blob.len();
        let asked = request.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
        let bounds = asked.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let bounds =
            bounds.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse::<usize>().map_or(total, |to| to + 1)));
        let (from, to) = bounds.unwrap_or((0, total));
        let pieces: Vec<_> = blob[from..to].chunks(PIECE).map(<[u8]>::to_vec).collect();
        let registry = self.clone();
        let body = stream::iter(pieces).then(move |piece| {
            let registry = registry.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(2)).await;
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

async fn serve(registry: Arc<Registry>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = axum::Router::new().fallback(move |request: Request| {
        let registry = registry.clone();
        async move { registry.answer(&request) }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// Pulls until the model is there, or for `time` from the first line on. Notes how far each blob was said to be.
async fn pull(server: &Server, model: &str, time: Duration, seen: &mut HashMap<String, u64>) -> bool {
    let request = server.http.post(format!("{}/api/pull", server.urls[0]));
    let body = json!({ "model": model, "insecure": true }).to_string();
    let mut here = HashMap::new();
    let mut text = Vec::new();
    let mut answer = request.body(body).send().await.unwrap().bytes_stream();
    let end = Instant::now() + time;
    while let Ok(Some(bytes)) = tokio::time::timeout_at(end.into(), answer.next()).await {
        text.extend_from_slice(&bytes.unwrap());
        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&text[..at]).unwrap();
            text.drain(..=at);
            assert!(line.get("error").is_none(), "{line}");
            if line["status"] == "success" {
                return true;
            }
            let (Some(digest), Some(completed)) = (line["digest"].as_str(), line["completed"].as_u64()) else {
                continue;
            };
            let before = here.insert(digest.to_owned(), completed);
            assert!(before.is_none_or(|before| before <= completed), "progress went back from {before:?}: {line}");
            let earlier = seen.entry(digest.to_owned()).or_insert(0);
            assert!(completed + LOST >= *earlier, "{earlier} bytes had come: {line}");
            *earlier = completed;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_lose_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(200);
    let registry = Arc::new(Registry::new(&mut random));
    let address = serve(registry.clone()).await;
    let model = format!("{address}/library/random:latest");
    let home = Home::new();
    let (mut seen, mut arrived, mut interrupted) = (HashMap::new(), 0, 0);
    for kill in 0..KILLS {
        let server = Server::start(&home);
        let millis = u64::from(random.next_u32() % 120);
        let before = registry.sent.load(Ordering::Relaxed);
        let whole = pull(&server, &model, Duration::from_millis(millis), &mut seen).await;
        // Dropped, the server is killed: SIGKILL, in whatever it does.
        drop(server);
        interrupted += u64::from(!whole && registry.sent.load(Ordering::Relaxed) > before);
        let manifests = check(&home.store());
        assert!(manifests == 1 || !whole, "kill {kill}: success was said, and there is no model");
        if manifests == 1 {
            arrived += 1;
            home.good(&["rm", &model]);
            seen.clear();
        }
    }
    let server = Server::start(&home);
    assert!(pull(&server, &model, PATIENCE, &mut seen).await, "it did not end");
    assert_eq!(check(&home.store()), 1);
    let (sent, wanted) = (registry.sent.load(Ordering::Relaxed), registry.size() * (arrived + 1));
    println!("{interrupted} of {KILLS} in mid-transfer, {arrived} models arrived; {sent} bytes sent for {wanted}");
    assert!(interrupted >= KILLS / 10, "only {interrupted} kills fell into a transfer");
    assert!(sent <= wanted + interrupted * LOST, "{sent} bytes were sent for {wanted}");
    drop(server);
    assert_eq!(std::fs::read_dir(home.store().join("blobs")).unwrap().count(), 4, "nothing is left behind");
}
