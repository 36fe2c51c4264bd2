//! What has to be made before an answer can begin or go on, or after it, made beside the thread on which answers are written: no
//! answer waits for another's preparation. That thread may park while it has nothing to do: whenever something is made, it is
//! woken.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

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
            None => Thread::start(thread::current())?,
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

    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Those whose preparation is done and was not cancelled, in the order they came.
    pub fn done(&mut self) -> Vec<(J, Made<T>)> {
        let mut done = Vec::new();
        let Some(Thread { made, .. }) = &self.thread else { return done };
        for (sequence, result) in made.try_iter() {
            let place = self.under_way.iter().position(|waiting| waiting.sequence == sequence);
            done.extend(place.map(|place| (self.under_way.remove(place).job, result)));
        }
        done
    }
}

impl<T: Send + 'static> Thread<T> {
    /// `asker` is the thread to wake.
    fn start(asker: thread::Thread) -> Result<Self, EngineError> {
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
                asker.unpark();
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
    use super::*;

    #[test]
    fn nobody_waits_for_a_preparation() {
        let mut preparing = Preparing::default();
        let (go, gate) = channel();
        let slow = move || {
            gate.recv().ok();
            Ok("slow")
        };
        preparing.start(1, "one", slow).unwrap();
        preparing.start(2, "two", || Ok("cancelled")).unwrap();
        preparing.start(3, "three", || panic!("on purpose")).unwrap();
        preparing.start(4, "four", || Ok("good")).unwrap();
        assert!(preparing.done().is_empty(), "the first one is not done before the gate is open");
        preparing.cancel(2);
        go.send(()).unwrap();
        let mut done = Vec::new();
        while done.len() < 3 {
            // Woken by each that is made, and by nothing else: this would wait for ever.
            thread::park();
            done.extend(preparing.done());
        }
        let failed = Err(EngineError::Failed("the answer could not be prepared".into()));
        assert_eq!(done, [("one", Ok("slow")), ("three", failed), ("four", Ok("good"))]);
    }
}
