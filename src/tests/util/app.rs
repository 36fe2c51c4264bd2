//! The router, called without a socket. Every answer is held against the contract.

use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};
use hanzod::api::{AppState, Hosts, ListCache, ModelCache, Origins, router};
use hanzod::engine::route::Defaults;
use hanzod::engine::{Engine, Quantizer};
use hanzod::pull::{PullSettings, Puller};
use hanzod::scheduler::{Scheduler, Settings};
use hanzod::store::Store;
use hanzod::store::modelfile::Modelfile;
use hanzod::types::Digest;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::ScriptedEngine;

pub struct TestApp {
    pub engine: ScriptedEngine,
    pub scheduler: Scheduler,
    pub store: Store,
    router: axum::Router,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// As they came.
    pub chunks: Vec<Bytes>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8(self.chunks.concat()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// One JSON value a chunk.
    pub fn lines(&self) -> Vec<Value> {
        self.chunks.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect()
    }

    /// The data of server-sent events.
    pub fn events(&self) -> Vec<String> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl TestApp {
    pub fn new() -> Self {
        let engine = ScriptedEngine::default();
        Self::of(Arc::new(engine.clone()), engine)
    }

    /// With the engines of the program, each model in a process of its own; the scripted one has no part in it.
    #[cfg(any(feature = "llama", feature = "mistral"))]
    pub fn real() -> Self {
        let engine =
            hanzod::engine::process::ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]);
        Self::of(Arc::new(engine), ScriptedEngine::default())
    }

    fn of(runs: Arc<dyn Engine>, engine: ScriptedEngine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let scheduler = Scheduler::start(runs, Settings::default());
        let router = router(AppState {
            store: store.clone(),
            scheduler: scheduler.clone(),
            quantizer: Quantizer::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]),
            puller: Puller::new(store.clone(), PullSettings::new(folder.path().join("key"))),
            defaults: Defaults::default(),
            go_template: None,
            origins: Origins::new(&[]),
            hosts: Hosts::loopback("box"),
            known: ModelCache::default(),
            listed: ListCache::default(),
        });
        Self { engine, scheduler, store, router, _folder: folder }
    }

    /// With the tiny model in it, made as a client makes one: `tiny` with a Go template, `tiny-jinja` without.
    pub async fn with_tiny() -> Self {
        Self::with_models("tiny-q4_k_m.gguf", "tiny-q4_k_m.gguf").await
    }

    /// As [`TestApp::with_tiny`], of these files.
    pub async fn with_models(tiny: &str, tiny_jinja: &str) -> Self {
        let app = Self::new();
        app.add_tiny(tiny, tiny_jinja).await;
        app
    }

    pub async fn add_tiny(&self, tiny: &str, tiny_jinja: &str) {
        let app = self;
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny");
        let modelfile = std::fs::read(models.join("Modelfile")).unwrap();
        let recipe = Modelfile::parse(&modelfile).unwrap().recipe().unwrap();
        let file = app.blob(&models.join(tiny)).await;
        let jinja = app.blob(&models.join(tiny_jinja)).await;
        app.create(json!({
            "model": "tiny", "files": { "tiny.gguf": file }, "template": recipe.template,
            "parameters": { "stop": ["<|im_end|>", "<|im_start|>", "<|endoftext|>"], "temperature": 0 }
        }))
        .await;
        app.create(json!({ "model": "tiny-jinja", "files": { "tiny.gguf": jinja } })).await;
    }

    /// The model `of` with a projector for images, as `name`.
    #[cfg(feature = "llama")]
    pub async fn add_projector(&self, of: &str, projector: &str, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/vision");
        let file = self.blob(&folder.join(projector)).await;
        self.create(json!({ "model": name, "from": of, "files": { "mmproj.gguf": file } })).await;
    }

    /// The tiny model in its makers' form, as `tiny-st`.
    #[cfg(feature = "mistral")]
    pub async fn add_safetensors(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-safetensors");
        let mut files = serde_json::Map::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, self.blob(&path).await.into());
        }
        self.create(json!({ "model": "tiny-st", "files": files })).await;
    }

    pub async fn create(&self, mut request: Value) {
        request["stream"] = false.into();
        let reply = self.post("/api/create", request).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "{\"status\":\"success\"}"));
    }

    async fn blob(&self, path: &Path) -> String {
        let content = std::fs::read(path).unwrap();
        let digest = Digest::of(&content).to_string();
        let reply = self.send(Method::POST, &format!("/api/blobs/{digest}"), &[], content).await;
        assert!([200, 201].contains(&reply.status));
        digest
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method.clone()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = self.read(request.body(body.into()).unwrap()).await;
        let body = if method == Method::HEAD { Vec::new() } else { reply.chunks.concat() };
        crate::spec::check(method.as_str(), path, reply.status, reply.header("content-type"), &body)
            .unwrap_or_else(|error| panic!("this is not in the contract: {error}"));
        reply
    }

    async fn read(&self, request: Request<Body>) -> Reply {
        let (parts, mut body) = self.begin(request).await.into_parts();
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.extend(frame.unwrap().into_data());
        }
        Reply { status: parts.status.as_u16(), headers: parts.headers, chunks }
    }

    /// An answer whose body is still to come.
    pub async fn begin(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }
}
