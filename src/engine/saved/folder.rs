//! The folder of states: who may look into it, and how much it holds. Several runners may use one.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::file::{self, State};
use crate::engine::request::Saving;
use crate::types::Digest;

/// The end of a state's name.
const ENDING: &str = ".prompt";
/// The end of a file's name that is being written.
const PART: &str = ".part";

#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// Bytes of all files at the most.
    limit: u64,
}

impl Folder {
    /// Makes it where it is missing: what people wrote to a model is nobody else's to read.
    ///
    /// # Errors
    /// When it cannot be made, or is somebody else's.
    pub fn open(saving: &Saving) -> io::Result<Self> {
        let path = saving.folder.clone();
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        let seen = fs::symlink_metadata(&path)?;
        if !seen.is_dir() || seen.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is not a folder of this user"));
        }
        if seen.mode() & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        }
        Ok(Self { path, limit: saving.bytes })
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The states of `key`.
    pub fn names(&self, key: &Digest) -> Vec<String> {
        let start = start(key);
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&start) && name.ends_with(ENDING)).collect()
    }

    /// Writes `state`, and removes what was unused for longest if that makes it too much. Gives its name. It appears whole;
    /// it is not synced: what a power cut spoils is found by its checksum, and then is only lost.
    ///
    /// # Errors
    /// When the disk is full, mostly.
    pub fn write(&self, key: &Digest, state: &State) -> io::Result<String> {
        let tokens: Vec<u8> = state.tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        let name = format!("{}-{}{ENDING}", start(key), &Digest::of(&tokens).hex()[..32]);
        let size = file::size(state.tokens.len(), state.bytes.len());
        let locked = self.lock()?;
        self.make_room(size);
        let mut part: NamedTempFile = tempfile::Builder::new().suffix(PART).tempfile_in(&self.path)?;
        // Held while it is written: one that nobody holds was left by a runner that was killed.
        flock(part.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        drop(locked);
        file::write(&mut part, key, state)?;
        let _locked = self.lock()?;
        part.persist(self.path(&name)).map_err(|error| error.error)?;
        // Another runner may have written meanwhile.
        self.make_room(0);
        Ok(name)
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).ok();
    }

    /// Removes files that were left half-written, and whole ones until `bytes` more have room. The folder must be locked.
    fn make_room(&self, bytes: u64) {
        let mut states = Vec::new();
        let mut total = bytes;
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let Ok(seen) = fs::symlink_metadata(&path) else { continue };
            if name.ends_with(PART) {
                let left = seen.is_file()
                    && File::open(&path)
                        .is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_ok());
                if left {
                    fs::remove_file(&path).ok();
                }
            } else if name.ends_with(ENDING) {
                total = total.saturating_add(seen.len());
                states.push((seen.modified().unwrap_or(SystemTime::UNIX_EPOCH), seen.len(), path));
            }
        }
        states.sort_unstable();
        for (_, size, path) in states {
            if total <= self.limit {
                return;
            }
            if fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }

    /// Holds the folder against other runners until it is dropped.
    fn lock(&self) -> io::Result<File> {
        let folder = File::open(&self.path)?;
        flock(&folder, FlockOperation::LockExclusive)?;
        Ok(folder)
    }
}

/// The beginning of the names of a key's states.
fn start(key: &Digest) -> String {
    key.hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state(first: u32) -> State {
        State { tokens: vec![first; 10], bytes: vec![7; 1000] }
    }

    fn folder(limit: u64) -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        let saving = Saving { folder: place.path().join("a/b"), bytes: limit };
        (place, Folder::open(&saving).unwrap())
    }

    fn mode(path: &std::path::Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_was_unused_for_longest_goes_first() {
        let size = file::size(10, 1000);
        let (_place, folder) = folder(2 * size + 10);
        let key = Digest::of(b"a model");
        let [one, two] = [1, 2].map(|first| folder.write(&key, &state(first)).unwrap());
        let other = folder.path("of somebody else");
        fs::write(&other, vec![0; 5000]).unwrap();
        for (name, seconds) in [(&one, 20), (&two, 10)] {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::open(folder.path(name)).unwrap().set_modified(then).unwrap();
        }
        file::read(&folder.path(&one), &key).unwrap();
        let three = folder.write(&key, &state(3)).unwrap();
        let mut names = folder.names(&key);
        names.sort();
        let mut left = vec![one, three];
        left.sort();
        assert_eq!(names, left, "the first was read after the second");
        assert!(other.exists());
        assert!(folder.names(&Digest::of(b"another")).is_empty());
    }

    #[test]
    fn nobody_else_looks_into_it() {
        let (place, folder) = folder(1 << 20);
        let name = folder.write(&Digest::of(b"a model"), &state(1)).unwrap();
        assert_eq!((mode(&folder.path), mode(&folder.path(&name))), (0o700, 0o600));
        fs::set_permissions(&folder.path, Permissions::from_mode(0o755)).unwrap();
        let saving = Saving { folder: folder.path.clone(), bytes: 1 };
        Folder::open(&saving).unwrap();
        assert_eq!(mode(&folder.path), 0o700);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&folder.path, &link).unwrap();
        assert!(Folder::open(&Saving { folder: link, bytes: 1 }).is_err());
    }

    #[test]
    fn what_a_killed_runner_left_goes() {
        let (_place, folder) = folder(1 << 20);
        let [left, held] = ["left.part", "held.part"].map(|name| folder.path(name));
        fs::write(&left, "half").unwrap();
        let file = File::create(&held).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        folder.write(&Digest::of(b"a model"), &state(1)).unwrap();
        assert!(!left.exists() && held.exists());
    }
}
