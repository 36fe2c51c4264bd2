//! One model's place in the scheduler, and whether it can serve a request as it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Lease, Resident, SchedulerError, Wanted};
use crate::engine::{LoadSpec, Runner};
use crate::types::KeepAlive;

/// Somebody who waits for a model.
pub(super) struct Waiter {
    pub(super) wanted: Box<Wanted>,
    pub(super) reply: oneshot::Sender<Result<Lease, SchedulerError>>,
    pub(super) since: Instant,
}

impl Waiter {
    pub(super) fn has_left(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn fail(self, error: SchedulerError) {
        self.reply.send(Err(error)).ok();
    }
}

pub(super) enum State {
    Loading { waiters: Vec<Waiter>, task: AbortHandle },
    Ready { runner: Arc<dyn Runner>, leases: usize },
}

pub(super) struct Place {
    pub(super) id: u64,
    pub(super) wanted: Box<Wanted>,
    pub(super) state: State,
    pub(super) keep_alive: KeepAlive,
    /// When the idle time is over; `None` while it is in use, and when it is kept for ever.
    pub(super) deadline: Option<Instant>,
    /// Takes no further requests: it goes when its last one ends.
    pub(super) leaving: bool,
    pub(super) used: Instant,
    /// For people: when it went idle last, and was to expire.
    expires: Option<SystemTime>,
}

impl Place {
    pub(super) fn new(id: u64, wanted: Box<Wanted>, state: State, default: KeepAlive) -> Self {
        let keep_alive = wanted.keep_alive.unwrap_or(default);
        let used = Instant::now();
        Self { id, wanted, state, keep_alive, deadline: None, leaving: false, used, expires: None }
    }

    pub(super) fn leases(&self) -> usize {
        match &self.state {
            State::Loading { waiters, .. } => waiters.len(),
            State::Ready { leases, .. } => *leases,
        }
    }

    /// Requests that it answers at once.
    fn turns(&self) -> usize {
        self.wanted.spec.parallel.max(1) as usize
    }

    /// A further request need not wait for another one's end.
    pub(super) fn has_turn(&self) -> bool {
        self.leases() < self.turns()
    }

    /// Requests that wait for others to end.
    pub(super) fn waiting(&self) -> usize {
        self.leases().saturating_sub(self.turns())
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Ready { leases: 0, .. })
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(&self.state, State::Ready { runner, .. } if !runner.is_alive())
    }

    pub(super) fn is_of(&self, spec: &LoadSpec) -> bool {
        self.wanted.spec.is_same_model(spec)
    }

    /// Whether it can serve a request that wants `spec`, of the same model. What the request leaves to the engine is not
    /// compared; a context larger than the one asked for will do, and so will a draft that was not asked for.
    pub(super) fn can_serve(&self, spec: &LoadSpec) -> bool {
        let (have, want) = (&self.wanted.spec, spec);
        let unless_auto = |want: i64, have: i64, auto: bool| auto || want == have;
        !self.leaving
            && (want.drafts.is_empty() || want.drafts == have.drafts)
            && want.options.num_ctx <= have.options.num_ctx
            && unless_auto(want.options.num_gpu, have.options.num_gpu, want.options.num_gpu < 0)
            && unless_auto(want.options.num_thread, have.options.num_thread, want.options.num_thread == 0)
            && want.options.num_batch == have.options.num_batch
            && have.guessing == want.guessing
            && (want.drafts.is_empty() || want.options.draft_num_predict == have.options.draft_num_predict)
            && (want.options.main_gpu.is_none() || want.options.main_gpu == have.options.main_gpu)
            && (want.options.use_mmap.is_none() || want.options.use_mmap == have.options.use_mmap)
    }

    /// Called when the last request has ended: starts the clock, or says that the time is over already.
    pub(super) fn went_idle(&mut self) -> bool {
        self.used = Instant::now();
        match self.keep_alive {
            _ if self.leaving => return true,
            KeepAlive::Unload => return true,
            KeepAlive::Forever => (self.deadline, self.expires) = (None, None),
            KeepAlive::For(time) => {
                self.deadline = self.used.checked_add(time);
                self.expires = SystemTime::now().checked_add(time);
            }
        }
        false
    }

    pub(super) fn describe(&self) -> Resident {
        let expires = match self.keep_alive {
            KeepAlive::Forever => None,
            KeepAlive::Unload => Some(SystemTime::now()),
            KeepAlive::For(time) => self.expires.or_else(|| SystemTime::now().checked_add(time)),
        };
        let report = match &self.state {
            State::Ready { runner, .. } => Some(runner.report().clone()),
            State::Loading { .. } => None,
        };
        Resident {
            name: self.wanted.name.clone(),
            digest: self.wanted.digest,
            report,
            num_ctx: self.wanted.spec.options.num_ctx,
            estimate: self.wanted.estimate,
            expires: if self.leaving { Some(SystemTime::now()) } else { expires },
            leases: self.leases(),
        }
    }
}

/// How long `since` is ago.
pub(super) fn waited(since: Instant) -> Duration {
    Instant::now().saturating_duration_since(since)
}
