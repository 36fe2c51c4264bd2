//! Removing what no name uses any more, and nothing that is about to be used.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::retry_on_intr;

use super::{Pin, Store, StoreError};
use crate::types::Digest;

/// Held by who writes a name, or looks which blobs no name uses and removes them: no name comes between that look and the
/// removal, from here or from another process.
pub(super) struct Alone<'a> {
    /// Dropped before the one that lets the next of this process go on.
    _everywhere: Option<File>,
    _here: MutexGuard<'a, ()>,
}

impl Store {
    /// A std mutex: held over work on the disk, by threads that may block.
    pub(super) fn alone(&self) -> Alone<'_> {
        let here = self.inner.naming.lock().unwrap_or_else(PoisonError::into_inner);
        // Where there are no locks, this process must do.
        let folder = File::open(self.layout().manifests()).ok();
        let everywhere = folder.filter(|folder| retry_on_intr(|| flock(folder, FlockOperation::LockExclusive)).is_ok());
        Alone { _everywhere: everywhere, _here: here }
    }

    /// Keeps `digest` from being collected, whether it is there yet or not, as long as the pin lives.
    pub fn pin(&self, digest: Digest) -> Pin {
        self.inner.pins.pin(digest)
    }

    /// What is pinned now, by whomever.
    pub(super) fn pinned(&self) -> HashSet<Digest> {
        self.inner.pins.lock().all()
    }

    /// Every digest that a readable manifest names. `None` when a manifest cannot be read: then nobody knows.
    pub(super) fn referenced(&self) -> Option<HashSet<Digest>> {
        let mut used = HashSet::new();
        let Some(names) = self.tags().all_names() else {
            tracing::warn!(
                "nothing is collected while a folder of manifests cannot be read, or has a name that is none"
            );
            return None;
        };
        for name in names {
            match self.tags().own_tag(&name) {
                Ok(tag) => used.extend(tag.manifest.descriptors().map(|descriptor| descriptor.digest)),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, "nothing is collected while a manifest cannot be read");
                    return None;
                }
            }
        }
        Some(used)
    }

    /// Removes a blob that no pin holds. Nobody here can pin it meanwhile: who pins first and looks then sees it gone.
    pub(super) fn remove_unpinned(&self, digest: &Digest) -> Result<bool, StoreError> {
        let pins = self.inner.pins.lock();
        let goes = !pins.all().contains(digest) && self.blobs().is_own(digest);
        if goes {
            self.blobs().remove(digest)?;
        }
        Ok(goes)
    }

    /// Removes those of these blobs that nothing uses. Gives how many went.
    ///
    /// # Errors
    /// A file that cannot be removed; all others are, all the same.
    pub fn remove_unused(&self, digests: impl IntoIterator<Item = Digest>) -> Result<usize, StoreError> {
        self.remove_unused_if(digests, |_| true)
    }

    /// As [`Store::remove_unused`], of those that may go at the moment when they would.
    pub(super) fn remove_unused_if(
        &self,
        digests: impl IntoIterator<Item = Digest>,
        may_go: impl Fn(&Digest) -> bool,
    ) -> Result<usize, StoreError> {
        let _alone = self.alone();
        let Some(used) = self.referenced() else { return Ok(0) };
        let unused: HashSet<Digest> = digests.into_iter().collect();
        let (mut removed, mut failed) = (0, None);
        for digest in unused.difference(&used).filter(|digest| may_go(digest)) {
            match self.remove_unpinned(digest) {
                Ok(gone) => removed += usize::from(gone),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(removed), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::testing::{self, weights};
    use crate::store::{Descriptor, Manifest, MediaType};
    use crate::types::ModelName;

    #[test]
    fn nothing_goes_while_the_names_are_not_known() {
        let (folder, store) = testing::store();
        let digest = store.blobs().put(b"of no name").unwrap();
        // Another program's, perhaps.
        let odd = store.layout().manifests().join("host/namespace/model");
        fs::create_dir_all(&odd).unwrap();
        fs::write(odd.join("no name at all"), "{}").unwrap();
        assert_eq!(store.remove_unused([digest]).unwrap(), 0);
        fs::remove_file(odd.join("no name at all")).unwrap();
        fs::rename(store.layout().manifests(), folder.path().join("elsewhere")).unwrap();
        assert_eq!(store.remove_unused([digest]).unwrap(), 0);
        fs::rename(folder.path().join("elsewhere"), store.layout().manifests()).unwrap();
        assert_eq!(store.remove_unused([digest]).unwrap(), 1);
    }

    #[test]
    fn shared_and_pinned_blobs_stay() {
        let (_folder, store) = testing::store();
        let shared = weights(&store, "one", b"shared");
        assert_eq!(weights(&store, "two", b"shared"), shared);
        let own = weights(&store, "three", b"own");
        let pinned = weights(&store, "four", b"pinned");

        store.remove(&ModelName::parse("ONE").unwrap()).unwrap();
        assert!(store.blobs().size(&shared).is_some());
        store.remove(&ModelName::parse("two").unwrap()).unwrap();
        assert!(store.blobs().size(&shared).is_none());

        let pin = store.pin(pinned);
        store.remove(&ModelName::parse("four").unwrap()).unwrap();
        assert!(store.blobs().size(&pinned).is_some());
        drop(pin);

        weights(&store.clone().keep_replaced(), "three", b"new");
        assert!(store.blobs().size(&own).is_some(), "unless they are to stay");
        weights(&store, "three", b"own");
        weights(&store, "three", b"newer");
        assert!(store.blobs().size(&own).is_none(), "a replaced model's blobs go");
        assert_eq!(store.tags().list().len(), 1);
        assert!(matches!(store.remove(&ModelName::parse("one").unwrap()), Err(StoreError::NotFound(_))));
        assert!(fs::read_dir(store.layout().manifests()).unwrap().count() == 1, "empty folders go too");
    }

    #[test]
    fn a_manifest_without_its_blobs_is_refused() {
        let (_folder, store) = testing::store();
        let config = testing::layer(&store, MediaType::Config, b"{}");
        let lost = Descriptor { digest: Digest::of(b"lost"), ..config.clone() };
        let name = ModelName::parse("one").unwrap();
        let tagged = store.tag(&name, &Manifest::new(config, vec![lost]).to_bytes());
        assert!(matches!(tagged, Err(StoreError::MissingBlob(_))));
        assert!(store.tags().list().is_empty());
    }
}
