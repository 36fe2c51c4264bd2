//! What those who wait for a transfer are told of it: how far it is, now and then, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::Flight;
use crate::pull::PullError;
use crate::store::Pin;

/// A transfer that is watched.
pub(in crate::pull) struct Progress {
    flight: Arc<Flight>,
    tick: Interval,
    completed: u64,
}

/// How a transfer stands.
pub(in crate::pull) enum Step {
    /// Bytes that are there, never fewer than before.
    Completed(u64),
    Ended(Result<Pin, PullError>),
}

impl Progress {
    pub(in crate::pull) fn of(flight: Arc<Flight>, tick: Duration) -> Self {
        let mut tick = tokio::time::interval(tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { flight, tick, completed: 0 }
    }

    /// At the next tick, or at once when it has ended.
    pub(in crate::pull) async fn next(&mut self) -> Step {
        tokio::select! {
            ended = self.flight.wait() => Step::Ended(ended),
            _ = self.tick.tick() => {
                self.completed = self.flight.completed().max(self.completed);
                Step::Completed(self.completed)
            }
        }
    }
}
