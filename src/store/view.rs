//! A safetensors model as a folder: links that bear the names its makers gave its files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tempfile::TempDir;

use super::loose::entries;
use super::{Descriptor, Manifest, MediaType, Model, StoreError};
use crate::types::Digest;

/// Whether `name` is a clean relative path: slashes between parts that are no dots.
pub(crate) fn is_clean_path(name: &str) -> bool {
    !name.contains(['\0', '\\']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// How the name of a folder begins that is still being filled.
pub(super) const BUILDING: &str = "building-";

/// What tells a model's files, with their names, from those of others. Models that share all of them share a folder, and so
/// are loaded once.
pub(super) fn key(manifest: &Manifest) -> Digest {
    let mut files: Vec<String> = manifest
        .layers_of(MediaType::File)
        .map(|layer| format!("{} {}\0", layer.digest, layer.name.as_deref().unwrap_or_default()))
        .collect();
    files.sort_unstable();
    Digest::of(files.concat().as_bytes())
}

/// How the name of a folder begins that is not in a store.
const ELSEWHERE: &str = "hanzod-view-";
/// One this young may be about to be locked.
const YOUNG: Duration = Duration::from_secs(60);

/// Folders of models whose store takes none, by what [`key`] gives; they go with the program. A std mutex: held while one is
/// filled, by a thread that may block.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(Mutex<HashMap<Digest, Temporary>>);

/// A folder that is locked while it is in use: one that is not was left by a program that was killed.
#[derive(Debug)]
struct Temporary {
    folder: TempDir,
    _lock: File,
}

impl Temporary {
    fn new(place: &Path) -> io::Result<Self> {
        remove_left(place);
        let folder = tempfile::Builder::new().prefix(ELSEWHERE).tempdir_in(place)?;
        let lock = File::open(folder.path())?;
        // Where there are no locks nobody finds it unlocked either.
        flock(&lock, FlockOperation::NonBlockingLockShared).ok();
        Ok(Self { folder, _lock: lock })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes our folders that nobody uses any more.
fn remove_left(place: &Path) {
    for path in entries(place) {
        let ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(ELSEWHERE));
        let old = || {
            let seen = fs::symlink_metadata(&path).ok().filter(|seen| seen.is_dir());
            seen.filter(|seen| seen.uid() == geteuid().as_raw())
                .and_then(|seen| seen.modified().ok()?.elapsed().ok())
                .is_some_and(|past| past >= YOUNG)
        };
        if !ours || !old() {
            continue;
        }
        let unused = |folder: File| flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
        if File::open(&path).is_ok_and(unused) {
            fs::remove_dir_all(&path).ok();
        }
    }
}

impl Model {
    /// The folder with this model's files, made if it is not there yet.
    pub(super) fn view(&self) -> Result<PathBuf, StoreError> {
        let folder = self.store.layout().view(&key(&self.manifest));
        if folder.is_dir() && self.is_current(&folder) {
            return Ok(folder);
        }
        match self.make_view(folder) {
            Err(error) if error.is_closed() => self.view_elsewhere(),
            made => made,
        }
    }

    fn make_view(&self, folder: PathBuf) -> Result<PathBuf, StoreError> {
        if folder.is_dir() {
            // A blob has come from another store, or gone there.
            fs::remove_dir_all(&folder).map_err(StoreError::io("remove", &folder))?;
        }
        let views = self.store.layout().views();
        fs::create_dir_all(&views).map_err(StoreError::io("make", &views))?;
        let building = tempfile::Builder::new().prefix(BUILDING).tempdir_in(&views);
        let building = building.map_err(StoreError::io("write in", &views))?;
        for layer in self.manifest.layers_of(MediaType::File) {
            self.link(layer, building.path())?;
        }
        let building = building.keep();
        if let Err(error) = fs::rename(&building, &folder) {
            fs::remove_dir_all(&building).ok();
            // another request was quicker: its folder has the same links
            if !folder.is_dir() {
                return Err(StoreError::io("rename to", &folder)(error));
            }
        }
        Ok(folder)
    }

    /// Among the system's temporary files: a store that cannot be written is to be read from all the same.
    fn view_elsewhere(&self) -> Result<PathBuf, StoreError> {
        let mut views = self.store.inner.views.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(&self.manifest);
        if let Some(view) = views.get(&key).filter(|view| self.is_current(view.path())) {
            return Ok(view.path().to_owned());
        }
        let place = std::env::temp_dir();
        let view = Temporary::new(&place).map_err(StoreError::io("write in", &place))?;
        for layer in self.manifest.layers_of(MediaType::File) {
            self.link(layer, view.path())?;
        }
        let folder = view.path().to_owned();
        views.insert(key, view);
        Ok(folder)
    }

    /// Whether every link leads to where its blob is.
    fn is_current(&self, folder: &Path) -> bool {
        self.manifest.layers_of(MediaType::File).all(|layer| {
            let name = layer.name.as_deref().unwrap_or_default();
            let found = fs::read_link(folder.join(name)).ok();
            found.is_some() && found == self.target(layer, name, folder).ok()
        })
    }

    /// Where the link of a file in `view` leads: up from its folder to the view, the views, `hanzod` and the store; between two
    /// stores, or from elsewhere, from the root.
    fn target(&self, layer: &Descriptor, name: &str, view: &Path) -> Result<PathBuf, StoreError> {
        let path = self.path(layer);
        let near = view.starts_with(self.store.layout().views()) && path == self.store.layout().blob(&layer.digest);
        if !near {
            return std::path::absolute(&path).map_err(StoreError::io("find", &path));
        }
        let up = "../".repeat(name.matches('/').count() + 3);
        Ok(Path::new(&up).join("blobs").join(layer.digest.file_name()))
    }

    fn link(&self, layer: &Descriptor, folder: &Path) -> Result<(), StoreError> {
        let name =
            layer.name.as_deref().filter(|name| is_clean_path(name)).ok_or_else(|| StoreError::BrokenManifest {
                name: self.name.short(),
                why: "a file of it has no name or an illegal one".to_owned(),
            })?;
        let path = folder.join(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).map_err(StoreError::io("make", above))?;
        }
        symlink(self.target(layer, name, folder)?, &path).map_err(StoreError::io("make", &path))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_a_program_left_that_was_killed_goes() {
        let place = tempfile::tempdir().unwrap();
        let used = Temporary::new(place.path()).unwrap();
        let folder = |name: &str| {
            let folder = place.path().join(name);
            fs::create_dir(&folder).unwrap();
            symlink("nowhere", folder.join("config.json")).unwrap();
            folder
        };
        let [left, young, theirs] = ["hanzod-view-left", "hanzod-view-young", "view"].map(folder);
        for old in [used.path(), &left, &theirs] {
            File::open(old).unwrap().set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
        }
        let next = Temporary::new(place.path()).unwrap();
        assert!(!left.exists());
        assert!([used.path(), next.path(), &young, &theirs].iter().all(|kept| kept.exists()));
    }

    #[test]
    fn only_clean_paths() {
        for good in ["config.json", "a/b/c.safetensors", "..x", ".hidden"] {
            assert!(is_clean_path(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0"] {
            assert!(!is_clean_path(bad), "{bad}");
        }
    }
}
