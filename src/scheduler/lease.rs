//! A counted use of a loaded model.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::actor::Command;
use crate::engine::Runner;

/// While it lives, the model stays loaded. Dropped, it starts the keep-alive clock if it was the last.
pub struct Lease {
    pub(super) resident: u64,
    pub(super) runner: Arc<dyn Runner>,
    pub(super) waited: Duration,
    pub(super) commands: mpsc::UnboundedSender<Command>,
}

impl Lease {
    pub fn runner(&self) -> &Arc<dyn Runner> {
        &self.runner
    }

    /// From asking to having: queueing and loading.
    pub fn load_duration(&self) -> Duration {
        self.waited
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.commands.send(Command::Release { resident: self.resident }).ok();
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("resident", &self.resident).finish_non_exhaustive()
    }
}
