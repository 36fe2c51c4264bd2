//! Whether a blob still is what its name says. Its size is looked at always; it is read when its file is another than it was
//! when its content was last known to be right.
//!
//! What nothing is known of (another program put it there) is taken for right the first time it is used, and looked after
//! from then on; a pull and `verify` read it.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::stamp::Stamp;
use super::{Blobs, Layout, StoreError, Turns, layout};
use crate::types::Digest;

/// Bytes that are read in one go.
const BUFFER: usize = 1 << 20;

/// The state of a file, and why it is damaged, if it is.
type Seen = (Stamp, Option<String>);

/// What was found of files while this program ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// A std mutex: held for single map operations.
    seen: Arc<Mutex<HashMap<Digest, Seen>>>,
    /// Blobs that are read on behalf of a request, so that many requests for one read it once.
    reading: Turns<Digest>,
    /// Files from elsewhere that are read, by device and number.
    pub(super) adopting: Turns<(u64, u64)>,
}

impl Found {
    fn get(&self, digest: &Digest, stamp: &Stamp) -> Option<Option<String>> {
        let found = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(digest).filter(|(then, _)| then == stamp).map(|(_, why)| why.clone())
    }

    fn put(&self, digest: Digest, stamp: Stamp, why: Option<String>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, (stamp, why));
    }
}

/// Told how many bytes have been read; `false` ends the reading.
pub(super) type Tell<'a> = dyn FnMut(u64) -> bool + 'a;

impl Blobs {
    /// Opens a blob for reading. What is no file is never waited for.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`] for what is no file, or one that cannot be read.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        self.look(digest)?;
        let path = self.path(digest);
        let file = layout::open(&path).map_err(StoreError::io("open", &path))?;
        match file.metadata() {
            Ok(seen) if seen.is_file() => Ok(file),
            Ok(_) => Err(damaged(digest, "it is no file")),
            Err(error) => Err(StoreError::io("look at", &path)(error)),
        }
    }

    /// Whether a blob is there and of `size` bytes, and right: quick, unless its file has changed.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`]; [`StoreError::Damaged`], which names the digest.
    pub fn check(&self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let seen = self.look(digest)?;
        if seen.len() != size {
            return Err(damaged(digest, &format!("it is {} bytes long, not {size}", seen.len())));
        }
        let stamp = Stamp::of(&seen).map_err(StoreError::io("look at", &self.path(digest)))?;
        let known = || match self.found().get(digest, &stamp) {
            Some(None) => Some(Ok(())),
            Some(Some(why)) => Some(Err(damaged(digest, &why))),
            None => None,
        };
        if let Some(known) = known() {
            return known;
        }
        match self.recorded(digest) {
            Some(then) if then == stamp => self.found().put(*digest, stamp, None),
            Some(_) => {
                let _turn = self.found().reading.take(*digest);
                if let Some(known) = known() {
                    return known;
                }
                tracing::info!(blob.digest = %digest, "a blob's file has changed, and is read");
                self.read_through(digest, &mut |_| true)?;
            }
            None => {
                if self.sync(digest).is_ok() {
                    self.record(digest, stamp);
                }
            }
        }
        Ok(())
    }

    /// Whether a blob need not be brought anew. One that nothing is known of is read; one that is wrong is moved out of the
    /// way, so that the right one can come.
    ///
    /// # Errors
    /// A blob that cannot be read, or not be moved.
    pub fn settle(&self, digest: &Digest, size: Option<u64>) -> Result<bool, StoreError> {
        let seen = match self.look(digest) {
            Err(StoreError::MissingBlob(_)) => return Ok(false),
            Err(StoreError::Damaged { .. }) => return self.make_way(digest, None),
            seen => seen?,
        };
        let stamp = Stamp::of(&seen).map_err(StoreError::io("look at", &self.path(digest)))?;
        let known = self.found().get(digest, &stamp) == Some(None) || self.recorded(digest) == Some(stamp);
        // A size that differs may as well be the other side's lie: the content decides.
        if known || self.is_right(digest)? {
            return Ok(size.is_none_or(|size| size == seen.len()));
        }
        self.make_way(digest, Some(&stamp))
    }

    /// Nothing is moved in another store: what comes anew comes here, and goes before it.
    fn make_way(&self, digest: &Digest, judged: Option<&Stamp>) -> Result<bool, StoreError> {
        if self.is_own(digest) {
            self.set_aside(digest, judged)?;
        }
        Ok(false)
    }

    fn is_right(&self, digest: &Digest) -> Result<bool, StoreError> {
        match self.read_through(digest, &mut |_| true) {
            Err(error) if is_damage(&error) => Ok(false),
            read => read.map(|_| true),
        }
    }

    /// Reads all of a blob, and remembers what came of it. Gives its length, or less when `tell` ended the reading.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`]; [`StoreError::Damaged`]; a file that cannot be read.
    pub(super) fn read_through(&self, digest: &Digest, tell: &mut Tell<'_>) -> Result<u64, StoreError> {
        let path = self.path(digest);
        let mut file = self.open(digest)?;
        let stamp = Stamp::of_file(&file).map_err(StoreError::io("look at", &path))?;
        let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; BUFFER], 0);
        loop {
            match file.read(&mut buffer).map_err(StoreError::io("read", &path))? {
                0 => break,
                count => {
                    hash.update(&buffer[..count]);
                    length += count as u64;
                }
            }
            if !tell(length) {
                return Ok(length);
            }
        }
        let actual = Digest::from_bytes(hash.finalize().into());
        if actual != *digest {
            let why = format!("its content is {actual}");
            self.found().put(*digest, stamp, Some(why.clone()));
            return Err(damaged(digest, &why));
        }
        self.sync(digest)?;
        // One that was written to meanwhile is read again when it is used.
        self.record(digest, stamp);
        Ok(length)
    }

    /// Makes sure that a blob outlives a power cut, before a manifest names it. Of one with a note that is known.
    ///
    /// # Errors
    /// When it cannot be synced.
    pub(super) fn secure(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.is_own(digest) && !self.is_unchanged(digest) { self.sync(digest) } else { Ok(()) }
    }

    /// Syncs a blob and its name, which another program may not have done.
    fn sync(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        let file = self.open(digest)?;
        let folder = || path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        match file.sync_data().and_then(|()| folder()) {
            // What cannot be written cannot be lost either.
            Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::InvalidInput) => {
                Ok(())
            }
            synced => synced.map_err(StoreError::io("sync", &path)),
        }
    }

    /// Moves what stands in a blob's place out of the way, if it still is the file that was `judged`: another pull may have
    /// done that, and have brought the right one. Gives whether it was moved.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(super) fn set_aside(&self, digest: &Digest, judged: Option<&Stamp>) -> Result<bool, StoreError> {
        if judged.is_some() && self.stamp_of(digest).as_ref() != judged {
            return Ok(false);
        }
        self.move_aside(digest, judged)
    }

    /// Moves it, and back again when it was another one by then.
    pub(super) fn move_aside(&self, digest: &Digest, judged: Option<&Stamp>) -> Result<bool, StoreError> {
        let (path, folder) = (self.layout().blob(digest), self.layout().damaged());
        fs::create_dir_all(&folder).map_err(StoreError::io("make", &folder))?;
        let mut names = (0..).map(|number| folder.join(format!("{}.{number}", digest.hex())));
        let aside = names.find(|aside| fs::symlink_metadata(aside).is_err()).expect("numbers do not end: a bug");
        match fs::rename(&path, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            moved => moved.map_err(StoreError::io("move", &path))?,
        }
        let moved = fs::symlink_metadata(&aside).ok().filter(Metadata::is_file);
        let other = moved.and_then(|seen| Stamp::of(&seen).ok()).filter(|now| judged.is_some_and(|then| then != now));
        if other.is_some() {
            // Not over one that has come meanwhile, which is as good.
            match fs::hard_link(&aside, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs::rename(&aside, &path),
                _ => fs::remove_file(&aside),
            }
            .map_err(StoreError::io("move back", &path))?;
            return Ok(false);
        }
        fs::remove_file(self.layout().stamp(digest)).ok();
        tracing::warn!(blob.digest = %digest, to = %aside.display(), "a damaged blob was moved out of the way");
        Ok(true)
    }

    /// What the file in a blob's place is like, if there is one.
    pub(super) fn stamp_of(&self, digest: &Digest) -> Option<Stamp> {
        self.look(digest).ok().and_then(|seen| Stamp::of(&seen).ok())
    }

    /// What stands in a blob's place, if that is a file of the store's.
    fn look(&self, digest: &Digest) -> Result<Metadata, StoreError> {
        let path = self.path(digest);
        let seen = fs::symlink_metadata(&path).map_err(|_| StoreError::MissingBlob(*digest))?;
        let what = match self.regular(&path, seen) {
            Ok(seen) => return Ok(seen),
            Err(what) => what,
        };
        Err(damaged(digest, what))
    }

    /// What was `seen` at `path`, if that is a file, or a link to one that does not leave the store; else what it is.
    pub(super) fn regular(&self, path: &Path, seen: Metadata) -> Result<Metadata, &'static str> {
        let kind = seen.file_type();
        if kind.is_file() {
            return Ok(seen);
        }
        if !kind.is_symlink() {
            return Err(if kind.is_dir() { "it is a folder" } else { "it is no file" });
        }
        let below = |layout: &Layout| {
            let (path, root) = (fs::canonicalize(path).ok()?, fs::canonicalize(layout.root()).ok()?);
            Some(path.starts_with(root))
        };
        let inside = || self.layouts().any(|layout| below(layout) == Some(true));
        match fs::metadata(path) {
            Ok(seen) if seen.is_file() && inside() => Ok(seen),
            Ok(_) => Err("it is a link that leads out of the store"),
            Err(_) => Err("it is a link that leads nowhere"),
        }
    }

    /// Whether something stands in the blob's place in this store itself.
    pub(super) fn is_own(&self, digest: &Digest) -> bool {
        fs::symlink_metadata(self.layout().blob(digest)).is_ok()
    }

    /// What the file was like when it was last known to be right.
    fn recorded(&self, digest: &Digest) -> Option<Stamp> {
        Stamp::parse(&fs::read_to_string(self.layout().stamp(digest)).ok()?)
    }

    /// Remembers that a file of this stamp is right. A store that cannot be written remembers it as long as the program runs.
    pub(super) fn record(&self, digest: &Digest, stamp: Stamp) {
        self.found().put(*digest, stamp, None);
        let path = self.layout().stamp(digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).and_then(|()| fs::write(&path, stamp.to_text())).ok();
        }
    }

    /// Whether the file is as it was when it was last known to be right.
    pub(super) fn is_unchanged(&self, digest: &Digest) -> bool {
        let seen = self.look(digest).ok().and_then(|seen| Stamp::of(&seen).ok());
        seen.is_some() && seen == self.recorded(digest)
    }
}

/// Whether an error of reading a blob means that it is wrong, and not that it cannot be read just now.
pub(super) fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged { .. } => true,
        // The disk has lost it.
        StoreError::Io { source, .. } => source.raw_os_error() == Some(Errno::IO.raw_os_error()),
        _ => false,
    }
}

pub(super) fn damaged(digest: &Digest, why: &str) -> StoreError {
    StoreError::Damaged { digest: *digest, why: why.to_owned() }
}
