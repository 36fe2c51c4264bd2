//! Names that point at manifests.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tempfile::NamedTempFile;

use super::layout::{open, sync_folder};
use super::manifest::{LARGEST, Manifest};
use super::stamp::Stamp;
use super::{Layout, StoreError};
use crate::types::{Digest, ModelName};

/// Above this many manifests what is known of them is forgotten.
const MOST: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct Tags {
    layout: Layout,
    /// Other stores, which are read and nothing else; what an earlier one has goes before what a later one has.
    extras: Arc<[Layout]>,
    /// A std mutex: held for single map operations. What stands here holds only for the very file it was read from.
    read: Arc<Mutex<HashMap<PathBuf, (Stamp, Tag)>>>,
}

/// A name and what it points at.
#[derive(Clone, Debug)]
pub struct Tag {
    /// In the spelling it has on disk.
    pub name: ModelName,
    pub manifest: Manifest,
    /// The hash of the manifest's own bytes: the model's identity.
    pub digest: Digest,
    pub modified: SystemTime,
}

impl Tags {
    pub(super) fn new(layout: Layout, extras: Arc<[Layout]>) -> Self {
        Self { layout, extras, read: Arc::default() }
    }

    fn layouts(&self) -> impl Iterator<Item = &Layout> {
        [&self.layout].into_iter().chain(self.extras.iter())
    }

    /// Every readable tag, newest first; of the same second, by name. Broken ones are logged and left out.
    pub fn list(&self) -> Vec<Tag> {
        self.of(self.layouts())
    }

    /// As [`Tags::list`], without those of other stores.
    pub fn own(&self) -> Vec<Tag> {
        self.of([&self.layout])
    }

    fn of<'a>(&self, layouts: impl IntoIterator<Item = &'a Layout>) -> Vec<Tag> {
        let mut tags: Vec<Tag> = Vec::new();
        let mut seen = HashSet::new();
        for layout in layouts {
            // All of one store, even names that differ only in case; of a later one, what those before it do not have.
            let fresh: Vec<ModelName> = names(layout).0.into_iter().filter(|name| !seen.contains(name)).collect();
            seen.extend(fresh.iter().cloned());
            for name in fresh {
                match self.read(layout, name) {
                    Ok(tag) => tags.push(tag),
                    Err(error) => tracing::warn!(%error, "a manifest is passed over"),
                }
            }
        }
        let second = |tag: &Tag| tag.modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs());
        tags.sort_by_cached_key(|tag| (std::cmp::Reverse(second(tag)), tag.name.to_string()));
        tags
    }

    /// Every name that has a file in this store itself, readable or not.
    pub fn names(&self) -> Vec<ModelName> {
        names(&self.layout).0
    }

    /// The names of this store itself, if it is sure that there are no others.
    pub(super) fn all_names(&self) -> Option<Vec<ModelName>> {
        Some(names(&self.layout)).filter(|(_, all)| *all).map(|(names, _)| names)
    }

    /// What this store itself has under that name.
    ///
    /// # Errors
    /// As [`Tags::get`].
    pub(super) fn own_tag(&self, name: &ModelName) -> Result<Tag, StoreError> {
        self.read(&self.layout, resolve(&self.layout, name))
    }

    /// `name` in the spelling in which it is on disk: each part that differs only in case from what is there becomes
    /// what is there.
    pub fn resolve(&self, name: &ModelName) -> ModelName {
        resolve(&self.layout, name)
    }

    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::BrokenManifest`] for what cannot be read as one.
    pub fn get(&self, name: &ModelName) -> Result<Tag, StoreError> {
        self.first(name, |layout| self.read(layout, resolve(layout, name)))
    }

    /// What the first store that has the name gives.
    fn first<T>(
        &self,
        name: &ModelName,
        mut get: impl FnMut(&Layout) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let there = |got: &Result<T, StoreError>| !matches!(got, Err(StoreError::NotFound(_)));
        let found = self.layouts().map(&mut get).find(there);
        found.unwrap_or_else(|| Err(StoreError::NotFound(name.short())))
    }

    /// The manifest of `name`, which is spelled as on disk. A file that was read before is not read again.
    fn read(&self, layout: &Layout, name: ModelName) -> Result<Tag, StoreError> {
        let path = layout.manifest(&name);
        let known = self.read.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        if let Some((stamp, tag)) = known
            && fs::metadata(&path).is_ok_and(|seen| Stamp::of(&seen).is_ok_and(|now| now == stamp))
        {
            return Ok(tag);
        }
        let (bytes, stamp) = read(&path, &name)?;
        let manifest = Manifest::parse(&bytes)
            .map_err(|error| StoreError::BrokenManifest { name: name.short(), why: error.to_string() })?;
        let tag = Tag { name, manifest, digest: Digest::of(&bytes), modified: stamp.modified };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= MOST {
            read.clear();
        }
        read.insert(path, (stamp, tag.clone()));
        Ok(tag)
    }

    /// Drops what is known of a manifest that is another by now.
    fn forget(&self, path: &Path) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// The manifest's own bytes and when it was written.
    ///
    /// # Errors
    /// As [`Tags::get`].
    pub fn bytes(&self, name: &ModelName) -> Result<(Vec<u8>, SystemTime), StoreError> {
        let (bytes, stamp) = self.first(name, |layout| read(&layout.manifest(&resolve(layout, name)), name))?;
        Ok((bytes, stamp.modified))
    }

    /// As [`Tags::bytes`], of this store itself.
    ///
    /// # Errors
    /// As [`Tags::get`].
    pub(super) fn own_bytes(&self, name: &ModelName) -> Result<(Vec<u8>, SystemTime), StoreError> {
        let (bytes, stamp) = read(&self.layout.manifest(&self.resolve(name)), name)?;
        Ok((bytes, stamp.modified))
    }

    /// Writes a manifest that is to get a name, its bytes as they are. Dropped, it leaves nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn prepare(&self, manifest: &[u8]) -> Result<NamedTempFile, StoreError> {
        // The temp file stands at the root of the manifests, four levels above: no reader takes it for a tag.
        let root = self.layout.manifests();
        let file = tempfile::Builder::new().prefix("ingest-").tempfile_in(&root);
        let mut file = file.map_err(StoreError::io("write in", &root))?;
        let write = |file: &mut NamedTempFile| {
            file.write_all(manifest)?;
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            file.as_file().sync_all()
        };
        write(&mut file).map_err(StoreError::io("write", file.path()))?;
        Ok(file)
    }

    /// Points `name` at a manifest that was prepared.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub(super) fn put(&self, name: &ModelName, manifest: NamedTempFile) -> Result<(), StoreError> {
        let path = self.layout.manifest(&self.resolve(name));
        let folder = path.parent().unwrap_or(&path).to_owned();
        fs::create_dir_all(&folder).map_err(StoreError::io("make", &folder))?;
        place(manifest, &path).map_err(StoreError::io("rename to", &path))?;
        self.forget(&path);
        let root = self.layout.manifests();
        // The folders may be new as well: each is an entry of the one above.
        folder.ancestors().take_while(|above| above.starts_with(&root)).try_for_each(sync_folder)
    }

    /// Removes `name` and the folders above it that are empty then. Gives the manifest, if it could be read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::NotOurs`]; a file that cannot be removed.
    pub(super) fn remove(&self, name: &ModelName) -> Result<Option<Manifest>, StoreError> {
        let name = self.resolve(name);
        let manifest = match self.read(&self.layout, name.clone()) {
            Ok(tag) => Some(tag.manifest),
            Err(error @ StoreError::NotFound(_)) => {
                let has = |layout: &&Layout| self.read(layout, resolve(layout, &name)).is_ok();
                let other = self.extras.iter().find(has).map(|layout| layout.root().to_owned());
                return Err(other.map_or(error, |store| StoreError::NotOurs { name: name.short(), store }));
            }
            Err(_) => None,
        };
        let path = self.layout.manifest(&name);
        let folder = fs::symlink_metadata(&path).is_ok_and(|seen| seen.is_dir());
        let removed = if folder { fs::remove_dir(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| match error.kind() {
            // Another program was quicker.
            io::ErrorKind::NotFound => StoreError::NotFound(name.short()),
            _ => StoreError::io("remove", &path)(error),
        })?;
        self.forget(&path);
        let root = self.layout.manifests();
        let mut folder = path.as_path();
        while let Some(above) = folder.parent().filter(|above| *above != root && fs::remove_dir(above).is_ok()) {
            folder = above;
        }
        // Blobs may go now: the name must not come back without them.
        folder.parent().map_or(Ok(()), sync_folder)?;
        Ok(manifest)
    }
}

/// Gives a finished file its name.
pub(super) fn place(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let Err(failed) = file.persist(path) else { return Ok(()) };
        tries += 1;
        match failed.error.kind() {
            _ if tries > 3 => return Err(failed.error),
            // The folder was empty, and another program has removed it.
            io::ErrorKind::NotFound => fs::create_dir_all(path.parent().unwrap_or(path))?,
            // What stands there is no manifest. If it is empty, nothing is lost.
            io::ErrorKind::IsADirectory => fs::remove_dir(path)?,
            _ => return Err(failed.error),
        }
        file = failed.file;
    }
}

/// The names that could be read, and whether that is all there are.
fn names(layout: &Layout) -> (Vec<ModelName>, bool) {
    let (mut names, mut all) = (Vec::new(), layout.manifests().is_dir());
    let mut below = |folder: &Path| {
        let (children, readable) = children(folder);
        all &= readable;
        children
    };
    let mut legal = true;
    for host in below(&layout.manifests()) {
        for namespace in below(&host.1) {
            for model in below(&namespace.1) {
                for tag in below(&model.1) {
                    let name = ModelName::from_parts(&host.0, &namespace.0, &model.0, &tag.0);
                    legal &= name.is_ok();
                    names.extend(name);
                }
            }
        }
    }
    (names, all && legal)
}

fn resolve(layout: &Layout, name: &ModelName) -> ModelName {
    let mut folder = layout.manifests();
    let mut parts = [name.host(), name.namespace(), name.model(), name.tag()].map(str::to_owned);
    for part in &mut parts {
        // The exact spelling first, and without a look at the whole folder.
        if !folder.join(&*part).exists() {
            let mut alike: Vec<String> = children(&folder).0.into_iter().map(|(name, _)| name).collect();
            alike.retain(|other| other.eq_ignore_ascii_case(part));
            alike.sort_unstable();
            match alike.into_iter().next() {
                Some(spelling) => *part = spelling,
                None => break,
            }
        }
        folder.push(&*part);
    }
    ModelName::from_parts(&parts[0], &parts[1], &parts[2], &parts[3]).unwrap_or_else(|_| name.clone())
}

fn read(path: &Path, name: &ModelName) -> Result<(Vec<u8>, Stamp), StoreError> {
    // One that leads nowhere may lead to a disk that is not there just now.
    let is_link = || fs::symlink_metadata(path).is_ok_and(|seen| seen.is_symlink());
    let file = open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !is_link() => StoreError::NotFound(name.short()),
        _ => StoreError::io("open", path)(error),
    })?;
    let seen = file.metadata().map_err(StoreError::io("look at", path))?;
    if !seen.is_file() {
        return Err(StoreError::BrokenManifest { name: name.short(), why: "it is no file".to_owned() });
    }
    let stamp = Stamp::of(&seen).map_err(StoreError::io("look at", path))?;
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    Ok((bytes, stamp))
}

/// The entries of a folder whose names are text, hidden ones left out, and whether it could be read. What is no folder, or
/// has gone, has none.
fn children(folder: &Path) -> (Vec<(String, PathBuf)>, bool) {
    let mut readable = true;
    // A link that leads nowhere may lead to a disk that is not there just now.
    let is_link = fs::symlink_metadata(folder).is_ok_and(|seen| seen.is_symlink());
    let mut failed = |error: &io::Error| {
        readable &= match error.kind() {
            io::ErrorKind::NotFound => !is_link,
            io::ErrorKind::NotADirectory => true,
            _ => false,
        };
    };
    let entries = fs::read_dir(folder).inspect_err(&mut failed).into_iter().flatten();
    let entries = entries.filter_map(|entry| entry.inspect_err(&mut failed).ok());
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let named = named.filter(|(name, _)| !name.starts_with('.')).collect();
    (named, readable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, testing};

    /// Makes what is remembered of a name hold for its file as it is now: as if both were written in one tick of the clock.
    fn in_one_tick(store: &Store, name: &ModelName) {
        let path = store.layout().manifest(name);
        let now = Stamp::of(&fs::metadata(&path).unwrap()).unwrap();
        store.tags().read.lock().unwrap().entry(path).and_modify(|(then, _)| *then = now);
    }

    #[test]
    fn changes_within_one_tick_of_the_clock_are_seen() {
        let (_folder, store) = testing::store();
        let name = ModelName::parse("one").unwrap();
        let weights = || store.tags().get(&name).unwrap().manifest.layers[0].digest;
        let path = store.layout().manifest(&name);
        let first = testing::weights(&store, "one", b"first");
        assert_eq!(weights(), first);
        assert!(store.tags().read.lock().unwrap().contains_key(&path), "it is read once");
        let second = testing::weights(&store, "one", b"other");
        in_one_tick(&store, &name);
        assert_eq!(weights(), second);
        store.remove(&name).unwrap();
        assert!(store.tags().read.lock().unwrap().is_empty());
    }
}
