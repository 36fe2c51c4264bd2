//! What becomes of a panic in mistral.rs: an error while a model is loaded, the end of the runner afterwards.
//!
//! After a panic in the middle of its work mistral.rs keeps poisoned locks and half-filled caches, and requests would wait
//! for ever on threads that are gone. The process ends instead, and the server tells each request so.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::event::EngineError;

/// The process's panics, from when it is made.
pub struct Watch {
    fatal: Arc<AtomicBool>,
}

impl Watch {
    pub fn new() -> Self {
        let fatal = Arc::new(AtomicBool::new(false));
        let ends = fatal.clone();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|location| format!(" at {location}")).unwrap_or_default();
            let message = format!("panic{place}: {}", words(info.payload()));
            if ends.load(Ordering::Acquire) {
                end(&message);
            }
            tracing::warn!("{message}");
        }));
        Self { fatal }
    }

    /// From now on a panic in any thread ends the process.
    pub fn make_fatal(&self) {
        self.fatal.store(true, Ordering::Release);
    }
}

/// Ends the process; the server finds `message` on standard error.
#[expect(clippy::print_stderr, reason = "the last words of a runner are read from there")]
pub fn end(message: &str) -> ! {
    eprintln!("error: {message}");
    process::exit(1);
}

/// What `load` gives; its panic is an error like any other.
pub fn caught<T>(load: impl FnOnce() -> anyhow::Result<T>) -> Result<T, EngineError> {
    match panic::catch_unwind(AssertUnwindSafe(load)) {
        Ok(loaded) => loaded.map_err(|error| EngineError::Load(first_line(&format!("{error:#}")))),
        Err(payload) => Err(EngineError::Load(format!("mistral.rs cannot load this model: {}", words(&*payload)))),
    }
}

/// An error's text without the backtrace that candle hangs on it.
pub fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
