//! Who fetches what: each connection has a share, and one that is idle takes what is free, then half of what another is
//! slow with, and at last all of what another does not get on with.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::spans::Spans;

/// A connection is slow when others were so many times as fast.
const SLOW: f64 = 4.0;

/// One connection's part of the work.
#[derive(Debug)]
struct Share {
    id: u64,
    start: u64,
    /// What came is on disk up to here.
    stored: u64,
    /// It came up to here.
    at: u64,
    end: u64,
    /// How long bytes were waited for, but for the present wait.
    waited: Duration,
    waiting: Option<Instant>,
    /// Two connections fetch the same: the first to have it ends the other.
    raced: bool,
    over: Arc<Notify>,
}

impl Share {
    fn rest(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    fn silence(&self) -> Duration {
        self.waiting.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Bytes in a second of waiting.
    fn rate(&self) -> f64 {
        (self.at - self.start) as f64 / (self.waited + self.silence()).as_secs_f64().max(1e-6)
    }

    /// The rest will take longer than `time`, as far as one can tell.
    fn lasts(&self, time: Duration) -> bool {
        let waited = self.waited + self.silence();
        match self.at - self.start {
            0 => waited > time,
            _ => self.rest() as f64 / self.rate() > time.as_secs_f64(),
        }
    }
}

/// What one who asks for work is given.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) range: Range<u64>,
    pub(super) over: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct Shares {
    list: Vec<Share>,
    ids: u64,
    /// The rate of those that came to their end, those of late first.
    usual: f64,
}

impl Shares {
    fn add(&mut self, range: Range<u64>, raced: bool) -> Taken {
        self.ids += 1;
        let over = Arc::new(Notify::new());
        self.list.push(Share {
            id: self.ids,
            start: range.start,
            stored: range.start,
            at: range.start,
            end: range.end,
            waited: Duration::ZERO,
            waiting: Some(Instant::now()),
            raced,
            over: over.clone(),
        });
        Taken { id: self.ids, range, over }
    }

    fn get(&mut self, id: u64) -> Option<&mut Share> {
        self.list.iter_mut().find(|share| share.id == id)
    }

    /// All of it, whoever has a share in it.
    pub(super) fn whole(&mut self, size: u64) -> Taken {
        self.add(0..size, false)
    }

    /// The first bytes that nobody has or fetches, `piece` at the most.
    pub(super) fn free(&mut self, there: &Spans, size: u64, piece: u64) -> Option<Taken> {
        let mut taken = there.clone();
        self.list.iter().for_each(|share| taken.insert(share.stored..share.end));
        let first = taken.missing(&(0..size)).into_iter().next()?;
        let end = first.end.min(first.start + piece);
        Some(self.add(first.start..end, false))
    }

    /// The second half of what will take longest, if each half has `least` bytes and all would last for `time`.
    pub(super) fn half(&mut self, least: u64, time: Duration) -> Option<Taken> {
        let worth = |share: &&mut Share| !share.raced && share.rest() >= 2 * least && share.lasts(time);
        let slow = self.list.iter_mut().filter(worth).max_by(|one, other| {
            let left = |share: &Share| share.rest() as f64 / share.rate().max(1.0);
            left(one).total_cmp(&left(other))
        })?;
        let middle = slow.at + slow.rest() / 2;
        let end = std::mem::replace(&mut slow.end, middle);
        Some(self.add(middle..end, false))
    }

    /// All that is left of a share that does not get on: silent for `time`, or much slower than others and not at its
    /// end by then.
    pub(super) fn race(&mut self, time: Duration) -> Option<Taken> {
        let usual = self.usual;
        let worth = |share: &&mut Share| {
            let slow = share.lasts(time) && share.rate() * SLOW < usual;
            !share.raced && share.rest() > 0 && (share.silence() > time || slow)
        };
        let slow = self.list.iter_mut().find(worth)?;
        slow.raced = true;
        let range = slow.at..slow.end;
        Some(self.add(range, true))
    }

    /// Bytes are waited for.
    pub(super) fn wait(&mut self, id: u64) {
        if let Some(share) = self.get(id) {
            share.waiting = Some(Instant::now());
        }
    }

    /// Bytes came. Gives where the share ends by now.
    pub(super) fn got(&mut self, id: u64, bytes: u64) -> u64 {
        let Some(share) = self.get(id) else { return 0 };
        share.waited += share.silence();
        share.waiting = None;
        share.at = (share.at + bytes).min(share.end);
        share.end
    }

    pub(super) fn stored(&mut self, id: u64, upto: u64) {
        if let Some(share) = self.get(id) {
            share.stored = upto;
        }
    }

    /// Ends those whose bytes others have brought.
    pub(super) fn landed(&self, there: &Spans) {
        for share in self.list.iter().filter(|share| share.raced && share.rest() > 0) {
            if there.contains(&(share.at..share.end)) {
                share.over.notify_one();
            }
        }
    }

    /// Gives back what of a share did not come.
    pub(super) fn end(&mut self, id: u64) {
        let Some(index) = self.list.iter().position(|share| share.id == id) else { return };
        let ended = self.list.swap_remove(index);
        if ended.rest() == 0 && ended.at > ended.start {
            self.usual = if self.usual == 0.0 { ended.rate() } else { 0.75 * self.usual + 0.25 * ended.rate() };
        }
        if ended.raced {
            let other = self.list.iter_mut().filter(|share| share.start < ended.end && ended.start < share.end);
            other.for_each(|share| share.raced = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(2);

    async fn receive(shares: &mut Shares, id: u64, bytes: u64, time: u64) {
        shares.wait(id);
        tokio::time::advance(Duration::from_secs(time)).await;
        let end = shares.got(id, bytes);
        let at = shares.get(id).unwrap().at;
        assert!(at <= end);
        shares.stored(id, at);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_free_comes_first_and_then_half_of_the_slowest() {
        let (mut shares, mut there) = (Shares::default(), Spans::default());
        there.insert(10..20);
        let mut free = || shares.free(&there, 100, 30).map(|taken| (taken.id, taken.range));
        assert_eq!(
            [free(), free(), free(), free(), free()].map(Option::unwrap_or_default).map(|(_, range)| range),
            [0..10, 20..50, 50..80, 80..100, 0..0]
        );
        assert!(shares.half(4, TIME).is_none(), "nobody is slow yet");
        there.insert(0..10);
        shares.end(1);
        receive(&mut shares, 2, 20, 1).await;
        receive(&mut shares, 3, 6, 1).await;
        // The second needs half a second more, the third 4 s; the fourth has had nothing for 2 s, and is halved first.
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(shares.half(4, TIME).unwrap().range, 90..100);
        assert_eq!(shares.half(4, TIME).unwrap().range, 85..90);
        assert_eq!(shares.half(4, TIME).unwrap().range, 68..80);
        assert_eq!(shares.got(3, 12), 68, "it has got on to 68, and is at its end");
        shares.end(3);
        there.insert(20..40);
        there.insert(50..68);
        shares.end(4);
        assert_eq!(shares.free(&there, 100, 30).unwrap().range, 80..85, "what did not come is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_and_the_slow_are_raced_once() {
        let (mut shares, mut there) = (Shares::default(), Spans::default());
        for _ in 0..3 {
            shares.free(&there, 30, 10).unwrap();
        }
        receive(&mut shares, 1, 10, 1).await;
        shares.end(1);
        there.insert(0..10);
        receive(&mut shares, 2, 2, 2).await;
        assert!(shares.half(10, TIME).is_none());
        // The third has been silent, the second has come to a fifth in 2 s where the first had all in one.
        let (third, second) = (shares.race(Duration::from_secs(1)).unwrap(), shares.race(TIME).unwrap());
        assert_eq!((third.range.clone(), second.range), (20..30, 12..20));
        assert!(shares.race(TIME).is_none() && shares.half(1, TIME).is_none());

        there.insert(20..30);
        let first = shares.list.iter().find(|share| share.id == 3).unwrap().over.clone();
        shares.landed(&there);
        first.notified().await;
        shares.end(second.id);
        tokio::time::advance(TIME * 2).await;
        assert_eq!(shares.race(TIME).unwrap().range, 12..20, "a race that failed is run again");
    }
}
