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
use crate::create::{self, CreateError, CreateErrorKind, CreateFile, CreateRequest};
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
    held: Option<Pin>,
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

    /// Holds what came to what was said of it.
    fn checked(&self, content: Pin) -> Result<Pin, PullError> {
        let actual = content.digest();
        match self.expected.filter(|expected| *expected != actual) {
            Some(expected) => Err(PullError::DigestMismatch { expected, actual }),
            None => Ok(content),
        }
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

/// A file that has come, and what is known of it.
struct Part {
    file: RemoteFile,
    content: Pin,
    /// It came for this model.
    is_new: bool,
    /// What the hub's cache has under its name is something else.
    wrong: bool,
}

impl Part {
    fn shared(&self) -> SharedFile {
        let Self { file, content, wrong, .. } = self;
        SharedFile { path: file.path.clone(), wanted: file.wanted, digest: content.digest(), wrong: *wrong }
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
            // From here until the name is written, nobody removes what is there or comes.
            let pins: Vec<_> =
                files.iter().filter_map(|file| file.wanted.known()).map(|digest| puller.store().pin(digest)).collect();
            let there = puller.there(&name, &files).await?;
            let missing = |file: &&RemoteFile| !there.contains_key(&file.path) && !file.is_near();
            puller.check_space(files.iter().filter(missing).map(|file| file.wanted).collect()).await?;

            let mut parts = Vec::new();
            for file in files {
                let (path, key, total) = (file.path.clone(), file.wanted.key, file.wanted.size);
                let event = |completed| PullEvent::File { name: path.clone(), key, total, completed };
                let (local, wrong) = match there.get(&path) {
                    Some(content) => (Some(content.clone()), false),
                    None => {
                        yield event(0);
                        puller.take_in(&file).await?
                    }
                };
                let content = match local {
                    Some(content) => content,
                    None => {
                        let flight = puller.join(file.wanted, file.remote()?);
                        let mut progress = Progress::of(flight, puller.settings().tick);
                        loop {
                            match progress.next().await {
                                Step::Completed(completed) => yield event(completed),
                                Step::Ended(ended) => break ended.map_err(|error| error.of_file(&path))?,
                            }
                        }
                    }
                };
                let is_new = file.held.is_some() || !there.contains_key(&path);
                let content = file.checked(content)?;
                parts.push(Part { file, content, is_new, wrong });
                yield event(total);
            }
            yield PullEvent::Verifying;
            yield PullEvent::Writing;
            // Each part holds its own content.
            drop((pins, there));
            puller.make(&name, parts, share).await?;
            yield PullEvent::Done;
        }
    }

    /// Makes the model of its files. What another program has removed meanwhile, since no name led to it yet, is brought
    /// once more.
    async fn make(&self, name: &ModelName, mut parts: Vec<Part>, share: Option<Share>) -> Result<(), PullError> {
        // Each of them, and the config that is made of them.
        let mut again = parts.len() + 1;
        loop {
            let shared: Vec<SharedFile> = parts.iter().map(Part::shared).collect();
            let file = |file: &SharedFile| CreateFile::new(&file.path, &file.digest.to_string());
            let files = shared.iter().map(file).collect::<Result<_, _>>()?;
            let request = CreateRequest { files, ..CreateRequest::new(name.clone()) };
            let (store, to) = (self.store().clone(), share.clone());
            let make = move || match create::create(&store, request, |_| ()) {
                Ok(()) => {
                    if let Some(share) = to {
                        share.write(&store, &shared);
                    }
                    Ok(())
                }
                // A file that goes while it is looked at ends that in many ways.
                Err(error) => {
                    let gone = |file: &&SharedFile| store.blobs().size(&file.digest).is_none();
                    Err((error, shared.iter().filter(gone).map(|file| file.digest).collect::<Vec<_>>()))
                }
            };
            let (error, gone) = match blocking(make).await? {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let is_gone = !gone.is_empty() || matches!(error, CreateError::Store(StoreError::MissingBlob(_)));
            if !is_gone || again == 0 {
                return Err(self.give_up(error, parts).await);
            }
            again -= 1;
            for part in parts.iter_mut().filter(|part| gone.contains(&part.content.digest())) {
                let (path, digest) = (&part.file.path, part.content.digest());
                tracing::warn!(path, blob.digest = %digest, "a file has gone before its model had a name, and is brought again");
                part.content = part.file.checked(self.bring(&part.file).await?)?;
            }
        }
    }

    /// What came for a model goes when it makes none; when it could not be written, it stays for the next try.
    async fn give_up(&self, error: CreateError, parts: Vec<Part>) -> PullError {
        if error.kind() == CreateErrorKind::BadRequest {
            let store = self.store().clone();
            let new = parts.iter().filter(|part| part.is_new).map(|part| part.content.digest()).collect::<Vec<_>>();
            let remove = move || {
                drop(parts);
                store.remove_unused(new)
            };
            if let Ok(Err(error)) = blocking(remove).await {
                tracing::warn!(%error, "what was fetched in vain stays");
            }
        }
        error.into()
    }

    /// Those of the files that need not be fetched: held, in the store by their digest, or the former model's of this name.
    async fn there(&self, name: &ModelName, files: &[RemoteFile]) -> Result<HashMap<String, Pin>, PullError> {
        let held = |file: &RemoteFile| Some((file.path.clone(), file.held.clone()?));
        let mut there: HashMap<_, _> = files.iter().filter_map(held).collect();
        let (store, name) = (self.store().clone(), name.clone());
        let rest =
            files.iter().filter(|file| file.held.is_none()).map(|file| (file.path.clone(), file.wanted)).collect();
        there.extend(blocking(move || self::there(&store, &name, rest)).await?);
        Ok(there)
    }

    /// Fetches a small file before the others, for what it says of them. It is not fetched again.
    pub(super) async fn bring_ahead(&self, name: &ModelName, file: &mut RemoteFile) -> Result<Vec<u8>, PullError> {
        let there = self.there(name, std::slice::from_ref(file)).await?.remove(&file.path);
        let content = match there {
            Some(content) => content,
            None => self.bring(file).await?,
        };
        let (store, digest) = (self.store().clone(), content.digest());
        file.held = Some(content);
        Ok(blocking(move || store.blobs().read(&digest, SMALL)).await??)
    }

    /// Takes a file in that is on this machine, or fetches it.
    async fn bring(&self, file: &RemoteFile) -> Result<Pin, PullError> {
        let _pin = file.wanted.known().map(|digest| self.store().pin(digest));
        if let Some(content) = self.take_in(file).await?.0 {
            return Ok(content);
        }
        let flight = self.join(file.wanted, file.remote()?);
        flight.wait().await.map_err(|error| error.of_file(&file.path))
    }

    /// Takes in a file that is on this machine, and says whether something else stood in its place. A cache that cannot be
    /// read is none. Of several who want one content, the first takes it in.
    pub(super) async fn take_in(&self, file: &RemoteFile) -> Result<(Option<Pin>, bool), PullError> {
        let (puller, places, wanted) = (self.clone(), file.places.clone(), file.wanted);
        blocking(move || {
            let store = puller.store();
            let _turn = puller.inner.taking.take(wanted.key);
            let known = wanted.known().map(|digest| store.pin(digest));
            if let Some(pin) = known.filter(|pin| is_there(store, pin, wanted.size)) {
                return (Some(pin), false);
            }
            let (mut wrong, mut looked) = (false, Vec::new());
            for place in places {
                // A link may lead to what was looked at.
                let real = fs::canonicalize(&place).ok();
                if real.is_some() && looked.contains(&real) {
                    continue;
                }
                looked.push(real);
                match hub_cache::take_in(store, &place, &wanted) {
                    Ok(Found::Taken(content)) => return (Some(content), wrong),
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
fn there(store: &Store, name: &ModelName, wanted: Vec<(String, Wanted)>) -> HashMap<String, Pin> {
    let former = store.tags().get(name).map(|tag| tag.manifest).ok();
    let of_former = |path: &str, wanted: &Wanted, hash: GitHash| {
        let mut layers = former.iter().flat_map(|former| former.layers_of(MediaType::File));
        let layer = layers.find(|layer| layer.name.as_deref() == Some(path) && layer.size == wanted.size)?;
        let pin = store.pin(layer.digest);
        has_git_hash(store, &layer.digest, wanted.size, hash).ok()?.then_some(pin)
    };
    let find = |(path, wanted): (String, Wanted)| {
        let pin = match wanted.proof {
            Proof::Sha256 => Some(store.pin(wanted.key)).filter(|pin| is_there(store, pin, wanted.size)),
            Proof::Git(hash) => of_former(&path, &wanted, hash),
            Proof::Nothing { .. } => None,
        }?;
        store.blobs().touch(&pin.digest());
        Some((path, pin))
    };
    wanted.into_iter().filter_map(find).collect()
}

/// Whether what is pinned need not be brought.
fn is_there(store: &Store, pin: &Pin, size: u64) -> bool {
    store.blobs().settle(&pin.digest(), Some(size)).is_ok_and(|there| there)
}

fn has_git_hash(store: &Store, digest: &Digest, size: u64, hash: GitHash) -> Result<bool, StoreError> {
    let content = store.blobs().read(digest, SMALL)?;
    let mut git = GitHash::begin(size);
    git.update(content);
    Ok(GitHash(git.finalize().into()) == hash)
}
