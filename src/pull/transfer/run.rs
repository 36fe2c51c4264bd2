//! The course of one transfer: lock, resume, fetch and hash, commit; and all of it once more when what came was wrong.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join3;

use super::super::{PullError, PullSettings};
use super::fetch::fetch;
use super::job::{Hashes, Job};
use super::journal::{self, Journal};
use super::rate::Rate;
use super::spans::Spans;
use super::{Proof, Remote, Wanted, blocking};
use crate::store::{Partial, Pin, Store, StoreError};

/// Between two looks at a partial that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(
    store: Store,
    settings: Arc<PullSettings>,
    wanted: Wanted,
    remote: Arc<dyn Remote>,
    completed: Arc<AtomicU64>,
    rates: [Arc<Rate>; 2],
) -> Result<Pin, PullError> {
    let size = wanted.size;
    let mut anew = false;
    loop {
        let Some(partial) = lock(&store, wanted).await? else {
            completed.store(size, Ordering::Relaxed);
            return Ok(store.pin(wanted.key));
        };
        let mut scrap = Scrap::of(&partial, wanted.proof);
        let (partial, file, journal, spans) = blocking(move || resume(partial, size)).await??;
        let resumed = spans.total() > 0;
        let file = (file, partial.path().to_owned());
        let job = Job::new(wanted, settings.clone(), file, (journal, spans), completed.clone());
        job.mixed.store(anew, Ordering::Relaxed);
        let job = Arc::new(job);
        let fetched = try_join3(fetch(&job, &*remote, &rates), job.clone().hash(), job.clone().sync()).await;
        let actual = match fetched {
            Ok(((), actual, ())) => actual,
            Err(error) => {
                let again = matches!(error, PullError::Changed) && !anew && wanted.is_proven();
                // What is there is of no use to anybody.
                if job.is_spoiled() || matches!(error, PullError::Changed) {
                    drop(job);
                    blocking(move || partial.discard()).await?;
                }
                if !again {
                    return Err(error);
                }
                tracing::warn!(blob.digest = %wanted.key, "a blob has changed on its server, and is begun anew");
                anew = true;
                continue;
            }
        };
        scrap.0 = None;
        drop(job);
        // Before it has its name: then nobody removes it before those who wait for it know what it is.
        let pin = store.pin(actual.sha256);
        match blocking(move || commit(partial, wanted.proof, &actual)).await? {
            // What an earlier process left may be what was wrong, or one answer of a server, or one server of several.
            Err(error @ (PullError::DigestMismatch { .. } | PullError::GitMismatch { .. })) if resumed || !anew => {
                tracing::warn!(blob.digest = %wanted.key, %error, "a download is begun anew");
                anew |= !resumed;
                remote.distrust();
            }
            ended => return ended.map(|()| pin),
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
        if !partial.lock()? {
            return Ok(Found::Busy);
        }
        if let Some(digest) = wanted.known()
            && store.blobs().settle(&digest, Some(wanted.size))?
        {
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
