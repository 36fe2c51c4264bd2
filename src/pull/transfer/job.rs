//! The state of one transfer: the file, which bytes are there, which are to be fetched, and how far hashing may go.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::super::{PullError, PullSettings};
use super::journal::Journal;
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
    /// Names the transfer in errors and in the log.
    pub(super) digest: Digest,
    pub(super) size: u64,
    hash_git: bool,
    pub(super) settings: Arc<PullSettings>,
    /// Shares the lock with every copy of itself, so the lock is held until the last write is over.
    file: Arc<File>,
    path: PathBuf,
    /// A std mutex: held for a few lines and one append to the journal.
    state: Mutex<State>,
    completed: Arc<AtomicU64>,
    /// Bytes that came in during this run, those that came twice as well.
    received: AtomicU64,
    prefix: watch::Sender<u64>,
    spoiled: AtomicBool,
    answered: AtomicBool,
}

struct State {
    spans: Spans,
    queue: VecDeque<Range<u64>>,
    journal: Journal,
    unsynced: u64,
}

impl Job {
    pub(super) fn new(
        wanted: Wanted,
        settings: Arc<PullSettings>,
        (file, path): (File, PathBuf),
        (journal, spans): (Journal, Spans),
        completed: Arc<AtomicU64>,
    ) -> Self {
        let Wanted { key: digest, size, proof } = wanted;
        completed.store(spans.total(), Ordering::Relaxed);
        let (prefix, _) = watch::channel(spans.prefix());
        Self {
            digest,
            size,
            hash_git: matches!(proof, Proof::Git(_)),
            settings,
            file: Arc::new(file),
            path,
            state: Mutex::new(State { queue: spans.gaps(size).into(), spans, journal, unsynced: 0 }),
            completed,
            received: AtomicU64::new(0),
            prefix,
            spoiled: AtomicBool::new(false),
            answered: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state().spans.total() == self.size
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
    pub(super) fn piece(&self) -> u64 {
        let (least, most) = (self.settings.range.start(), self.settings.range.end());
        (self.size / (4 * self.settings.streams.max(1) as u64)).clamp(*least, *most)
    }

    /// Takes the next range that nobody fetches.
    pub(super) fn claim(&self) -> Option<Range<u64>> {
        let piece = self.piece();
        let mut state = self.state();
        let range = state.queue.pop_front()?;
        if range.end - range.start <= piece {
            return Some(range);
        }
        let middle = range.start + piece;
        state.queue.push_front(middle..range.end);
        Some(range.start..middle)
    }

    /// Gives back what of a claimed range did not come.
    pub(super) fn give_back(&self, range: Range<u64>) {
        let mut state = self.state();
        if !range.is_empty() {
            state.queue.push_front(range);
        }
    }

    /// How many requests are still to be made.
    pub(super) fn pieces(&self) -> usize {
        let piece = self.piece();
        let pieces = self.state().queue.iter().map(|range| (range.end - range.start).div_ceil(piece)).sum::<u64>();
        usize::try_from(pieces).unwrap_or(usize::MAX)
    }

    /// Writes bytes where they belong; those that are there already are passed over.
    pub(super) async fn store(self: &Arc<Self>, offset: u64, bytes: Vec<u8>) -> Result<(), PullError> {
        let job = self.clone();
        blocking(move || job.write(offset, &bytes)).await?.map_err(PullError::from)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let range = offset..offset + bytes.len() as u64;
        if range.is_empty() || self.state().spans.contains(&range) {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset).map_err(StoreError::io("write", &self.path))?;
        self.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let due = {
            let mut state = self.state();
            state.journal.wrote(&range).map_err(StoreError::io("write beside", &self.path))?;
            state.spans.insert(range);
            self.completed.store(state.spans.total(), Ordering::Relaxed);
            self.prefix.send_replace(state.spans.prefix());
            state.unsynced += bytes.len() as u64;
            (state.unsynced >= self.settings.sync).then(|| {
                state.unsynced = 0;
                state.journal.length()
            })
        };
        if let Some(length) = due {
            // After a failed sync the pages count as clean and may be wrong: the file is lost.
            let noted = self.file.sync_data().and_then(|()| self.state().journal.synced(length));
            noted.and_then(|journal| journal.sync_data()).map_err(|error| {
                self.spoiled.store(true, Ordering::Relaxed);
                StoreError::io("sync", &self.path)(error)
            })?;
        }
        Ok(())
    }

    /// Hashes the file as far as it has no gaps, until it has none at all.
    pub(super) async fn hash(self: Arc<Self>) -> Result<Hashes, PullError> {
        let mut prefix = self.prefix.subscribe();
        let (mut sha256, mut at) = (Sha256::new(), 0);
        let mut git = self.hash_git.then(|| GitHash::begin(self.size));
        while at < self.size {
            let ready = *prefix.wait_for(|ready| *ready > at).await.map_err(|_| PullError::Interrupted)?;
            let end = ready.min(at + SLICE);
            let job = self.clone();
            let hashed = blocking(move || {
                let length = usize::try_from(end - at).expect("a slice is short: a bug");
                let mut bytes = vec![0; length];
                job.file.read_exact_at(&mut bytes, at).map_err(StoreError::io("read", &job.path))?;
                sha256.update(&bytes);
                git.iter_mut().for_each(|git| git.update(&bytes));
                Ok::<_, StoreError>((sha256, git))
            });
            (sha256, git) = hashed.await??;
            at = end;
        }
        let git = git.map(|git| GitHash(git.finalize().into()));
        Ok(Hashes { sha256: Digest::from_bytes(sha256.finalize().into()), git })
    }
}
