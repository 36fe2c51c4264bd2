//! How fast bytes may come and go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::ByteRate;

/// What may be made up for after a pause.
const BURST: Duration = Duration::from_millis(100);

/// A limit that all who take from it share, each in turn.
#[derive(Debug, Default)]
pub(in super::super) struct Rate {
    /// Bytes in a second; zero for no limit.
    limit: AtomicU64,
    /// When what was taken so far is paid for. A std mutex: held to read and replace the value.
    paid: Mutex<Option<Instant>>,
}

impl Rate {
    pub(in super::super) fn new(limit: Option<ByteRate>) -> Self {
        Self { limit: AtomicU64::new(limit.map_or(0, ByteRate::bytes)), paid: Mutex::default() }
    }

    pub(in super::super) fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Of several who want the same bytes, the one who wants them fastest has his way.
    pub(super) fn raise(&self, limit: Option<ByteRate>) {
        let raised = |now: u64| Some(limit.filter(|_| now > 0).map_or(0, |limit| limit.bytes().max(now)));
        self.limit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raised).ok();
    }

    /// Waits until `bytes` more may have moved.
    pub(in super::super) async fn take(&self, bytes: u64) {
        let Some(limit) = self.limit() else { return };
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begin = paid.map_or(now, |paid| paid.max(now.checked_sub(BURST).unwrap_or(now)));
            *paid.insert(begin + Duration::from_secs_f64(bytes as f64 / limit as f64))
        };
        tokio::time::sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_keep_to_it() {
        let rate = Rate::new(ByteRate::new(1000));
        let start = Instant::now();
        let one = async {
            for _ in 0..10 {
                rate.take(100).await;
            }
        };
        tokio::join!(one, async {
            for _ in 0..10 {
                rate.take(200).await;
            }
        });
        assert_eq!(start.elapsed().as_millis(), 3000);
        rate.raise(ByteRate::new(500));
        assert_eq!(rate.limit(), Some(1000));
        rate.raise(None);
        rate.take(u64::MAX).await;
        assert_eq!((rate.limit(), start.elapsed().as_millis()), (None, 3000));
    }
}
