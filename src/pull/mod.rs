//! Floor 2: bringing models in and out: over the protocol of OCI registries as Ollama speaks it, from the Hugging Face hub,
//! and from addresses.
//!
//! [`Puller::pull_from`] and [`Puller::push`] are streams of typed events. [`source`] tells where a model comes from;
//! [`registry`], [`huggingface`] (with [`hub_cache`]) and [`direct`] ask there, [`auth`] proves who asks, [`http`] holds the rules for every
//! request, and [`transfer`] moves the bytes, for whatever source.
//!
//! Invariant: nothing a server says is believed. Names of blobs are hashes that were computed here, lengths are held
//! against the manifest, redirects lead neither from HTTPS to HTTP nor from the internet into a private network, and no
//! secret follows them.

mod address;
mod assemble;
mod auth;
mod direct;
mod download;
mod error;
mod event;
mod http;
mod hub;
mod hub_cache;
mod huggingface;
mod key;
mod mlx;
mod pick;
mod push;
mod registry;
mod repository;
mod site;
mod source;
mod transfer;

#[cfg(test)]
mod tests;

pub use auth::{Credentials, Secret};
pub use direct::Address;
pub use error::PullError;
pub use event::{PullEvent, PushEvent};
pub use huggingface::HubSettings;
pub use repository::Repository;
pub use source::{Source, SourceError, SourceKind};

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};

use crate::store::{Store, Turns};
use crate::types::name::DEFAULT_HOST;
use crate::types::{ByteRate, Digest, HostList, ModelName};

/// The version of Ollama that registries are told we keep up with: they gate models on it.
const OLLAMA_VERSION: &str = "0.33.0";

/// Everything that a test wants shorter, or a user other.
#[derive(Clone, Debug)]
pub struct PullSettings {
    pub user_agent: String,
    /// The ed25519 key, in OpenSSH's form; made when it is first needed and missing.
    pub key: PathBuf,
    /// The only hosts that are spoken to, wherever their names come from.
    pub hosts: HostList,
    /// By the registry's host, with its port where the name has one.
    pub credentials: HashMap<String, Credentials>,
    pub hub: HubSettings,
    /// Registries' hosts, and the addresses that are asked before them, in order.
    pub mirrors: Vec<(String, Vec<String>)>,
    /// The address that stands for Ollama's registry. Names stay as they are.
    pub default_registry: Option<String>,
    /// Certificates, in PEM, that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Files may be pulled from addresses in private networks, and over plain HTTP.
    pub private_addresses: bool,
    /// Registries (first) whose tokens come from another host (second).
    pub realms: Vec<(String, String)>,
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the head of an answer is there, or all of a small answer.
    pub header: Duration,
    /// Until the next bytes of a body come.
    pub stall: Duration,
    /// A body that brings less than `slow_floor` bytes in this time is given up for another connection.
    pub slow_window: Duration,
    pub slow_floor: u64,
    /// Tries of a connection that bring nothing, after the first.
    pub retries: u32,
    /// Before the first of them; doubled for each that follows.
    pub backoff: Duration,
    /// Connections for one blob.
    pub streams: usize,
    /// Of all transfers and pushes together.
    pub limit: Option<ByteRate>,
    /// A connection without work of its own helps one that needs longer than this with what it has.
    pub race: Duration,
    /// Bytes that are worth a connection of their own then.
    pub half: u64,
    /// Bytes in one request.
    pub range: RangeInclusive<u64>,
    /// Bytes between two syncs of a download: what a power cut may cost.
    pub sync: u64,
    /// Bytes in one request of a push.
    pub upload: u64,
    /// Bytes of the disk that a pull leaves free.
    pub reserve: u64,
    /// Between two events of one blob.
    pub tick: Duration,
}

impl PullSettings {
    pub fn new(key: PathBuf) -> Self {
        Self {
            user_agent: user_agent(),
            key,
            hosts: HostList::any(),
            credentials: HashMap::new(),
            hub: HubSettings::default(),
            mirrors: Vec::new(),
            default_registry: None,
            ca_file: None,
            private_addresses: false,
            realms: Vec::new(),
            connect: Duration::from_secs(15),
            header: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            slow_window: Duration::from_secs(60),
            slow_floor: 60 << 10,
            retries: 6,
            backoff: Duration::from_secs(1),
            streams: 8,
            limit: None,
            race: Duration::from_secs(2),
            half: 1 << 20,
            range: 8 << 20..=32 << 20,
            sync: 64 << 20,
            upload: 64 << 20,
            reserve: 64 << 20,
            tick: Duration::from_millis(60),
        }
    }
}

fn user_agent() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("ollama/{OLLAMA_VERSION} ({arch} {system}) hanzod/{}", env!("CARGO_PKG_VERSION"))
}

/// Brings models into a store and out of it. Clones share their connections, tokens and transfers.
#[derive(Clone, Debug)]
pub struct Puller {
    inner: Arc<Inner>,
    /// Of what is begun through this very one.
    limit: Option<ByteRate>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: Arc<PullSettings>,
    transfers: transfer::Transfers,
    auth: auth::SharedAuth,
    /// Files that are taken in from this machine, by what names their content.
    taking: Turns<Digest>,
    /// Made when it is first needed: a machine without certificates can still serve what it has.
    http: OnceLock<Arc<http::Http>>,
}

impl Puller {
    pub fn new(store: Store, settings: PullSettings) -> Self {
        let settings = Arc::new(settings);
        Self {
            inner: Arc::new(Inner {
                transfers: transfer::Transfers::new(store.clone(), settings.clone()),
                auth: Arc::new(auth::Auth::new(&settings)),
                taking: Turns::default(),
                http: OnceLock::new(),
                store,
                settings,
            }),
            limit: None,
        }
    }

    /// The same, which keeps each transfer to `limit`. Of several who wait for one transfer, the one who wants it fastest
    /// has his way.
    pub fn limited(&self, limit: Option<ByteRate>) -> Self {
        Self { inner: self.inner.clone(), limit }
    }

    /// Brings a model in from where it is, under `name` if that is given. A registry's model keeps its own name.
    pub fn pull_from(
        &self,
        source: Source,
        name: Option<ModelName>,
        insecure: bool,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let name = name.unwrap_or_else(|| source.name());
        match source {
            Source::Registry(own) => match Repository::of_registry(&own) {
                Some(repository) => self.pull_hub_name(repository, own, insecure),
                None => self.pull(own, insecure).boxed(),
            },
            Source::Direct(address) => self.pull_direct(address, name).boxed(),
            Source::HuggingFace(repository) => self.pull_repository(repository, name).boxed(),
        }
    }

    /// Downloads under way, each counted once however many wait for it.
    pub fn transfers_under_way(&self) -> usize {
        self.inner.transfers.count()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn settings(&self) -> &PullSettings {
        &self.inner.settings
    }

    fn join(&self, wanted: transfer::Wanted, remote: Arc<dyn transfer::Remote>) -> Arc<transfer::Flight> {
        self.inner.transfers.join(wanted, remote, self.limit)
    }

    fn http(&self) -> Result<Arc<http::Http>, PullError> {
        if let Some(http) = self.inner.http.get() {
            return Ok(http.clone());
        }
        // A failure is not kept: what is missing now, certificates or a free descriptor, may be there next time.
        let http = Arc::new(http::Http::new(&self.inner.settings)?);
        Ok(self.inner.http.get_or_init(|| http).clone())
    }

    async fn registry(&self, name: &ModelName, insecure: bool) -> Result<registry::Registry, PullError> {
        let (http, auth) = (self.http()?, self.inner.auth.clone());
        match &self.inner.settings.default_registry {
            Some(address) if name.host() == DEFAULT_HOST => registry::Registry::at(http, auth, name, address),
            _ => registry::Registry::open(http, auth, name, insecure).await,
        }
    }

    /// Who may have `name`: the mirrors of its registry, then the registry.
    async fn registries(&self, name: &ModelName, insecure: bool) -> Result<Vec<Arc<registry::Registry>>, PullError> {
        let origin = self.registry(name, insecure).await?;
        let of_host = |(host, _): &&(String, Vec<String>)| host.eq_ignore_ascii_case(name.host());
        let mirrors = self.inner.settings.mirrors.iter().filter(of_host).flat_map(|(_, addresses)| addresses);
        let at = |address: &String| registry::Registry::at(self.http()?, self.inner.auth.clone(), name, address);
        mirrors.map(at).chain([Ok(origin)]).map(|registry| registry.map(Arc::new)).collect()
    }
}
