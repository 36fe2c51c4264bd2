//! Floor 4: which models are resident.
//!
//! A [`Scheduler`] is a handle to one task that owns every loaded model. [`Scheduler::acquire`] gives a [`Lease`]; while it
//! lives the model stays. What is loaded and fits is leased at once; the rest waits, first come first served, for a load,
//! one load at a time, and the idle model that was used longest ago makes room. When there is none, the busy model that was
//! loaded longest ago takes nobody in any more after a while, so that nobody waits for ever.
//!
//! Those who wait are bounded in number, whether for a load or for their turn at a model that answers as many as it can.
//!
//! Invariant: dropping the future of `acquire` gives up the place in the queue, and a load that nobody waits for any more
//! is ended.

mod actor;
mod fit;
mod lease;
mod resident;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, EngineError, LoadSpec, RunnerReport};
use crate::types::{Digest, KeepAlive};

pub use crate::engine::available_memory;
pub use lease::Lease;

/// What the scheduler goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For models that no request has given one.
    pub keep_alive: KeepAlive,
    /// Models resident at once.
    pub max_loaded: usize,
    /// Requests that may wait, for a load or for others to end.
    pub max_queue: usize,
    /// A load that takes longer is given up; `None` waits for ever.
    pub load_timeout: Option<Duration>,
    /// Bytes that a further model may take; asked before each load.
    pub available: fn() -> Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_alive: KeepAlive::DEFAULT,
            max_loaded: 3,
            max_queue: 512,
            load_timeout: Some(Duration::from_secs(300)),
            available: available_memory,
        }
    }
}

/// A model that a request needs.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name to show.
    pub name: String,
    /// Of the manifest.
    pub digest: Digest,
    pub spec: LoadSpec,
    /// Bytes it is expected to take.
    pub estimate: u64,
    /// Set by requests that say so; it then holds for later ones too.
    pub keep_alive: Option<KeepAlive>,
}

/// A model that is loaded, or being loaded.
#[derive(Clone, Debug)]
pub struct Resident {
    pub name: String,
    pub digest: Digest,
    /// `None` while it is being loaded.
    pub report: Option<RunnerReport>,
    /// Context of one sequence that was asked for.
    pub num_ctx: i64,
    pub estimate: u64,
    /// `None` is never.
    pub expires: Option<SystemTime>,
    /// Requests that use it now.
    pub leases: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchedulerError {
    #[error("server busy, please try again.  maximum pending requests exceeded")]
    Busy,
    #[error("timed out waiting for the model to load")]
    Timeout,
    #[error("the server is shutting down")]
    Stopped,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A handle; clones reach the same models.
#[derive(Clone, Debug)]
pub struct Scheduler {
    commands: mpsc::UnboundedSender<actor::Command>,
}

impl Scheduler {
    /// Starts the task. It ends, and unloads everything, when the last handle and the last lease are dropped.
    pub fn start(engine: Arc<dyn Engine>, settings: Settings) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        // The task's own handle must not keep it alive.
        let own = commands.downgrade();
        tokio::spawn(actor::Actor::new(engine, settings, own).run(inbox));
        Self { commands }
    }

    /// Waits until the model is there.
    ///
    /// # Errors
    /// [`SchedulerError::Busy`] when too many wait already; why the model could not be loaded.
    pub async fn acquire(&self, wanted: Wanted) -> Result<Lease, SchedulerError> {
        let (reply, answer) = oneshot::channel();
        let request = actor::Command::Acquire { wanted: Box::new(wanted), reply };
        self.commands.send(request).map_err(|_| SchedulerError::Stopped)?;
        let mut note = LeavingNote { commands: &self.commands, armed: true };
        let lease = answer.await.unwrap_or(Err(SchedulerError::Stopped));
        note.armed = false;
        lease
    }

    /// Unloads the model that `spec` is of: at once when it is idle, else when its last request ends.
    /// False when it was not loaded.
    pub async fn unload(&self, spec: &LoadSpec) -> bool {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(actor::Command::Unload { spec: Box::new(spec.clone()), reply }).is_ok();
        sent && answer.await.unwrap_or(false)
    }

    /// What is loaded or being loaded. Never waits for a load.
    pub async fn residents(&self) -> Vec<Resident> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(actor::Command::List { reply }).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

/// Tells the task that somebody has stopped waiting.
struct LeavingNote<'a> {
    commands: &'a mpsc::UnboundedSender<actor::Command>,
    armed: bool,
}

impl Drop for LeavingNote<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.commands.send(actor::Command::Left).ok();
        }
    }
}

#[cfg(test)]
mod tests;
