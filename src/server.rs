//! The composition root: store, puller, scheduler and router put together, and served until the program is told to stop.

mod connections;
mod patient;
mod queues;
mod seats;

use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::api::{self, AppState, Hosts, ListCache, ModelCache, Origins, Registry};
use crate::config::{Config, Endpoint};
use crate::engine::process::ProcessEngine;
use crate::engine::route::Defaults;
use crate::engine::{Quantizer, Saving};
use crate::pull::{HubSettings, PullSettings, Puller, Secret};
use crate::scheduler::{self, Scheduler};
use crate::store::{Store, StoreError};
use connections::{Connections, Routers};

/// Running answers may end for this long after the program was told to stop.
const GRACE: Duration = Duration::from_secs(30);
/// Between two looks for files that may go.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Models resident at once when nobody says.
const MAX_LOADED: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("{0}")]
    Taken(String),
    #[error("nowhere to listen: every address is `off`")]
    Nowhere,
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

/// Puts the rooms together. The engine is for waiting until it has ended.
fn compose(config: &Config) -> Result<(AppState, ProcessEngine), ServerError> {
    let store = Store::open_with(&config.models, &config.extra_stores)?;
    let store = if config.no_prune { store.keep_replaced() } else { store };
    let engine =
        ProcessEngine::of_this_program().map_err(|source| ServerError::System { what: "find this program", source })?;
    let quantizer =
        Quantizer::of_this_program().map_err(|source| ServerError::System { what: "find this program", source })?;
    let settings = scheduler::Settings {
        keep_alive: config.keep_alive,
        max_loaded: if config.max_loaded == 0 { MAX_LOADED } else { config.max_loaded },
        max_queue: config.max_queue,
        load_timeout: config.load_timeout,
        ..scheduler::Settings::default()
    };
    let saving = config.prompt_cache.map(|most| Saving { folder: store.layout().prompts(), bytes: most.bytes() });
    let state = AppState {
        scheduler: Scheduler::start(Arc::new(engine.clone()), settings),
        quantizer,
        puller: Puller::new(store.clone(), pull_settings(config)),
        store,
        defaults: Defaults {
            context: config.context_length,
            parallel: config.num_parallel,
            available: None,
            guessing: config.guessing,
            saving,
        },
        go_template: config.go_template,
        origins: Origins::new(&config.origins),
        hosts: Hosts::any(),
        known: ModelCache::default(),
        listed: ListCache::default(),
        registry: Registry::new(config.registry, &config.registry_upstream),
    };
    Ok((state, engine))
}

fn pull_settings(config: &Config) -> PullSettings {
    let (hub, transfers) = (&config.hub, &config.transfers);
    let usual = PullSettings::new(config.key.clone());
    PullSettings {
        hub: HubSettings {
            endpoint: hub.endpoint.clone(),
            token: hub.token.as_ref().map(|token| Secret::new(token.expose().to_owned())),
            token_file: Some(hub.token_file.clone()),
            cache: hub.cache.clone(),
            share: hub.share,
            offline: hub.offline,
        },
        hosts: config.pull_hosts.clone(),
        private_addresses: transfers.private_addresses,
        limit: transfers.limit,
        streams: transfers.streams.unwrap_or(usual.streams),
        mirrors: transfers.mirrors.clone(),
        default_registry: transfers.default_registry.clone(),
        ca_file: transfers.ca_file.clone(),
        ..usual
    }
}

/// Whose `Host` a listener looks at: one that only this machine reaches is guarded against pages that name it.
fn hosts(address: SocketAddr) -> Hosts {
    match address.ip().is_loopback() {
        true => Hosts::loopback(&machine_name()),
        false => Hosts::any(),
    }
}

/// This machine's name; empty where the system does not tell it in a file.
fn machine_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    name.unwrap_or_default().trim().to_owned()
}

/// What tells the program to stop: SIGTERM and SIGINT, heard from the moment this is made.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> Result<Self, ServerError> {
        let hear = |kind| signal(kind).map_err(|source| ServerError::System { what: "wait for signals", source });
        Ok(Self { terminate: hear(SignalKind::terminate())?, interrupt: hear(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {} _ = self.interrupt.recv() => {} }
    }
}

/// Serves until SIGTERM or SIGINT; running answers may then end, unless it is told a second time, and saved prompts are written,
/// unless it is told once more. `only` replaces the two usual addresses.
///
/// # Errors
/// When no address can be listened on, or the store cannot be opened.
pub async fn serve(config: Config, only: Vec<Endpoint>) -> Result<(), ServerError> {
    let mut stops = Stops::listen()?;
    let listeners = bind(&config, only).await?;
    let (state, engine) = compose(&config)?;
    for (_, address) in &listeners {
        // The line that scripts wait for. They need not read on.
        writeln!(std::io::stderr(), "hanzod is listening on http://{address}").ok();
    }
    let mut sweeping = JoinSet::new();
    if !config.no_prune {
        sweeping.spawn(sweep(state.store.clone()));
    }

    let (stop, stopped) = watch::channel(false);
    let connections = Connections::new();
    let mut accepting = Vec::new();
    for (listener, address) in listeners {
        let state = AppState { hosts: hosts(address), ..state.clone() };
        let routers = Routers { full: api::full(&state.origins, &state.hosts), usual: api::router(state) };
        accepting.push(tokio::spawn(connections.clone().accept(listener, routers, stopped.clone())));
    }
    drop((state, stopped));

    stops.next().await;
    tracing::info!("told to stop: running answers have {} s to end", GRACE.as_secs());
    stop.send(true).ok();
    for task in accepting {
        task.await.ok();
    }
    let in_time = tokio::select! {
        () = connections.end() => true,
        () = tokio::time::sleep(GRACE) => false,
        () = stops.next() => false,
    };
    let end = async {
        if !in_time {
            tracing::warn!("answers that were still running are cut off");
            connections.cut().await;
        }
        // What runners know is saved, however answers ended.
        engine.ended().await;
    };
    tokio::select! { () = end => {} () = stops.next() => {} }
    Ok(())
}

/// Binds what can be bound. An address that is taken is said and left out; it is an error when none is left.
async fn bind(config: &Config, only: Vec<Endpoint>) -> Result<Vec<(TcpListener, SocketAddr)>, ServerError> {
    let usual = || config.own.iter().chain(&config.compatible).cloned().collect();
    let endpoints: Vec<Endpoint> = if only.is_empty() { usual() } else { only };
    let mut bound = Vec::new();
    let mut taken = Vec::new();
    for endpoint in endpoints {
        match listen(&endpoint).await {
            Ok(listener) => bound.push(listener),
            Err(error) => taken.push(error.to_string()),
        }
    }
    match (bound.is_empty(), taken.is_empty()) {
        (false, _) => {
            taken.iter().for_each(|reason| drop(writeln!(std::io::stderr(), "hanzod: {reason}")));
            Ok(bound)
        }
        (true, false) => Err(ServerError::Taken(taken.join("; "))),
        (true, true) => Err(ServerError::Nowhere),
    }
}

async fn listen(endpoint: &Endpoint) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address: endpoint.url(), source };
    let addresses = endpoint.addresses().ok_or_else(|| failed(std::io::Error::other("the name is unknown")))?;
    let listener = TcpListener::bind(&*addresses).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Removes old files that nothing names, behind the server's back: now and every hour.
async fn sweep(store: Store) {
    let mut hours = tokio::time::interval(HOUR);
    loop {
        hours.tick().await;
        let store = store.clone();
        let freed = tokio::task::spawn_blocking(move || store.sweep()).await.unwrap_or(0);
        if freed > 0 {
            tracing::info!(freed_bytes = freed, "files that no model uses were removed");
        }
    }
}

/// The router without a network, for the command line when no server answers.
pub struct InProcess {
    router: Router,
}

type BodyStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

impl InProcess {
    /// # Errors
    /// When the store cannot be opened.
    pub fn start(config: &Config) -> Result<Self, ServerError> {
        Ok(Self { router: api::router(compose(config)?.0) })
    }

    /// Calls a route as a client on this machine would.
    ///
    /// # Errors
    /// When method and path make no request.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<BodyStream>,
    ) -> Result<(u16, BodyStream), axum::http::Error> {
        let body = body.map_or_else(Body::empty, Body::from_stream);
        let request = Request::builder().method(method).uri(path).header("host", "localhost").extension(api::Inside);
        let request = request.body(body)?;
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status().as_u16();
        Ok((status, Box::pin(response.into_body().into_data_stream().map_err(std::io::Error::other))))
    }
}
