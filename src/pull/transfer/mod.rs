//! The one piece of code that moves bytes in, for every source: one transfer per content, shared by all who wait for it.
//!
//! A transfer keeps a sparse partial file and a journal, fetches ranges over several connections ([`fetch`]), of which one
//! that is idle helps one that is slow ([`shares`]), hashes behind the part that has no gaps ([`job`]), and commits
//! ([`run`]). Whoever waits holds a [`Flight`]; when the last one is dropped the transfer stops, and its partial stays for
//! the next try.

mod fetch;
mod job;
mod journal;
mod progress;
mod rate;
mod reply;
mod run;
mod shares;
mod spans;

pub(super) use fetch::backoff;
pub(super) use progress::{Progress, Step};
pub(super) use rate::Rate;
pub(super) use reply::{content_range, strong_etag};

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use futures_util::future::BoxFuture;
use reqwest::header::{IF_RANGE, RANGE};
use reqwest::{RequestBuilder, Response};
use sha1::{Digest as _, Sha1};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{PullError, PullSettings};
use crate::store::{Pin, Store};
use crate::types::{ByteRate, Digest};

/// What a transfer is to bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Names the transfer, and its partial on disk.
    pub(super) key: Digest,
    pub(super) size: u64,
    pub(super) proof: Proof,
}

/// How content is known to be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The key is its digest.
    Sha256,
    /// git's own hash of it; the key stands for that.
    Git(GitHash),
    /// Nothing is known of it. The key stands for one state of it on its server, so that a later process may go on with
    /// what is there; unless the server has no name for that state.
    Nothing { resumable: bool },
}

/// The name that git gives to content: the SHA-1 of a head and the content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct GitHash(pub(super) [u8; 20]);

impl GitHash {
    /// `None` unless it is 40 lower-case hexadecimal digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }

    /// Of content of which `size` bytes are to come.
    pub(super) fn begin(size: u64) -> Sha1 {
        Sha1::new_with_prefix(format!("blob {size}\0"))
    }
}

impl fmt::Display for GitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for GitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Wanted {
    pub(super) fn digest(digest: Digest, size: u64) -> Self {
        Self { key: digest, size, proof: Proof::Sha256 }
    }

    pub(super) fn git(hash: GitHash, size: u64) -> Self {
        Self { key: Digest::of(format!("git {hash}").as_bytes()), size, proof: Proof::Git(hash) }
    }

    /// What is at `address` in the state that `state` names, if the server has a name for it.
    pub(super) fn unknown(address: &str, state: Option<&str>, size: u64) -> Self {
        let key = format!("url {address}\n{}\n{size}", state.unwrap_or_default());
        let proof = Proof::Nothing { resumable: state.is_some() };
        Self { key: Digest::of(key.as_bytes()), size, proof }
    }

    /// What comes can be told from what does not belong to it.
    pub(super) fn is_proven(&self) -> bool {
        !matches!(self.proof, Proof::Nothing { .. })
    }

    /// The content's digest, where it is known beforehand.
    pub(super) fn known(&self) -> Option<Digest> {
        (self.proof == Proof::Sha256).then_some(self.key)
    }
}

/// Where the bytes of one blob can be had.
pub(super) trait Remote: Send + Sync + 'static {
    /// Asks for `range`, or for all, and gives an answer of status 200 or 206; any other is an error. The range is wanted
    /// only if the content still has the name `etag`.
    fn get<'a>(
        &'a self,
        range: Option<Range<u64>>,
        etag: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Response, PullError>>;

    /// What answered last did not do well: the next request is to begin at the beginning again.
    fn forget(&self);

    /// What came was wrong. Whoever sent it is not asked again, if there is anybody else: then gives true.
    fn distrust(&self) -> bool {
        false
    }
}

/// The headers that ask for `range`, if the content still has the name `etag`.
pub(super) fn ranged(request: RequestBuilder, range: Option<&Range<u64>>, etag: Option<&str>) -> RequestBuilder {
    let Some(range) = range else { return request };
    let request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
    match etag {
        Some(etag) => request.header(IF_RANGE, etag),
        None => request,
    }
}

/// The transfers under way, by their keys.
#[derive(Clone, Debug)]
pub(super) struct Transfers {
    store: Store,
    settings: Arc<PullSettings>,
    flights: Flights,
    /// All of them together.
    rate: Arc<Rate>,
}

/// A std mutex: held for single map operations.
#[derive(Clone, Debug, Default)]
struct Flights(Arc<Mutex<HashMap<Digest, Weak<Flight>>>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Flight>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A share in a transfer. The last one that is dropped cancels it.
#[derive(Debug)]
pub(super) struct Flight {
    key: Digest,
    completed: Arc<AtomicU64>,
    rate: Arc<Rate>,
    outcome: watch::Receiver<Option<Result<Pin, PullError>>>,
    task: AbortHandle,
    flights: Flights,
}

impl Transfers {
    pub(super) fn new(store: Store, settings: Arc<PullSettings>) -> Self {
        let rate = Arc::new(Rate::new(settings.limit));
        Self { store, settings, flights: Flights::default(), rate }
    }

    /// The limit that all transfers share.
    pub(super) fn rate(&self) -> &Arc<Rate> {
        &self.rate
    }

    /// Joins the transfer of `wanted` that is under way, or starts one, no faster than `limit`.
    pub(super) fn join(&self, wanted: Wanted, remote: Arc<dyn Remote>, limit: Option<ByteRate>) -> Arc<Flight> {
        let key = wanted.key;
        // Declared first, so dropped last: the drop of a flight takes the lock.
        let running;
        let mut flights = self.flights.lock();
        running = flights.get(&key).and_then(Weak::upgrade);
        if let Some(flight) = running.as_ref().filter(|flight| flight.outcome.borrow().is_none()) {
            flight.rate.raise(limit);
            return flight.clone();
        }
        let rate = Arc::new(Rate::new(limit));
        let rates = [self.rate.clone(), rate.clone()];
        let completed = Arc::new(AtomicU64::new(0));
        let (teller, outcome) = watch::channel(None);
        let work = run::run(self.store.clone(), self.settings.clone(), wanted, remote, completed.clone(), rates);
        let task = tokio::spawn(async move {
            let result = work.await;
            teller.send_replace(Some(result));
        });
        let flight = Arc::new(Flight {
            key,
            completed,
            rate,
            outcome,
            task: task.abort_handle(),
            flights: self.flights.clone(),
        });
        flights.insert(key, Arc::downgrade(&flight));
        flight
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.flights.lock().len()
    }
}

impl Flight {
    /// Bytes that are there.
    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Waits for the end of the transfer, and gives what came, which stays for as long as it is held.
    pub(super) async fn wait(&self) -> Result<Pin, PullError> {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(PullError::Interrupted)),
            Err(_) => Err(PullError::Interrupted),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
        let mut flights = self.flights.lock();
        if flights.get(&self.key).is_some_and(|flight| flight.strong_count() == 0) {
            flights.remove(&self.key);
        }
    }
}

/// Runs what blocks, away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PullError::Interrupted)
}
