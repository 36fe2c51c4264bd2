//! The one piece of code that moves bytes in, for every source: one transfer per digest, shared by all who wait for it.
//!
//! A transfer keeps a sparse partial file and a journal, takes ranges from one queue over several connections, hashes
//! behind the part that has no gaps, and commits. Whoever waits holds a [`Flight`]; when the last one is dropped the
//! transfer stops, and its partial stays for the next try.

mod job;
mod journal;
mod reply;
mod run;
mod spans;

pub(super) use run::backoff;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use futures_util::future::BoxFuture;
use reqwest::Response;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{PullError, PullSettings};
use crate::store::Store;
use crate::types::Digest;

/// Where the bytes of one blob can be had.
pub(super) trait Remote: Send + Sync + 'static {
    /// Asks for `range`, or for all, and gives an answer of status 200 or 206; any other is an error.
    fn get(&self, range: Option<Range<u64>>) -> BoxFuture<'_, Result<Response, PullError>>;

    /// What answered last did not do well: the next request is to begin at the beginning again.
    fn forget(&self);
}

/// The transfers under way, by digest.
#[derive(Clone, Debug)]
pub(super) struct Transfers {
    store: Store,
    settings: Arc<PullSettings>,
    flights: Flights,
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
    digest: Digest,
    completed: Arc<AtomicU64>,
    outcome: watch::Receiver<Option<Result<(), PullError>>>,
    task: AbortHandle,
    flights: Flights,
}

impl Transfers {
    pub(super) fn new(store: Store, settings: Arc<PullSettings>) -> Self {
        Self { store, settings, flights: Flights::default() }
    }

    /// Joins the transfer of `digest` that is under way, or starts one.
    pub(super) fn join(&self, digest: Digest, size: u64, remote: Arc<dyn Remote>) -> Arc<Flight> {
        // Declared first, so dropped last: the drop of a flight takes the lock.
        let running;
        let mut flights = self.flights.lock();
        running = flights.get(&digest).and_then(Weak::upgrade);
        if let Some(flight) = running.as_ref().filter(|flight| flight.outcome.borrow().is_none()) {
            return flight.clone();
        }
        let completed = Arc::new(AtomicU64::new(0));
        let (teller, outcome) = watch::channel(None);
        let work = run::run(self.store.clone(), self.settings.clone(), digest, size, remote, completed.clone());
        let task = tokio::spawn(async move {
            let result = work.await;
            teller.send_replace(Some(result));
        });
        let flight =
            Arc::new(Flight { digest, completed, outcome, task: task.abort_handle(), flights: self.flights.clone() });
        flights.insert(digest, Arc::downgrade(&flight));
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

    /// Waits for the end of the transfer.
    pub(super) async fn wait(&self) -> Result<(), PullError> {
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
        if flights.get(&self.digest).is_some_and(|flight| flight.strong_count() == 0) {
            flights.remove(&self.digest);
        }
    }
}

/// Runs what blocks, away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PullError::Interrupted)
}
