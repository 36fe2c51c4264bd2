//! What is in use though no manifest names it yet, since a pull, a push or a create is at work with it: nobody removes it.
//!
//! A process that has pins keeps a file of its own in `pins/`, and holds its lock until it ends, however that is. In the file
//! each pinned digest has a slot. Who is about to remove a blob reads the files whose locks are held. Where there are no locks,
//! or nothing can be written, a process knows of its own pins alone: a pull brings again what another has removed then, as
//! it does when the other knows nothing of pins.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::loose::entries;
use super::{layout, link};
use crate::types::Digest;

/// Bytes of a slot: the digits of a digest and the end of a line.
const SLOT: usize = 65;
/// Bytes of another process's file that are read: some ten thousand pins.
const LONGEST: u64 = 1 << 20;
/// Somebody may look at a file before its lock is held, and take its process for ended.
const TRIES: usize = 8;

/// The pins of this process, counted.
#[derive(Clone, Debug)]
pub(super) struct Pins(Arc<Mutex<Held>>);

#[derive(Debug)]
pub(super) struct Held {
    folder: PathBuf,
    /// How many pins a digest has, and its slot.
    slots: HashMap<Digest, (usize, u64)>,
    /// Slots of digests that are pinned no more.
    free: Vec<u64>,
    /// What others read; made with the first pin.
    file: Option<NamedTempFile>,
}

/// Keeps a blob from being collected while it lives.
#[derive(Debug)]
pub struct Pin {
    digest: Digest,
    pins: Pins,
}

impl Pin {
    /// Of the blob that it keeps.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Clone for Pin {
    fn clone(&self) -> Self {
        self.pins.pin(self.digest)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.lock().unpin(&self.digest);
    }
}

impl Pins {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Held { folder, slots: HashMap::new(), free: Vec::new(), file: None })))
    }

    /// A std mutex: held for single operations on the map and the file.
    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pin(&self, digest: Digest) -> Pin {
        self.lock().pin(digest);
        Pin { digest, pins: self.clone() }
    }
}

impl Held {
    fn pin(&mut self, digest: Digest) {
        if let Some((count, _)) = self.slots.get_mut(&digest) {
            *count += 1;
            return;
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u64);
        self.slots.insert(digest, (1, slot));
        let written = match &self.file {
            Some(file) => write(file, slot, &digest.hex()),
            None => self.begin(),
        };
        if let Err(error) = written {
            tracing::debug!(%error, "what is pinned here cannot be told to other processes");
        }
    }

    fn unpin(&mut self, digest: &Digest) {
        let Some((count, slot)) = self.slots.get_mut(digest) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let slot = *slot;
        self.slots.remove(digest);
        self.free.push(slot);
        if let Some(error) = self.file.as_ref().and_then(|file| write(file, slot, "").err()) {
            tracing::debug!(%error, "other processes are not told that a pin has gone");
        }
    }

    /// Tells others of all that is pinned.
    fn begin(&mut self) -> io::Result<()> {
        let file = locked_file(&self.folder)?;
        self.slots.iter().try_for_each(|(digest, (_, slot))| write(&file, *slot, &digest.hex()))?;
        self.file = Some(file);
        Ok(())
    }

    /// What is pinned here or by another process.
    pub(super) fn all(&self) -> HashSet<Digest> {
        let own = self.file.as_ref().map(NamedTempFile::path);
        let others = entries(&self.folder).filter(|path| Some(path.as_path()) != own);
        others.flat_map(|path| read(&path)).chain(self.slots.keys().copied()).collect()
    }
}

fn write(file: &NamedTempFile, slot: u64, text: &str) -> io::Result<()> {
    let width = SLOT - 1;
    file.as_file().write_all_at(format!("{text:width$}\n").as_bytes(), slot * SLOT as u64)
}

/// A file whose lock is ours while it is open.
fn locked_file(folder: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(folder)?;
    for _ in 0..TRIES {
        // Whoever may remove blobs must be able to read it.
        let file =
            tempfile::Builder::new().prefix("").permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
        match flock(file.as_file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => continue,
            Err(error) => return Err(error.into()),
        }
        let ours = file.as_file().metadata()?;
        if fs::metadata(file.path()).is_ok_and(|named| link::is_same(&named, &ours)) {
            return Ok(file);
        }
    }
    Err(io::Error::other("it is always taken for a file of a process that has ended"))
}

/// What the process has pinned whose file this is. One that has ended has nothing pinned, and its file goes.
fn read(path: &Path) -> Vec<Digest> {
    let Ok(file) = layout::open(path) else { return Vec::new() };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            fs::remove_file(path).ok();
            return Vec::new();
        }
        Err(Errno::WOULDBLOCK) => {}
        Err(_) => return Vec::new(),
    }
    let mut text = Vec::new();
    if let Err(error) = file.take(LONGEST).read_to_end(&mut text) {
        tracing::debug!(%error, path = %path.display(), "what another process has pinned cannot be read");
    }
    // A slot that is being written is nobody's: who pins looks for the blob when it is done.
    let digest = |slot: &[u8]| format!("sha256:{}", str::from_utf8(slot).ok()?.trim_end()).parse().ok();
    text.chunks(SLOT).filter_map(digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, testing};

    #[test]
    fn what_one_process_pins_no_other_removes() {
        let (_folder, store) = testing::store();
        let other = Store::open(store.layout().root()).unwrap();
        let files = || fs::read_dir(store.layout().pins()).unwrap().count();
        let digest = store.blobs().put(b"content").unwrap();
        // Others come and go beside it.
        let pins: Vec<Pin> = (0..10_u8).map(|number| store.pin(Digest::of(&[number]))).collect();
        let (pin, second) = (store.pin(digest), store.pin(digest));
        drop(pins);
        let _later = [store.pin(Digest::of(b"later")), other.pin(Digest::of(b"of the other"))];
        assert_eq!(files(), 2, "a file each");
        drop(second);
        let again = pin.clone();
        drop(pin);
        for remover in [&store, &other] {
            assert_eq!(remover.remove_unused([digest]).unwrap(), 0);
        }
        assert!(other.usage().loose[0].held, "and it is told");
        drop(again);
        assert_eq!(other.remove_unused([digest]).unwrap(), 1);

        let rounds = || (0..100_u8).for_each(|number| drop(store.pin(Digest::of(&[number]))));
        let length = || store.inner.pins.lock().file.as_ref().unwrap().as_file().metadata().unwrap().len();
        let before = length();
        rounds();
        assert_eq!(length(), before, "slots are used again");
    }

    #[test]
    fn a_process_that_has_ended_pins_nothing() {
        let (_folder, store) = testing::store();
        let digest = store.blobs().put(b"content").unwrap();
        let pin = Store::open(store.layout().root()).unwrap().pin(digest);
        let path = entries(&store.layout().pins()).next().unwrap();
        let killed = path.with_file_name("killed");
        fs::copy(&path, &killed).unwrap();
        assert_eq!(store.remove_unused([digest]).unwrap(), 0);
        assert!(!killed.exists());
        fs::copy(&path, &killed).unwrap();
        drop(pin);
        assert!(!path.exists(), "who ends in order leaves none");
        assert_eq!(store.remove_unused([digest]).unwrap(), 1);
        assert_eq!(entries(&store.layout().pins()).count(), 0);
    }
}
