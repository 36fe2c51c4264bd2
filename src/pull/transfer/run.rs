//! The course of one transfer: lock, resume, fetch, hash, commit.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{try_join, try_join_all};
use reqwest::Response;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::sync::watch;

use super::super::{PullError, PullSettings};
use super::job::{Hashes, Job};
use super::journal::{self, Journal};
use super::reply::{Body, Content, content};
use super::spans::Spans;
use super::{Proof, Remote, Wanted, blocking};
use crate::store::{Partial, Store, StoreError};
use crate::types::Digest;

/// Bytes of one connection that are written in one go: what a killed process may lose of it.
const BUFFER: u64 = 1 << 20;
/// Between two looks at a partial that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(100);
/// An attempt that brought less than this does not end the growing of the waits.
const WORTH: u64 = 64 << 10;
const LONGEST_BACKOFF: Duration = Duration::from_secs(32);

pub(super) async fn run(
    store: Store,
    settings: Arc<PullSettings>,
    wanted: Wanted,
    remote: Arc<dyn Remote>,
    completed: Arc<AtomicU64>,
) -> Result<Digest, PullError> {
    let size = wanted.size;
    loop {
        let Some(partial) = lock(&store, wanted).await? else {
            completed.store(size, Ordering::Relaxed);
            return Ok(wanted.key);
        };
        let mut scrap = Scrap::of(&partial, wanted.proof);
        let (partial, file, journal, spans) = blocking(move || resume(partial, size)).await??;
        let resumed = spans.total() > 0;
        let file = (file, partial.path().to_owned());
        let job = Job::new(wanted, settings.clone(), file, (journal, spans), completed.clone());
        let job = Arc::new(job);
        let actual = match try_join(fetch(&job, &*remote), job.clone().hash()).await {
            Ok(((), actual)) => actual,
            Err(error) => {
                // What is there is of no use to anybody.
                if job.is_spoiled() || matches!(error, PullError::Changed) {
                    blocking(move || partial.discard()).await?;
                }
                return Err(error);
            }
        };
        scrap.0 = None;
        match blocking(move || commit(partial, wanted.proof, &actual)).await? {
            // What an earlier process left may be what was wrong.
            Err(PullError::DigestMismatch { .. } | PullError::GitMismatch { .. }) if resumed => {
                tracing::warn!(blob.digest = %wanted.key, "a resumed download was wrong, and is begun anew");
            }
            ended => return ended.map(|()| actual.sha256),
        }
    }
}

/// A partial that no later try can go on with: it goes when the transfer ends, however that is.
struct Scrap(Option<[PathBuf; 2]>);

impl Scrap {
    fn of(partial: &Partial, proof: Proof) -> Self {
        if proof != (Proof::Nothing { resumable: false }) {
            return Self(None);
        }
        std::fs::remove_file(partial.journal()).ok();
        Self(Some([partial.journal(), partial.path().to_owned()]))
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

/// Gives the content its name, if it is the right one.
fn commit(partial: Partial, proof: Proof, actual: &Hashes) -> Result<(), PullError> {
    match (proof, actual.git) {
        (Proof::Sha256, _) => Ok(partial.commit(actual.sha256)?),
        (Proof::Git(expected), Some(actual)) if expected != actual => {
            partial.discard();
            Err(PullError::GitMismatch { expected: expected.to_string(), actual: actual.to_string() })
        }
        (Proof::Git(_) | Proof::Nothing { .. }, _) => Ok(partial.commit_as(&actual.sha256)?),
    }
}

/// Opens the partial when no other process holds it. `None` when the blob is there by then.
async fn lock(store: &Store, wanted: Wanted) -> Result<Option<Partial>, PullError> {
    enum Found {
        Ours(Partial),
        There,
        Busy,
    }
    let look = move |store: Store| {
        let partial = store.blobs().partial(&wanted.key)?;
        let failed = |error: std::io::Error| StoreError::io("lock", partial.path())(error);
        match flock(partial.file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Found::Busy),
            Err(Errno::NOLCK | Errno::OPNOTSUPP) => {
                tracing::warn!("the store's file system has no locks: only one process may pull into it");
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Whoever held the lock may have renamed or removed the file since we opened it.
        let ours = partial.file().metadata().map_err(failed)?;
        let named = std::fs::metadata(partial.path()).ok();
        if named.is_none_or(|named| (named.dev(), named.ino()) != (ours.dev(), ours.ino())) {
            return Ok(Found::Busy);
        }
        if wanted.known().is_some_and(|digest| store.blobs().size(&digest) == Some(wanted.size)) {
            partial.discard();
            return Ok(Found::There);
        }
        Ok::<_, StoreError>(Found::Ours(partial))
    };
    loop {
        let store = store.clone();
        match blocking(move || look(store)).await?? {
            Found::Ours(partial) => return Ok(Some(partial)),
            Found::There => return Ok(None),
            Found::Busy => tokio::time::sleep(LOCK_POLL).await,
        }
    }
}

type Resumed = (Partial, File, Journal, Spans);

/// Reads what an earlier try left.
fn resume(partial: Partial, size: u64) -> Result<Resumed, StoreError> {
    let prepare = || {
        let file = partial.file().try_clone()?;
        let length = file.metadata()?.len();
        let (journal, spans) = Journal::open(&partial.journal(), size, journal::boot().as_deref(), length)?;
        if spans.total() == 0 {
            file.set_len(0)?;
        } else if length > size {
            file.set_len(size)?;
        }
        Ok((file, journal, spans))
    };
    let (file, journal, spans) = prepare().map_err(StoreError::io("go on with", partial.path()))?;
    Ok((partial, file, journal, spans))
}

/// What the server has shown that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Unknown,
    Ranges,
    /// It sends all of a blob, whatever is asked.
    Whole,
}

/// Notes what the server can do, if nothing is known yet.
fn show(mode: &watch::Sender<Mode>, can: Mode) {
    mode.send_if_modified(|mode| {
        let news = *mode == Mode::Unknown;
        if news {
            *mode = can;
        }
        news
    });
}

/// Fetches all that is missing: one connection at first, several once the server has answered with a range.
async fn fetch(job: &Arc<Job>, remote: &dyn Remote) -> Result<(), PullError> {
    let (mode, _) = watch::channel(Mode::Unknown);
    let lead = async {
        let ended = work(job, remote, &mode).await;
        // The helpers wait for nothing any more.
        show(&mode, Mode::Whole);
        ended
    };
    let helpers = job.settings.streams.min(job.pieces()).saturating_sub(1);
    let helper = || async {
        let shown = mode.subscribe().wait_for(|mode| *mode != Mode::Unknown).await.map(|mode| *mode);
        match shown {
            Ok(Mode::Ranges) => work(job, remote, &mode).await,
            _ => Ok(None),
        }
    };
    let workers = std::iter::once(lead.boxed()).chain((0..helpers).map(|_| helper().boxed()));
    let unasked = try_join_all(workers).await?.into_iter().flatten().next();
    if job.is_complete() {
        return Ok(());
    }
    whole(job, remote, unasked).await
}

/// Fetches ranges until none is left, or until the server sends everything instead: then gives that answer.
async fn work(job: &Arc<Job>, remote: &dyn Remote, mode: &watch::Sender<Mode>) -> Result<Option<Response>, PullError> {
    let mut patience = Patience::new(job);
    loop {
        let range = match *mode.borrow() {
            Mode::Whole => None,
            Mode::Unknown | Mode::Ranges => job.claim(),
        };
        let Some(range) = range else { return Ok(None) };
        let mut at = range.start;
        let ended = attempt(job, remote, mode, &range, &mut at).await;
        job.give_back(at..range.end);
        match ended {
            Ok(None) => patience = Patience::new(job),
            Ok(unasked) => {
                mode.send_replace(Mode::Whole);
                return Ok(unasked);
            }
            Err(error) => {
                remote.forget();
                patience.wait(job, error, at - range.start).await?;
            }
        }
    }
}

async fn attempt(
    job: &Arc<Job>,
    remote: &dyn Remote,
    mode: &watch::Sender<Mode>,
    range: &Range<u64>,
    at: &mut u64,
) -> Result<Option<Response>, PullError> {
    let asked = (*range != (0..job.size)).then(|| range.clone());
    let response = remote.get(asked.clone()).await?;
    match content(&response, asked.as_ref(), &job.digest, job.size)? {
        Content::All if asked.is_some() => return Ok(Some(response)),
        Content::All => {}
        Content::Part(_) => {
            show(mode, Mode::Ranges);
        }
    }
    pump(job, response, at, range.end).await.map(|()| None)
}

/// Fetches the blob from its beginning until the gaps are filled: all that a server without ranges allows.
async fn whole(job: &Arc<Job>, remote: &dyn Remote, mut unasked: Option<Response>) -> Result<(), PullError> {
    let mut patience = Patience::new(job);
    while !job.is_complete() {
        let before = job.received();
        let response = match unasked.take() {
            Some(response) => Ok(response),
            None => remote.get(None).await,
        };
        let ended = match response {
            Ok(response) => match content(&response, None, &job.digest, job.size) {
                Ok(_) => pump(job, response, &mut 0, job.size).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            remote.forget();
            patience.wait(job, error, job.received() - before).await?;
        }
    }
    Ok(())
}

/// Moves a body into the file, from `at` on and not beyond `end`. What came before an error is kept.
async fn pump(job: &Arc<Job>, response: Response, at: &mut u64, end: u64) -> Result<(), PullError> {
    job.note_answer();
    let mut body = Body::new(response, &job.settings);
    let mut buffer: Vec<u8> = Vec::new();
    let read = loop {
        let room = end - *at - buffer.len() as u64;
        if room == 0 && body.ends_by_itself() {
            break Ok(());
        }
        match body.next().await {
            Ok(Some(chunk)) if chunk.len() as u64 > room => {
                break Err(PullError::Size { digest: job.digest, expected: job.size, actual: "more".into() });
            }
            Ok(Some(chunk)) => buffer.extend_from_slice(&chunk),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        if buffer.len() as u64 >= BUFFER {
            let length = buffer.len() as u64;
            job.store(*at, std::mem::take(&mut buffer)).await?;
            *at += length;
        }
    };
    let length = buffer.len() as u64;
    job.store(*at, buffer).await?;
    *at += length;
    match read {
        Err(error @ PullError::Size { .. }) => Err(error),
        _ if *at == end => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(PullError::Transport("unexpected EOF".into())),
    }
}

/// How often one connection fails before all is given up: only attempts during which nobody got on count.
struct Patience {
    fruitless: u32,
    streak: u32,
    seen: u64,
}

impl Patience {
    fn new(job: &Job) -> Self {
        Self { fruitless: 0, streak: 0, seen: job.received() }
    }

    /// Waits before another try, or gives up.
    async fn wait(&mut self, job: &Job, error: PullError, got: u64) -> Result<(), PullError> {
        let received = job.received();
        if !error.is_transient() || (error.is_refusal() && !job.is_answered()) {
            return Err(error);
        }
        self.fruitless = if received > self.seen { 0 } else { self.fruitless + 1 };
        self.seen = received;
        if self.fruitless > job.settings.retries {
            return Err(PullError::Retries(Arc::new(error)));
        }
        tracing::debug!(blob.digest = %job.digest, %error, "a connection is tried again");
        self.streak = if got >= WORTH { 0 } else { self.streak + 1 };
        let wait = error.retry_after().unwrap_or_else(|| backoff(&job.settings, self.streak));
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// The wait after `failures` in a row: doubled each time, and shaken so that connections do not march in step.
pub(in super::super) fn backoff(settings: &PullSettings, failures: u32) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    if failures == 0 {
        return Duration::ZERO;
    }
    let wait = settings.backoff.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_BACKOFF);
    let shake = (RandomState::new().hash_one(failures) % 512) as f64 / 1024.0;
    wait.mul_f64(0.75 + shake)
}
