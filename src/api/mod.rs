//! Floor 5: HTTP. The whole route table stands here.
//!
//! A handler extracts, calls and converts. Dialects differ in how a request becomes a [`turn`] and how its pieces are
//! written; between the two there is one way.

mod anthropic;
mod embed;
mod error;
mod extract;
mod full;
mod hanzod;
mod id;
mod listed;
mod middleware;
mod models;
mod names;
mod ollama;
mod openai;
mod progress;
mod registry;
mod routes;
mod stream;
mod turn;

pub use full::router as full;
pub use hanzod::link::Inside;
pub use listed::Cache as ListCache;
pub use middleware::{Hosts, Origins};
pub use models::Cache as ModelCache;
pub use registry::Registry;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};

use crate::engine::Quantizer;
use crate::engine::route::Defaults;
use crate::pull::Puller;
use crate::scheduler::Scheduler;
use crate::store::Store;
use routes::{delete, get, get_head, post, post_head};

/// The version of Ollama whose API this is.
pub const OLLAMA_VERSION: &str = "0.33.0";

/// What the handlers share. The server makes one for each listener; clones share what they hold.
#[derive(Clone, Debug)]
pub struct AppState {
    pub store: Store,
    pub scheduler: Scheduler,
    pub puller: Puller,
    pub quantizer: Quantizer,
    pub defaults: Defaults,
    /// `OLLAMA_GO_TEMPLATE`, when it is set.
    pub go_template: Option<bool>,
    pub origins: Origins,
    pub hosts: Hosts,
    pub known: ModelCache,
    pub listed: ListCache,
    pub registry: Registry,
}

/// Every route.
pub fn router(state: AppState) -> Router {
    let table = [
        ("/", get_head(ollama::ops::root)),
        ("/api/version", get_head(ollama::ops::version)),
        ("/api/status", get(ollama::ops::status)),
        ("/api/tags", get_head(ollama::models::tags)),
        ("/api/ps", get(ollama::models::ps)),
        ("/api/show", post(ollama::show::show)),
        ("/api/generate", post(ollama::generate::generate)),
        ("/api/chat", post(ollama::chat::chat)),
        ("/api/embed", post(ollama::embed::embed)),
        ("/api/embeddings", post(ollama::embed::embeddings)),
        ("/api/create", post(ollama::create::create)),
        ("/api/pull", post(ollama::pull::pull)),
        ("/api/push", post(ollama::pull::push)),
        ("/api/copy", post(ollama::models::copy)),
        ("/api/delete", delete(ollama::models::delete)),
        ("/api/blobs/{digest}", post_head(ollama::blobs::post, ollama::blobs::head)),
        ("/api/me", post(ollama::ops::me)),
        ("/api/signout", post(ollama::ops::signout)),
        ("/api/user/keys/{key}", delete(ollama::ops::signout)),
        ("/api/experimental/web_search", post(ollama::ops::web_search)),
        ("/api/experimental/web_fetch", post(ollama::ops::web_fetch)),
        ("/api/experimental/model-recommendations", get(ollama::ops::recommendations)),
        ("/api/hanzod/df", get(hanzod::store::df)),
        ("/api/hanzod/prune", post(hanzod::store::prune)),
        ("/api/hanzod/verify", post(hanzod::verify::verify)),
        ("/api/hanzod/link", post(hanzod::link::link)),
        ("/api/hanzod/scan", post(hanzod::link::scan)),
        ("/api/hanzod/export/{*model}", get(hanzod::archive::export)),
        ("/api/hanzod/import", post(hanzod::archive::import)),
        ("/api/hanzod/import/{*model}", post(hanzod::archive::import)),
        ("/v2/", get_head(registry::root)),
        ("/v2/_catalog", get_head(registry::catalog)),
        ("/v2/{namespace}/{model}/tags/list", get_head(registry::tags)),
        ("/v2/{namespace}/{model}/manifests/{reference}", get_head(registry::manifest)),
        ("/v2/{namespace}/{model}/blobs/{digest}", get_head(registry::blob)),
        ("/v1/chat/completions", post(openai::chat::chat)),
        ("/v1/completions", post(openai::completions::completions)),
        ("/v1/embeddings", post(openai::embeddings::embeddings)),
        ("/v1/responses", post(openai::responses::responses)),
        ("/v1/models", get(openai::models::list)),
        ("/v1/models/{*model}", get(openai::models::one)),
        ("/v1/messages", post(anthropic::messages::messages)),
    ];
    routes::build(table.into())
        .layer(from_fn(middleware::unpack))
        .layer(from_fn(middleware::hold))
        .layer(from_fn_with_state(state.hosts.clone(), middleware::hosts))
        .layer(from_fn_with_state(state.origins.clone(), middleware::cors))
        .layer(from_fn(middleware::trace))
        .with_state(state)
}
