//! One at a time with each thing, and nobody waits for what others do with another.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The things that somebody is at work with. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Turns<K>(Arc<(Mutex<HashSet<K>>, Condvar)>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Arc::new((Mutex::default(), Condvar::new())))
    }
}

impl<K: Copy + Eq + Hash> Turns<K> {
    /// Waits until nobody else is at work with `key`, on a thread that may block.
    pub(crate) fn take(&self, key: K) -> Turn<'_, K> {
        let (_, gone) = &*self.0;
        let mut busy = self.busy();
        while !busy.insert(key) {
            busy = gone.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: self, key }
    }

    /// A std mutex: held for single set operations.
    fn busy(&self) -> MutexGuard<'_, HashSet<K>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as it lives, its holder is the one.
pub(crate) struct Turn<'a, K: Copy + Eq + Hash> {
    turns: &'a Turns<K>,
    key: K,
}

impl<K: Copy + Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        self.turns.busy().remove(&self.key);
        self.turns.0.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_with_each_and_others_beside_it() {
        let turns = Turns::default();
        let _other = turns.take(9);
        let at_work = [AtomicUsize::new(0), AtomicUsize::new(0)];
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (turns, key) = (&turns, number % 2);
                let at_work = &at_work[key];
                scope.spawn(move || {
                    for _ in 0..200 {
                        let _turn = turns.take(key);
                        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        at_work.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(turns.busy().len(), 1);
    }
}
