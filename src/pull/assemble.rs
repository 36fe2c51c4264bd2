//! A model out of files from somewhere: fetched one after another, then made as an upload of them would be.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_stream::try_stream;
use futures_util::Stream;
use sha1::Digest as _;
use tokio::time::MissedTickBehavior;

use super::transfer::{GitHash, Proof, Remote, Wanted, blocking};
use super::{PullError, PullEvent, Puller, hub_cache};
use crate::create::{self, CreateFile, CreateRequest};
use crate::store::{MediaType, Store, StoreError};
use crate::types::{Digest, ModelName};

/// Bytes of a file that is looked at again in place of being fetched again.
const SMALL: u64 = 16 << 20;

/// A file that is wanted, and where it can be had.
pub(super) struct RemoteFile {
    /// A clean relative path.
    pub(super) path: String,
    pub(super) wanted: Wanted,
    pub(super) remote: Arc<dyn Remote>,
    /// Where it may stand on this machine.
    pub(super) local: Option<PathBuf>,
}

impl Puller {
    /// Fetches `files` and makes the model `name` of them. When they make no model, those that came for it go again.
    pub(super) fn assemble(
        &self,
        name: ModelName,
        files: Vec<RemoteFile>,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            let store = puller.store().clone();
            // From here until the name is written, nobody removes what is there or comes.
            let mut pins: Vec<_> =
                files.iter().filter_map(|file| file.wanted.known()).map(|digest| store.pin(digest)).collect();
            let there = {
                let (store, name) = (store.clone(), name.clone());
                let wanted = files.iter().map(|file| (file.path.clone(), file.wanted)).collect();
                blocking(move || there(&store, &name, wanted)).await?
            };
            pins.extend(there.values().map(|digest| store.pin(*digest)));
            let missing = files.iter().filter(|file| !there.contains_key(&file.path)).map(|file| file.wanted).collect();
            puller.check_space(missing).await?;

            let (mut brought, mut parts) = (Vec::new(), Vec::new());
            for file in files {
                let (key, total) = (file.wanted.key, file.wanted.size);
                let event = |completed| PullEvent::File { name: file.path.clone(), key, total, completed };
                let local = match there.get(&file.path) {
                    Some(digest) => Some(*digest),
                    None => puller.take_in(file.local, file.wanted).await?,
                };
                let digest = match local {
                    Some(digest) => digest,
                    None => {
                        let flight = puller.transfers().join(file.wanted, file.remote);
                        let mut tick = tokio::time::interval(puller.settings().tick);
                        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                        let mut completed = 0;
                        loop {
                            let ended = tokio::select! {
                                ended = flight.wait() => Some(ended),
                                _ = tick.tick() => None,
                            };
                            if let Some(ended) = ended {
                                break ended.map_err(|error| error.of_file(&file.path))?;
                            }
                            completed = flight.completed().max(completed);
                            yield event(completed);
                        }
                    }
                };
                pins.push(store.pin(digest));
                if !there.contains_key(&file.path) {
                    brought.push(digest);
                }
                yield event(total);
                parts.push(CreateFile::new(&file.path, &digest.to_string()).map_err(PullError::from)?);
            }
            yield PullEvent::Verifying;
            yield PullEvent::Writing;
            let request = CreateRequest { files: parts, ..CreateRequest::new(name) };
            let made = blocking(move || {
                create::create(&store, request, |_| ()).map_err(|error| {
                    drop(pins);
                    if let Err(error) = store.remove_unused(brought) {
                        tracing::warn!(%error, "what was fetched in vain stays");
                    }
                    PullError::from(error)
                })
            });
            made.await??;
            yield PullEvent::Done;
        }
    }
}

impl Puller {
    /// Copies a file that is on this machine. A cache that cannot be read is none.
    async fn take_in(&self, local: Option<PathBuf>, wanted: Wanted) -> Result<Option<Digest>, PullError> {
        let Some(path) = local else { return Ok(None) };
        let store = self.store().clone();
        let taken = blocking(move || hub_cache::take_in(&store, &path, &wanted)).await?;
        Ok(taken.unwrap_or_else(|error| {
            tracing::warn!(%error, "a file that is here is fetched all the same");
            None
        }))
    }
}

/// Those of the wanted files that need not be fetched: by their digest, or because the former model of this name has them.
fn there(store: &Store, name: &ModelName, wanted: Vec<(String, Wanted)>) -> HashMap<String, Digest> {
    let former = store.tags().get(name).map(|tag| tag.manifest).ok();
    let of_former = |path: &str, wanted: &Wanted, hash: GitHash| {
        let mut layers = former.iter().flat_map(|former| former.layers_of(MediaType::File));
        let layer = layers.find(|layer| layer.name.as_deref() == Some(path) && layer.size == wanted.size)?;
        has_git_hash(store, &layer.digest, wanted.size, hash).ok()?.then_some(layer.digest)
    };
    let find = |(path, wanted): (String, Wanted)| {
        let digest = match wanted.proof {
            Proof::Sha256 => Some(wanted.key)
                .filter(|digest| store.blobs().settle(digest, Some(wanted.size)).is_ok_and(|there| there)),
            Proof::Git(hash) => of_former(&path, &wanted, hash),
            Proof::Nothing { .. } => None,
        }?;
        store.blobs().touch(&digest);
        Some((path, digest))
    };
    wanted.into_iter().filter_map(find).collect()
}

fn has_git_hash(store: &Store, digest: &Digest, size: u64, hash: GitHash) -> Result<bool, StoreError> {
    let content = store.blobs().read(digest, SMALL)?;
    let mut git = GitHash::begin(size);
    git.update(content);
    Ok(GitHash(git.finalize().into()) == hash)
}
