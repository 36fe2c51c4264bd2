//! The state of one transfer: the file, which bytes are there, who fetches the others, and how far hashing may go.
//!
//! Invariant: a byte that is there is never written again, whoever brings it once more: what was hashed is what stays.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::{PullError, PullSettings};
use super::journal::Journal;
use super::shares::{Shares, Taken};
use super::spans::Spans;
use super::{GitHash, Proof, Wanted, blocking};
use crate::store::StoreError;
use crate::types::Digest;

/// Bytes that are hashed in one go.
const SLICE: u64 = 4 << 20;

/// What the content turned out to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hashes {
    pub(super) sha256: Digest,
    /// Where it was asked for.
    pub(super) git: Option<GitHash>,
}

pub(super) struct Job {
    pub(super) wanted: Wanted,
    pub(super) settings: Arc<PullSettings>,
    /// Shares the lock with every copy of itself, so the lock is held until the last write is over.
    file: Arc<File>,
    path: PathBuf,
    /// A std mutex: held for a few lines and one append to the journal.
    state: Mutex<State>,
    completed: Arc<AtomicU64>,
    /// Bytes that came in during this run.
    received: AtomicU64,
    landed: watch::Sender<Landed>,
    /// There may be work for an idle connection.
    pub(super) changed: Notify,
    spoiled: AtomicBool,
    answered: AtomicBool,
    /// A change of the content's name on its server was seen, and is not looked for any more.
    pub(super) mixed: AtomicBool,
}

struct State {
    /// What was written. It is never written again: it may have been hashed.
    spans: Spans,
    /// What is being written.
    writing: Spans,
    shares: Shares,
    journal: Journal,
    /// The strong ETag of the content, and on which host.
    etag: Option<(String, String)>,
    /// Until then the server wants to be left alone.
    pause: Option<Instant>,
}

/// How much there is.
#[derive(Clone, Copy, Debug)]
struct Landed {
    /// From the beginning, without a gap.
    prefix: u64,
    total: u64,
}

impl Landed {
    fn of(spans: &Spans) -> Self {
        Self { prefix: spans.prefix(), total: spans.total() }
    }
}

/// What a server calls the content, beside what it was called before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Same,
    /// By another server, which may call it differently.
    Elsewhere,
    Changed,
}

/// What one connection is to fetch. Dropped, it gives back what did not come.
pub(super) struct Claim {
    job: Arc<Job>,
    id: u64,
    /// What was to be fetched when it began. Its end may be taken away.
    pub(super) range: Range<u64>,
    over: Arc<Notify>,
}

impl Claim {
    pub(super) fn wait(&self) {
        self.job.state().shares.wait(self.id);
    }

    /// Notes that bytes came, and gives where the share ends by now.
    pub(super) fn got(&self, bytes: u64) -> u64 {
        self.job.state().shares.got(self.id, bytes)
    }

    /// Waits until another connection has brought the rest.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    /// Writes bytes where they belong. Gives the emptied buffer back.
    pub(super) async fn store(&self, offset: u64, mut bytes: Vec<u8>) -> Result<Vec<u8>, PullError> {
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let (job, id) = (self.job.clone(), self.id);
        let written = blocking(move || {
            let upto = offset + bytes.len() as u64;
            job.write(offset, &bytes)?;
            job.state().shares.stored(id, upto);
            bytes.clear();
            Ok::<_, StoreError>(bytes)
        });
        Ok(written.await??)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.job.state().shares.end(self.id);
        self.job.changed.notify_waiters();
    }
}

impl Job {
    pub(super) fn new(
        wanted: Wanted,
        settings: Arc<PullSettings>,
        (file, path): (File, PathBuf),
        (journal, spans): (Journal, Spans),
        completed: Arc<AtomicU64>,
    ) -> Self {
        completed.fetch_max(spans.total(), Ordering::Relaxed);
        let (landed, _) = watch::channel(Landed::of(&spans));
        let (writing, shares) = (Spans::default(), Shares::default());
        Self {
            wanted,
            settings,
            file: Arc::new(file),
            path,
            state: Mutex::new(State { spans, writing, shares, journal, etag: None, pause: None }),
            completed,
            received: AtomicU64::new(0),
            landed,
            changed: Notify::new(),
            spoiled: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            mixed: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn size(&self) -> u64 {
        self.wanted.size
    }

    pub(super) fn is_complete(&self) -> bool {
        self.landed.borrow().total == self.size()
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The system could not write down what it was given: nothing in the file is to be trusted.
    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled.load(Ordering::Relaxed)
    }

    /// The server has answered well once: a refusal after that may be an address that has expired.
    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Bytes in one request.
    fn piece(&self) -> u64 {
        let (least, most) = (self.settings.range.start(), self.settings.range.end());
        (self.size() / (4 * self.settings.streams.max(1) as u64)).clamp(*least, *most)
    }

    fn claim(self: &Arc<Self>, taken: Taken) -> Claim {
        Claim { job: self.clone(), id: taken.id, range: taken.range, over: taken.over }
    }

    /// Takes the next range that nobody fetches.
    pub(super) fn free(self: &Arc<Self>) -> Option<Claim> {
        let (size, piece) = (self.size(), self.piece());
        let mut state = self.state();
        let State { spans, shares, .. } = &mut *state;
        let taken = shares.free(spans, size, piece);
        drop(state);
        taken.map(|taken| self.claim(taken))
    }

    /// Takes half of a share that will last.
    pub(super) fn half(self: &Arc<Self>) -> Option<Claim> {
        let taken = self.state().shares.half(self.settings.half, self.settings.race);
        taken.map(|taken| self.claim(taken))
    }

    /// Takes all of a share that does not get on.
    pub(super) fn race(self: &Arc<Self>) -> Option<Claim> {
        let taken = self.state().shares.race(self.settings.race);
        taken.map(|taken| self.claim(taken))
    }

    pub(super) fn whole(self: &Arc<Self>) -> Claim {
        let taken = self.state().shares.whole(self.size());
        self.claim(taken)
    }

    pub(super) fn etag(&self) -> Option<String> {
        self.state().etag.as_ref().map(|(_, etag)| etag.clone())
    }

    /// Compares the content's name on its server with the one it had before.
    pub(super) fn see(&self, host: &str, etag: Option<String>) -> Seen {
        let Some(etag) = etag.filter(|_| !self.mixed.load(Ordering::Relaxed)) else { return Seen::Same };
        let mut state = self.state();
        let seen = match &state.etag {
            None => Seen::Same,
            Some((before, _)) if before != host => Seen::Elsewhere,
            Some((_, before)) if *before == etag => Seen::Same,
            Some(_) => return Seen::Changed,
        };
        state.etag = Some((host.to_owned(), etag));
        seen
    }

    /// Goes on though the name has changed. False when so little is there that it is better begun anew, with a hash at
    /// the end that will tell which bytes were meant.
    pub(super) fn mix(&self) -> bool {
        let goes_on = self.wanted.is_proven() && self.landed.borrow().total * 2 >= self.size();
        if goes_on {
            self.mixed.store(true, Ordering::Relaxed);
            self.state().etag = None;
        }
        goes_on
    }

    /// The server wants to be left alone for a while, by all connections.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state();
        state.pause = Some(state.pause.map_or(until, |pause| pause.max(until)));
    }

    pub(super) async fn paused(&self) {
        let pause = self.state().pause;
        if let Some(pause) = pause {
            tokio::time::sleep_until(pause).await;
        }
    }

    /// Writes what of these bytes is not there yet. What is there may have been hashed, and stays as it is.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let range = offset..offset + bytes.len() as u64;
        let parts = {
            let mut state = self.state();
            let mut parts = state.spans.missing(&range);
            if state.writing.total() > 0 {
                parts = parts.iter().flat_map(|part| state.writing.missing(part)).collect();
            }
            parts.iter().for_each(|part| state.writing.insert(part.clone()));
            parts
        };
        let slice = |part: &Range<u64>| {
            let at = |place: u64| usize::try_from(place - offset).expect("within a buffer: a bug");
            &bytes[at(part.start)..at(part.end)]
        };
        for part in &parts {
            self.file.write_all_at(slice(part), part.start).map_err(StoreError::io("write", &self.path))?;
        }
        let mut state = self.state();
        for part in parts {
            state.journal.wrote(&part).map_err(StoreError::io("write beside", &self.path))?;
            self.received.fetch_add(part.end - part.start, Ordering::Relaxed);
            state.writing.remove(&part);
            state.spans.insert(part);
        }
        state.shares.landed(&state.spans);
        let landed = Landed::of(&state.spans);
        self.completed.fetch_max(landed.total, Ordering::Relaxed);
        self.landed.send_replace(landed);
        Ok(())
    }

    /// Syncs the file, and then what the journal says of it, as more and more lands.
    pub(super) async fn sync(self: Arc<Self>) -> Result<(), PullError> {
        let mut landed = self.landed.subscribe();
        let mut synced = landed.borrow().total;
        loop {
            let ready = |landed: &Landed| {
                landed.total >= synced.saturating_add(self.settings.sync) || landed.total == self.size()
            };
            let now = landed.wait_for(ready).await.map_err(|_| PullError::Interrupted)?.total;
            if now == self.size() {
                // The commit syncs it.
                return Ok(());
            }
            synced = now;
            let job = self.clone();
            blocking(move || {
                let length = job.state().journal.length();
                // After a failed sync the pages count as clean and may be wrong: the file is lost.
                let noted = job.file.sync_data().and_then(|()| job.state().journal.synced(length));
                let folder = || job.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
                noted.and_then(|journal| journal.sync_data()).and_then(|()| folder()).map_err(|error| {
                    job.spoiled.store(true, Ordering::Relaxed);
                    StoreError::io("sync", &job.path)(error)
                })
            })
            .await??;
        }
    }

    /// Hashes the file as far as it has no gaps, until it has none at all.
    pub(super) async fn hash(self: Arc<Self>) -> Result<Hashes, PullError> {
        let mut landed = self.landed.subscribe();
        let (mut sha256, mut at, mut bytes) = (Sha256::new(), 0, Vec::new());
        let mut git = matches!(self.wanted.proof, Proof::Git(_)).then(|| GitHash::begin(self.size()));
        while at < self.size() {
            let ready = landed.wait_for(|landed| landed.prefix > at).await.map_err(|_| PullError::Interrupted)?.prefix;
            let end = ready.min(at + SLICE);
            let job = self.clone();
            let hashed = blocking(move || {
                bytes.resize(usize::try_from(end - at).expect("a slice is short: a bug"), 0);
                job.file.read_exact_at(&mut bytes, at).map_err(StoreError::io("read", &job.path))?;
                sha256.update(&bytes);
                git.iter_mut().for_each(|git| git.update(&bytes));
                Ok::<_, StoreError>((sha256, git, bytes))
            });
            (sha256, git, bytes) = hashed.await??;
            at = end;
        }
        let git = git.map(|git| GitHash(git.finalize().into()));
        Ok(Hashes { sha256: Digest::from_bytes(sha256.finalize().into()), git })
    }
}
