//! Pointing names at manifests, and the blobs that go with those they pointed at before.

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
        // All of them before the first gets its name: a disk that is full refuses here.
        let prepared = models.iter().map(|(_, manifest)| self.tags().prepare(manifest));
        let prepared = prepared.collect::<Result<Vec<_>, _>>()?;
        let alone = self.alone();
        if let Some(digest) = digests().find(missing) {
            return Err(StoreError::MissingBlob(digest));
        }
        let mut formers = Vec::new();
        for ((name, manifest), prepared) in models.iter().zip(prepared) {
            formers.push(self.former(name, manifest));
            if let Err(error) = self.tags().put(name, prepared) {
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

    /// Makes a name what it was. One that still is so is not written.
    fn put_back(&self, former: &Former<'_>) {
        let done = match &former.file {
            Some(file) if self.tags().own_bytes(former.name).is_ok_and(|now| now == *file) => Ok(()),
            // Only what was written here goes: what stood there may have been something that could not be read.
            None => match self.tags().own_bytes(former.name) {
                Ok((now, _)) if now == former.written => self.tags().remove(former.name).map(drop),
                _ => Ok(()),
            },
            Some((bytes, modified)) => self.tags().prepare(bytes).and_then(|file| {
                // The list of models is in the order of these times.
                file.as_file().set_modified(*modified).ok();
                self.tags().put(former.name, file)
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
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
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

    #[test]
    fn what_a_name_was_comes_back_whatever_it_was() {
        let (_folder, store) = testing::store();
        let name = ModelName::parse("one").unwrap();
        let path = store.layout().manifest(&name);
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let (whole, written) = (manifest(&store, b"former"), manifest(&store, b"written"));
        for bytes in [whole.as_slice(), &whole[..40], b""] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
            File::open(&path).unwrap().set_modified(then).unwrap();
            let inode = || fs::metadata(&path).unwrap().ino();
            let before = inode();
            let former = store.former(&name, &written);
            store.put_back(&former);
            assert_eq!(inode(), before, "what is as it was is not written");
            store.tags().put(&name, store.tags().prepare(&written).unwrap()).unwrap();
            store.put_back(&former);
            assert_eq!(store.tags().own_bytes(&name).unwrap(), (bytes.to_owned(), then));
            assert_eq!(store.tags().own_tag(&name).is_ok(), bytes.len() == whole.len());
        }
        assert_eq!(fs::read_dir(store.layout().manifests()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn where_nothing_was_only_what_was_written_here_goes() {
        let (_folder, store) = testing::store();
        let name = ModelName::parse("one").unwrap();
        let path = store.layout().manifest(&name);
        let (written, others) = (manifest(&store, b"written"), manifest(&store, b"of another program"));
        let after = |between: &dyn Fn(&Path)| {
            let former = store.former(&name, &written);
            store.tags().put(&name, store.tags().prepare(&written).unwrap()).unwrap();
            between(&path);
            store.put_back(&former);
            fs::read(&path).ok()
        };
        assert_eq!(after(&|_| ()), None);
        assert_eq!(after(&|path| fs::remove_file(path).unwrap()), None);
        // Another program has written there meanwhile.
        assert_eq!(after(&|path| fs::write(path, &others).unwrap()), Some(others.clone()));
        fs::remove_file(&path).unwrap();
        // Of what stood there nothing could be read, and it was nothing: that is not made again.
        fs::create_dir(&path).unwrap();
        assert_eq!(after(&|_| ()), None);
        assert!(store.tags().names().is_empty());
    }

    #[test]
    fn a_name_that_is_written_twice_comes_back_to_what_it_was_first() {
        let (_folder, store) = testing::store();
        let [name, bad] = ["one", "bad"].map(|name| ModelName::parse(name).unwrap());
        let [former, first, second] = [&b"former"[..], b"first", b"second"].map(|weights| manifest(&store, weights));
        store.tag(&name, &former).unwrap();
        fs::create_dir_all(store.layout().manifest(&bad).join("x")).unwrap();
        let models: [(&ModelName, &[u8]); 3] = [(&name, &first), (&name, &second), (&bad, &second)];
        assert!(store.tag_all(&models).is_err());
        assert_eq!(store.tags().bytes(&name).unwrap().0, former);
    }
}
