//! A model out of files from somewhere: fetched one after another, then made as an upload of them would be.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_stream::try_stream;
use futures_util::Stream;
use sha1::Digest as _;

use super::hub_cache::{self, Found, Share, SharedFile};
use super::repository::HubFile;
use super::transfer::{GitHash, Progress, Proof, Remote, Step, Wanted, blocking};
use super::{PullError, PullEvent, Puller};
use crate::create::{self, CreateFile, CreateRequest};
use crate::store::{MediaType, Pin, Store, StoreError};
use crate::types::{Digest, ModelName};

/// Bytes of a file that is looked at again in place of being fetched again, or before the others.
const SMALL: u64 = 64 << 20;

/// A file that is wanted, and where it can be had.
pub(super) struct RemoteFile {
    /// A clean relative path.
    pub(super) path: String,
    pub(super) wanted: Wanted,
    pub(super) origin: Origin,
    /// Where it may stand on this machine.
    places: Vec<PathBuf>,
    /// What its content must be beside what is wanted.
    expected: Option<Digest>,
    /// It is in the store already, and stays there.
    held: Option<(Digest, Pin)>,
}

/// Where a file comes from that is not on this machine.
pub(super) enum Origin {
    Remote(Arc<dyn Remote>),
    /// From nowhere: it should be in the hub's cache.
    Cache {
        folder: PathBuf,
        why: String,
    },
}

impl RemoteFile {
    pub(super) fn new(path: &str, wanted: Wanted, origin: Origin) -> Self {
        Self { path: path.to_owned(), wanted, origin, places: Vec::new(), expected: None, held: None }
    }

    /// The same, which may stand at one of these places on this machine.
    pub(super) fn or_at(self, places: Vec<PathBuf>) -> Self {
        Self { places, ..self }
    }

    /// The same, held to what was said of its content as well.
    pub(super) fn held_to(self, file: &HubFile) -> Result<Self, PullError> {
        let expected = file.sha256.filter(|_| self.path == file.path);
        match (self.wanted.known(), expected) {
            (Some(actual), Some(expected)) if actual != expected => Err(PullError::DigestMismatch { expected, actual }),
            _ => Ok(Self { expected, ..self }),
        }
    }

    /// Whether it seems to be on this machine.
    pub(super) fn is_near(&self) -> bool {
        let fits =
            |place: &PathBuf| fs::metadata(place).is_ok_and(|seen| seen.is_file() && seen.len() == self.wanted.size);
        self.held.is_some() || self.places.iter().any(fits)
    }

    fn remote(&self) -> Result<Arc<dyn Remote>, PullError> {
        match &self.origin {
            Origin::Remote(remote) => Ok(remote.clone()),
            Origin::Cache { folder, why } => {
                let (path, folder) = (&self.path, folder.display());
                Err(PullError::Hub(format!("`{path}` is not, or not whole, in its cache at `{folder}`; {why}")))
            }
        }
    }
}

impl Puller {
    /// Fetches `files` and makes the model `name` of them, and shares them where that is wanted. When they make no model,
    /// those that came for it go again.
    pub(super) fn assemble(
        &self,
        name: ModelName,
        files: Vec<RemoteFile>,
        share: Option<Share>,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            let store = puller.store().clone();
            // From here until the name is written, nobody removes what is there or comes.
            let mut pins: Vec<_> =
                files.iter().filter_map(|file| file.wanted.known()).map(|digest| store.pin(digest)).collect();
            let there = puller.there(&name, &files).await?;
            pins.extend(there.values().map(|digest| store.pin(*digest)));
            let missing = |file: &&RemoteFile| !there.contains_key(&file.path) && !file.is_near();
            puller.check_space(files.iter().filter(missing).map(|file| file.wanted).collect()).await?;

            let (mut brought, mut shared) = (Vec::new(), Vec::new());
            for file in files {
                let (key, total) = (file.wanted.key, file.wanted.size);
                let event = |completed| PullEvent::File { name: file.path.clone(), key, total, completed };
                let (local, wrong) = match there.get(&file.path) {
                    Some(digest) => (Some(*digest), false),
                    None => {
                        yield event(0);
                        puller.take_in(&file).await?
                    }
                };
                let digest = match local {
                    Some(digest) => digest,
                    None => {
                        let flight = puller.join(file.wanted, file.remote()?);
                        let mut progress = Progress::of(flight, puller.settings().tick);
                        loop {
                            match progress.next().await {
                                Step::Completed(completed) => yield event(completed),
                                Step::Ended(ended) => break ended.map_err(|error| error.of_file(&file.path))?,
                            }
                        }
                    }
                };
                if let Some(expected) = file.expected.filter(|expected| *expected != digest) {
                    Err(PullError::DigestMismatch { expected, actual: digest })?;
                }
                pins.push(store.pin(digest));
                if file.held.is_some() || !there.contains_key(&file.path) {
                    brought.push(digest);
                }
                yield event(total);
                shared.push(SharedFile { path: file.path.clone(), wanted: file.wanted, digest, wrong });
            }
            yield PullEvent::Verifying;
            yield PullEvent::Writing;
            let part = |file: &SharedFile| CreateFile::new(&file.path, &file.digest.to_string());
            let parts = shared.iter().map(part).collect::<Result<_, _>>().map_err(PullError::from)?;
            let request = CreateRequest { files: parts, ..CreateRequest::new(name) };
            let made = blocking(move || {
                let made = create::create(&store, request, |_| ());
                if let (Ok(()), Some(share)) = (&made, share) {
                    share.write(&store, &shared);
                }
                made.map_err(|error| {
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

    /// Those of the files that need not be fetched: held, in the store by their digest, or the former model's of this name.
    async fn there(&self, name: &ModelName, files: &[RemoteFile]) -> Result<HashMap<String, Digest>, PullError> {
        let held = |file: &RemoteFile| file.held.as_ref().map(|(digest, _)| (file.path.clone(), *digest));
        let mut there: HashMap<_, _> = files.iter().filter_map(held).collect();
        let (store, name) = (self.store().clone(), name.clone());
        let rest =
            files.iter().filter(|file| file.held.is_none()).map(|file| (file.path.clone(), file.wanted)).collect();
        there.extend(blocking(move || self::there(&store, &name, rest)).await?);
        Ok(there)
    }

    /// Fetches a small file before the others, for what it says of them. It is not fetched again.
    pub(super) async fn bring_ahead(&self, name: &ModelName, file: &mut RemoteFile) -> Result<Vec<u8>, PullError> {
        let store = self.store().clone();
        let pin = file.wanted.known().map(|digest| store.pin(digest));
        let there = self.there(name, std::slice::from_ref(file)).await?.remove(&file.path);
        let local = match there {
            Some(digest) => Some(digest),
            None => self.take_in(file).await?.0,
        };
        let digest = match local {
            Some(digest) => digest,
            None => {
                let flight = self.join(file.wanted, file.remote()?);
                flight.wait().await.map_err(|error| error.of_file(&file.path))?
            }
        };
        file.held = Some((digest, store.pin(digest)));
        drop(pin);
        Ok(blocking(move || store.blobs().read(&digest, SMALL)).await??)
    }

    /// Takes in a file that is on this machine, and says whether something else stood in its place. A cache that cannot be
    /// read is none.
    async fn take_in(&self, file: &RemoteFile) -> Result<(Option<Digest>, bool), PullError> {
        let (store, places, wanted) = (self.store().clone(), file.places.clone(), file.wanted);
        blocking(move || {
            let (mut wrong, mut looked) = (false, Vec::new());
            for place in places {
                // A link may lead to what was looked at.
                let real = fs::canonicalize(&place).ok();
                if real.is_some() && looked.contains(&real) {
                    continue;
                }
                looked.push(real);
                match hub_cache::take_in(&store, &place, &wanted) {
                    Ok(Found::Taken(digest)) => return (Some(digest), wrong),
                    Ok(Found::Absent) => {}
                    Ok(Found::Wrong) => {
                        wrong = true;
                        tracing::warn!(path = %place.display(), "what the hub's cache has is not what it should be");
                    }
                    Err(error) => tracing::warn!(%error, "a file that is here is fetched all the same"),
                }
            }
            (None, wrong)
        })
        .await
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
