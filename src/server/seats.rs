//! Which connections wait for a request, so that they can make room for others, and which are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many connections wait for a request.
#[derive(Clone, Debug, Default)]
pub struct Idle(Arc<AtomicUsize>);

impl Idle {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// A connection that has just been made.
    pub fn seat(&self) -> Seat {
        self.0.fetch_add(1, Ordering::AcqRel);
        Seat(Arc::new(Inner { all: self.clone(), waits: AtomicBool::new(true) }))
    }
}

/// One connection's place among them. Clones are the same place, which is gone with the last.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Idle,
    waits: AtomicBool,
}

impl Seat {
    /// A request has begun to come. It is over when what is given back is dropped.
    pub fn ask(&self) -> Asked {
        self.begin();
        Asked(self.clone())
    }

    /// As [`Seat::ask`], of a request that may never come whole: its connection ends then.
    pub fn begin(&self) {
        self.0.begin();
    }
}

impl Inner {
    fn begin(&self) {
        if self.waits.swap(false, Ordering::AcqRel) {
            self.all.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.begin();
    }
}

/// A request whose answer is under way.
#[derive(Debug)]
pub struct Asked(Seat);

impl Drop for Asked {
    fn drop(&mut self) {
        let Inner { all, waits } = &*self.0.0;
        if !waits.swap(true, Ordering::AcqRel) {
            all.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_those_who_wait() {
        let idle = Idle::default();
        let (one, other) = (idle.seat(), idle.seat());
        assert_eq!(idle.count(), 2);
        one.begin();
        let asked = one.ask();
        assert_eq!(idle.count(), 1);
        drop(asked);
        assert_eq!(idle.count(), 2);
        // The connection breaks off in the midst of an answer.
        let asked = one.ask();
        drop((one, other));
        assert_eq!(idle.count(), 0);
        drop(asked);
        assert_eq!(idle.count(), 0);
    }
}
