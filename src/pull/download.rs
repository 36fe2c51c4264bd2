//! The course of a pull: manifest, blobs one after another, name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_stream::try_stream;
use futures_util::Stream;

use super::registry::{Registry, RegistryBlob};
use super::transfer::{Progress, Step, Wanted, backoff, blocking};
use super::{PullError, PullEvent, Puller};
use crate::store::{Manifest, MediaType, Store, StoreError};
use crate::types::{Digest, ModelName};

impl Puller {
    /// Brings `name` into the store. Dropped, the stream gives up its share in what is being fetched.
    pub fn pull(
        &self,
        name: ModelName,
        insecure: bool,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        let puller = self.clone();
        try_stream! {
            yield PullEvent::Manifest;
            let fetched = puller.manifest(&name, insecure).await.map_err(PullError::in_manifest)?;
            let (line, bytes, manifest) = fetched;
            if manifest.layers_of(MediaType::Tensor).next().is_some() {
                Err(PullError::Tensors)?;
            }
            // From here until the name is written, nobody removes what is there or comes.
            let pins: Vec<_> = manifest.descriptors().map(|blob| puller.store().pin(blob.digest)).collect();
            let missing = manifest.descriptors().map(|blob| Wanted::digest(blob.digest, blob.size)).collect();
            puller.check_space(missing).await?;

            for blob in manifest.descriptors() {
                let (digest, total) = (blob.digest, blob.size);
                let store = puller.store().clone();
                // What is there and damaged goes out of the way here.
                let there = blocking(move || {
                    let there = store.blobs().settle(&digest, Some(total));
                    store.blobs().touch(&digest);
                    there
                });
                if !there.await?? {
                    let remote = Arc::new(RegistryBlob::new(line.clone(), digest));
                    let flight = puller.join(Wanted::digest(digest, total), remote);
                    let mut progress = Progress::of(flight, puller.settings().tick);
                    loop {
                        match progress.next().await {
                            Step::Completed(completed) => yield PullEvent::Layer { digest, total, completed },
                            Step::Ended(ended) => {
                                ended?;
                                break;
                            }
                        }
                    }
                }
                yield PullEvent::Layer { digest, total, completed: total };
            }
            yield PullEvent::Verifying;
            yield PullEvent::Writing;
            let removed = puller.write_name(&name, &bytes, &manifest, &line).await?;
            drop(pins);
            if removed > 0 {
                yield PullEvent::Pruning;
            }
            yield PullEvent::Done;
        }
    }

    /// Points `name` at the manifest. What another program has removed meanwhile, since no name led to it yet, is brought
    /// once more.
    async fn write_name(
        &self,
        name: &ModelName,
        bytes: &[u8],
        manifest: &Manifest,
        line: &[Arc<Registry>],
    ) -> Result<usize, PullError> {
        let mut again = manifest.descriptors().count();
        loop {
            let (store, name, bytes) = (self.store().clone(), name.clone(), bytes.to_vec());
            let missing = match blocking(move || store.tag(&name, &bytes)).await? {
                Err(StoreError::MissingBlob(digest)) if again > 0 => digest,
                written => return Ok(written?),
            };
            again -= 1;
            tracing::warn!(blob.digest = %missing, "a blob has gone before its model had a name, and is fetched again");
            for blob in manifest.descriptors().filter(|blob| blob.digest == missing).take(1) {
                let remote = Arc::new(RegistryBlob::new(line.to_vec(), missing));
                self.join(Wanted::digest(missing, blob.size), remote).wait().await?;
            }
        }
    }

    /// Whether what is wanted and missing has room.
    pub(super) async fn check_space(&self, wanted: Vec<Wanted>) -> Result<(), PullError> {
        let (store, reserve) = (self.store().clone(), self.settings().reserve);
        blocking(move || check_space(&store, &wanted, reserve)).await?
    }

    /// The manifest of the first who has one that can be read, and who may have the blobs: he and those behind him.
    async fn manifest(
        &self,
        name: &ModelName,
        insecure: bool,
    ) -> Result<(Vec<Arc<Registry>>, Vec<u8>, Manifest), PullError> {
        let mut line = self.registries(name, insecure).await?;
        while line.len() > 1 {
            let fetched = line[0].manifest().await.and_then(|bytes| Ok((read(&bytes)?, bytes)));
            match fetched {
                Ok((manifest, bytes)) => return Ok((line, bytes, manifest)),
                Err(error) => {
                    tracing::warn!(mirror = %line[0].address(), %error, "a mirror does not have the model");
                    line.remove(0);
                }
            }
        }
        let registry = &line[0];
        let mut failures = 0;
        let bytes = loop {
            match registry.manifest().await {
                // A server that cannot be reached is told at once; one that is busy gets time.
                Err(error) if error.is_overload() && failures < self.settings().retries => {
                    failures += 1;
                    let wait = error.retry_after().unwrap_or_else(|| backoff(self.settings(), failures));
                    tokio::time::sleep(wait).await;
                }
                ended => break ended?,
            }
        };
        let manifest = read(&bytes)?;
        Ok((line, bytes, manifest))
    }
}

fn read(bytes: &[u8]) -> Result<Manifest, PullError> {
    let manifest = Manifest::parse(bytes)?;
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    for blob in manifest.descriptors() {
        if *sizes.entry(blob.digest).or_insert(blob.size) != blob.size {
            let why = format!("blob {} has two sizes", blob.digest);
            return Err(StoreError::Manifest(why).into());
        }
    }
    Ok(manifest)
}

/// Whether what is missing has room, before a byte of it is fetched.
fn check_space(store: &Store, wanted: &[Wanted], reserve: u64) -> Result<(), PullError> {
    let mut missing: HashMap<Digest, u64> = HashMap::new();
    for wanted in wanted {
        if wanted.known().and_then(|digest| store.blobs().size(&digest)) != Some(wanted.size) {
            let partial = store.layout().partial(&wanted.key);
            missing.insert(wanted.key, wanted.size.saturating_sub(allocated(&partial)));
        }
    }
    let needed: u64 = missing.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let Some(free) = free_space(&store.layout().blobs()) else {
        return Ok(());
    };
    if needed > 0 && needed.saturating_add(reserve) > free {
        return Err(PullError::Full { needed, free });
    }
    Ok(())
}

/// Bytes of a sparse file that take room on the disk.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |seen| seen.blocks().saturating_mul(512))
}

fn free_space(folder: &Path) -> Option<u64> {
    let seen = rustix::fs::statvfs(folder).ok()?;
    Some(seen.f_bavail.saturating_mul(seen.f_frsize))
}
