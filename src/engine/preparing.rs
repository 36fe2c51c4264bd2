//! What has to be made before an answer can begin, or after it, made beside the thread on which answers are written: no answer
//! waits for another's preparation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::event::EngineError;
use super::protocol::SequenceId;

type Made<T> = Result<T, EngineError>;

struct Ask<T> {
    sequence: SequenceId,
    cancelled: Arc<AtomicBool>,
    make: Box<dyn FnOnce() -> Made<T> + Send>,
}

struct Waiting<J> {
    sequence: SequenceId,
    cancelled: Arc<AtomicBool>,
    job: J,
}

struct Thread<T> {
    asks: Sender<Ask<T>>,
    made: Receiver<(SequenceId, Made<T>)>,
}

/// Preparations under way, one after the other on a thread of their own; `J` is what waits for one, and `T` what it waits for.
pub struct Preparing<J, T> {
    /// There from the first ask on.
    thread: Option<Thread<T>>,
    under_way: Vec<Waiting<J>>,
}

impl<J, T> Default for Preparing<J, T> {
    fn default() -> Self {
        Self { thread: None, under_way: Vec::new() }
    }
}

impl<J, T: Send + 'static> Preparing<J, T> {
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        &mut self,
        sequence: SequenceId,
        job: J,
        make: impl FnOnce() -> Made<T> + Send + 'static,
    ) -> Result<(), EngineError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let ask = Ask { sequence, cancelled: cancelled.clone(), make: Box::new(make) };
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => Thread::start()?,
        };
        let asked = self.thread.insert(thread).asks.send(ask);
        asked.map_err(|_| EngineError::Failed("the thread that prepares answers is gone".into()))?;
        self.under_way.push(Waiting { sequence, cancelled, job });
        Ok(())
    }

    pub fn cancel(&mut self, sequence: SequenceId) {
        for waiting in self.under_way.extract_if(.., |waiting| waiting.sequence == sequence) {
            waiting.cancelled.store(true, Ordering::Release);
        }
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Those whose preparation is done and was not cancelled, in the order they came. Waits for the first as long as `patience`.
    pub fn done(&mut self, patience: Duration) -> Vec<(J, Made<T>)> {
        let mut done = Vec::new();
        let Some(Thread { made, .. }) = self.thread.as_ref().filter(|_| !self.under_way.is_empty()) else {
            return done;
        };
        let mut next = made.recv_timeout(patience);
        loop {
            match next {
                Ok((sequence, result)) => {
                    let place = self.under_way.iter().position(|waiting| waiting.sequence == sequence);
                    done.extend(place.map(|place| (self.under_way.remove(place).job, result)));
                }
                // The thread catches panics, so it is there as long as its asks can come.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return done,
            }
            next = made.recv_timeout(Duration::ZERO);
        }
    }
}

impl<T: Send + 'static> Thread<T> {
    fn start() -> Result<Self, EngineError> {
        let (asks, asked) = channel::<Ask<T>>();
        let (send, made) = channel();
        let work = move || {
            yield_to_answers();
            for Ask { sequence, cancelled, make } in asked {
                if cancelled.load(Ordering::Acquire) {
                    continue;
                }
                let done = std::panic::catch_unwind(AssertUnwindSafe(make));
                let done = done.unwrap_or_else(|_| Err(EngineError::Failed("the answer could not be prepared".into())));
                if send.send((sequence, done)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("preparing".into());
        thread.spawn(work).map_err(|error| EngineError::Failed(format!("no thread to prepare answers: {error}")))?;
        Ok(Self { asks, made })
    }
}

/// Where priorities are a thread's own, this one's is lower: not so low that answers which use every core leave it nothing.
fn yield_to_answers() {
    #[cfg(target_os = "linux")]
    rustix::process::nice(5).ok();
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn nobody_waits_for_a_preparation() {
        let mut preparing = Preparing::default();
        assert!(preparing.done(Duration::from_secs(60)).is_empty(), "with nothing under way there is no wait");
        let (go, gate) = channel();
        let slow = move || {
            gate.recv().ok();
            Ok("slow")
        };
        preparing.start(1, "one", slow).unwrap();
        preparing.start(2, "two", || Ok("cancelled")).unwrap();
        preparing.start(3, "three", || panic!("on purpose")).unwrap();
        preparing.start(4, "four", || Ok("good")).unwrap();
        let began = Instant::now();
        assert!(preparing.done(Duration::ZERO).is_empty());
        assert!(began.elapsed() < Duration::from_secs(1));
        preparing.cancel(2);
        go.send(()).unwrap();
        let mut done = Vec::new();
        while !preparing.is_idle() {
            done.extend(preparing.done(Duration::from_secs(1)));
        }
        let failed = Err(EngineError::Failed("the answer could not be prepared".into()));
        assert_eq!(done, [("one", Ok("slow")), ("three", failed), ("four", Ok("good"))]);
    }
}
