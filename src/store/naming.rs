//! Pointing names at manifests, and the blobs that go with those they pointed at before.

use std::fs::File;
use std::time::SystemTime;

use super::{Manifest, Pin, Store, StoreError};
use crate::types::{Digest, ModelName};

/// What a name was before it was written.
struct Former<'a> {
    name: &'a ModelName,
    /// Its file and the time of that; `None` where this store had no such name.
    file: Option<(Vec<u8>, SystemTime)>,
    /// What it is to become.
    written: &'a [u8],
    manifest: Option<Manifest>,
    /// Until all is written nobody collects what may be named again.
    _pins: Vec<Pin>,
}

impl Store {
    /// Writes `manifest` under `name` and removes the blobs that only the manifest it replaces had used.
    /// Gives how many blobs went.
    ///
    /// # Errors
    /// When a blob of the manifest is missing, or a file cannot be written.
    pub fn tag(&self, name: &ModelName, manifest: &[u8]) -> Result<usize, StoreError> {
        self.tag_all(&[(name, manifest)])
    }

    /// As [`Store::tag`], for several names: all of them are written, or none.
    ///
    /// # Errors
    /// As [`Store::tag`]; then each name is what it was.
    pub fn tag_all(&self, models: &[(&ModelName, &[u8])]) -> Result<usize, StoreError> {
        let manifests: Vec<Manifest> =
            models.iter().map(|(_, manifest)| Manifest::parse(manifest)).collect::<Result<_, _>>()?;
        let digests = || manifests.iter().flat_map(Manifest::descriptors).map(|descriptor| descriptor.digest);
        let missing = |digest: &Digest| self.blobs().size(digest).is_none();
        for digest in digests() {
            if missing(&digest) {
                return Err(StoreError::MissingBlob(digest));
            }
            self.blobs().secure(&digest)?;
        }
        let alone = self.alone();
        if let Some(digest) = digests().find(missing) {
            return Err(StoreError::MissingBlob(digest));
        }
        let mut formers = Vec::new();
        for (name, manifest) in models {
            formers.push(self.former(name, manifest));
            if let Err(error) = self.tags().put(name, manifest) {
                formers.iter().rev().for_each(|former| self.put_back(former));
                return Err(error);
            }
        }
        drop(alone);
        let replaced: Vec<Manifest> = formers.into_iter().filter_map(|former| former.manifest).collect();
        if self.keeps_replaced {
            return Ok(0);
        }
        Ok(self.clear(&replaced))
    }

    /// Removes the blobs of these manifests that no name uses. What cannot be removed stays: the names are written by then.
    fn clear(&self, formers: &[Manifest]) -> usize {
        let digests = formers.iter().flat_map(Manifest::descriptors).map(|descriptor| descriptor.digest);
        self.remove_unused(digests).unwrap_or_else(|error| {
            tracing::warn!(%error, "blobs that nothing uses stay");
            0
        })
    }

    /// Removes `name`, and the blobs that no other name uses.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::NotOurs`]; a file that cannot be removed.
    pub fn remove(&self, name: &ModelName) -> Result<(), StoreError> {
        let alone = self.alone();
        let former = self.tags().remove(name)?;
        drop(alone);
        self.clear(former.as_slice());
        Ok(())
    }

    fn former<'a>(&self, name: &'a ModelName, written: &'a [u8]) -> Former<'a> {
        let manifest = self.tags().own_tag(name).ok().map(|tag| tag.manifest);
        let blobs = manifest.iter().flat_map(Manifest::descriptors);
        let pins = blobs.map(|blob| self.pin(blob.digest)).collect();
        Former { name, file: self.tags().own_bytes(name).ok(), written, manifest, _pins: pins }
    }

    /// Makes a name what it was.
    fn put_back(&self, former: &Former<'_>) {
        let done = match &former.file {
            // Only what was written here goes: what stood there may have been something that could not be read.
            None => match self.tags().own_bytes(former.name) {
                Ok((now, _)) if now == former.written => self.tags().remove(former.name).map(drop),
                _ => Ok(()),
            },
            Some((bytes, modified)) => self.tags().put(former.name, bytes).map(|()| {
                // The list of models is in the order of these times.
                let file = File::open(self.layout().manifest(&self.tags().resolve(former.name)));
                file.and_then(|file| file.set_modified(*modified)).ok();
            }),
        };
        match done {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => tracing::warn!(%error, "a name could not be made what it was before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::store::{MediaType, testing};

    fn manifest(store: &Store, weights: &[u8]) -> Vec<u8> {
        let layers = vec![testing::layer(store, MediaType::Model, weights)];
        Manifest::new(testing::layer(store, MediaType::Config, b"{}"), layers).to_bytes()
    }

    #[test]
    fn several_names_are_written_or_none() {
        let (_folder, store) = testing::store();
        let [new, old, bad] = ["new", "old", "bad"].map(|name| ModelName::parse(name).unwrap());
        let former = manifest(&store, b"former");
        store.tag(&old, &former).unwrap();
        let path = store.layout().manifest(&old);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::open(&path).unwrap().set_modified(then).unwrap();
        // A folder stands where the name's file would.
        fs::create_dir_all(store.layout().manifest(&bad).join("x")).unwrap();

        let other = manifest(&store, b"other");
        let models: [(&ModelName, &[u8]); 3] = [(&new, &other), (&old, &other), (&bad, &other)];
        assert!(matches!(store.tag_all(&models), Err(StoreError::Io { .. })));
        let names: Vec<_> = store.tags().list().into_iter().map(|tag| tag.name).collect();
        assert_eq!(names, std::slice::from_ref(&old));
        assert_eq!(store.tags().bytes(&old).unwrap(), (former, then));
        assert!(store.blobs().size(&Digest::of(b"former")).is_some());

        // While a name is broken, nobody knows which blobs are used.
        fs::remove_dir_all(store.layout().manifest(&bad)).unwrap();
        assert_eq!(store.tag_all(&models[..2]).unwrap(), 1, "what was replaced goes");
        assert!(store.blobs().size(&Digest::of(b"former")).is_none());
        assert_eq!(store.tags().bytes(&old).unwrap().0, store.tags().bytes(&new).unwrap().0);
    }
}
