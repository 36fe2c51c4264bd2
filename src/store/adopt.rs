//! Taking a file of this machine's into the store: as a clone where the file system shares blocks between files, else as a
//! second name of the same file; as a copy only when that is asked for.
//!
//! A second name keeps the bytes, not their content: whoever writes into the original writes into the blob. So the file is made
//! read-only, for both names, and what is written all the same is found when the blob is used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::stamp::Stamp;
use super::{Blobs, StoreError, layout, link};
use crate::types::Digest;

/// Bytes that are read in one go.
const BUFFER: usize = 1 << 20;

/// How a file came into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The store had its content already.
    Present,
    /// A file of its own, whose blocks are shared until one of the two is written to.
    Cloned,
    /// A second name of the same file, which is read-only from now on.
    Linked,
    Copied,
}

/// Told the bytes that have been read, piece by piece; `false` ends the reading.
pub type Hear<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// A file of this machine's that was read, and waits under a private name for the one that its content gives it. Dropped
/// without a commit, it leaves nothing.
#[derive(Debug)]
pub struct Adopted {
    pub digest: Digest,
    pub length: u64,
    file: File,
    path: TempPath,
    /// What the file was like when its reading began.
    read_at: Stamp,
    taken: Taken,
    blobs: Blobs,
}

impl Blobs {
    /// Takes the file at `source` in under a private name, and reads what it took: so nobody who writes to the original
    /// meanwhile is missed.
    ///
    /// # Errors
    /// [`StoreError::NoLink`] when it takes a copy and none was asked for; a file that cannot be read, or that changed
    /// meanwhile.
    pub fn adopt(&self, source: &Path, copy: bool, hear: &mut Hear<'_>) -> Result<Adopted, StoreError> {
        let source = fs::canonicalize(source).map_err(StoreError::io("find", source))?;
        let original = open(&source)?;
        let seen = original.metadata().map_err(StoreError::io("look at", &source))?;
        // Of two that take the same file, each would see the other's new time on it.
        let _turn = self.found().adopting.take((seen.dev(), seen.ino()));
        let folder = self.layout().blobs();
        let (path, taken) = match link::clone_in(&original, &folder) {
            Ok(clone) => (clone.into_temp_path(), Taken::Cloned),
            Err(_) => match link::second_name(&source, &seen, &folder) {
                Ok(path) => (path, Taken::Linked),
                Err(_) if copy => return self.copy_of(&original, &source, hear),
                Err(why) => return Err(StoreError::NoLink { path: source, why }),
            },
        };
        let file = open(&path)?;
        // An old file is new here, since what nobody uses goes by its age; and no write that follows has this very time.
        file.set_modified(SystemTime::now()).ok();
        let (digest, length, read_at) = hash(&file, &source, &mut io::sink(), hear)?;
        Ok(Adopted { digest, length, file, path, read_at, taken, blobs: self.clone() })
    }

    fn copy_of(&self, original: &File, source: &Path, hear: &mut Hear<'_>) -> Result<Adopted, StoreError> {
        let folder = self.layout().blobs();
        let mut copy = link::names().tempfile_in(&folder).map_err(StoreError::io("write in", &folder))?;
        let (digest, length, _) = hash(original, source, &mut copy, hear)?;
        let (file, path) = copy.into_parts();
        let read_at = stamp(&file, &path)?;
        Ok(Adopted { digest, length, file, path, read_at, taken: Taken::Copied, blobs: self.clone() })
    }
}

impl Adopted {
    /// Gives the file the name of its content. What is written to it from now on is found when the blob is used.
    ///
    /// # Errors
    /// A file that cannot be synced, protected or renamed; then nothing is left.
    pub fn commit(self) -> Result<Taken, StoreError> {
        let Self { digest, length, file, path, read_at, taken, blobs } = self;
        let seen = file.metadata().map_err(StoreError::io("look at", &path))?;
        let has_it = || {
            let there = fs::symlink_metadata(blobs.layout().blob(&digest));
            there.is_ok_and(|there| link::is_same(&there, &seen))
        };
        // The store may have this very file: then its content was read just now.
        if has_it() {
            // A note says of a blob that it outlives a power cut, too.
            file.sync_all().map_err(StoreError::io("sync", &path))?;
            layout::sync_folder(&blobs.layout().blobs())?;
            blobs.record(&digest, read_at);
            return Ok(Taken::Present);
        }
        if blobs.settle(&digest, Some(length))? {
            // It may have got it since. Others who read it would see the new time as a change.
            if !has_it() {
                blobs.touch(&digest);
            }
            return Ok(Taken::Present);
        }
        blobs.publish(&file, &digest, Some(read_at), |target| link::rename(path, target))?;
        Ok(taken)
    }
}

/// Opens a regular file; what is none is not waited for, and no link is followed.
fn open(path: &Path) -> Result<File, StoreError> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(StoreError::io("open", path))?;
    match file.metadata() {
        Ok(seen) if seen.is_file() => Ok(file),
        Ok(_) => Err(StoreError::io("take in", path)(io::Error::other("it is no file"))),
        Err(error) => Err(StoreError::io("look at", path)(error)),
    }
}

fn stamp(file: &File, path: &Path) -> Result<Stamp, StoreError> {
    Stamp::of_file(file).map_err(StoreError::io("look at", path))
}

/// Reads a file, whose name is `path`, to its end, into `out`. Gives what it was like all the while.
fn hash(
    mut file: &File,
    path: &Path,
    out: &mut impl Write,
    hear: &mut Hear<'_>,
) -> Result<(Digest, u64, Stamp), StoreError> {
    let before = stamp(file, path)?;
    let (mut hash, mut buffer, mut length) = (Sha256::new(), vec![0; BUFFER], 0);
    loop {
        let count = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(StoreError::io("copy", path))?;
        length += count as u64;
        if !hear(&buffer[..count]) {
            return Err(StoreError::io("read", path)(io::ErrorKind::Interrupted.into()));
        }
    }
    if stamp(file, path)? != before {
        return Err(StoreError::io("take in", path)(io::Error::other("it was written to meanwhile")));
    }
    Ok((Digest::from_bytes(hash.finalize().into()), length, before))
}

/// Files of the store that are known by more than their names, to be compared with others.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|seen| (seen.dev(), seen.ino()))
}

impl super::Store {
    /// What tells the files of the store's own blobs from all others: device and number.
    pub fn identities(&self) -> std::collections::HashSet<(u64, u64)> {
        let blobs = self.blobs().list().into_iter();
        let paths = blobs.map(|(digest, ..)| -> PathBuf { self.blobs().path(&digest) });
        paths.filter_map(|path| identity(&path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::sound::is_damage;
    use crate::store::{Store, testing};

    fn take(store: &Store, source: &Path, copy: bool) -> Result<(Digest, Taken), StoreError> {
        let adopted = store.blobs().adopt(source, copy, &mut |_| true)?;
        let digest = adopted.digest;
        adopted.commit().map(|taken| (digest, taken))
    }

    #[test]
    fn a_file_gets_a_second_name_and_damage_through_the_first_is_found() {
        let (folder, store) = testing::store();
        let original = folder.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let mut read = Vec::new();
        let adopted = store
            .blobs()
            .adopt(&original, false, &mut |bytes| {
                read.extend_from_slice(bytes);
                true
            })
            .unwrap();
        let digest = adopted.digest;
        assert_eq!((digest, adopted.length, read.as_slice()), (Digest::of(b"content"), 7, &b"content"[..]));
        assert!(store.blobs().list().is_empty(), "it has no name yet");
        let taken = adopted.commit().unwrap();
        let (one, two) = (fs::metadata(&original).unwrap(), fs::metadata(store.blobs().path(&digest)).unwrap());
        match taken {
            Taken::Linked => assert_eq!((one.ino(), one.mode() & 0o777), (two.ino(), 0o444)),
            // This folder's file system shares blocks.
            Taken::Cloned => assert_ne!(one.ino(), two.ino()),
            other => panic!("{other:?}"),
        }
        assert_eq!(take(&store, &original, false).unwrap(), (digest, Taken::Present));
        assert!(store.blobs().is_unchanged(&digest), "what was read is known to be right");
        assert_eq!(fs::read_dir(store.layout().blobs()).unwrap().count(), 1);
        assert!(store.blobs().list().len() == 1 && store.identities().contains(&(two.dev(), two.ino())));

        if taken == Taken::Linked {
            fs::remove_file(&original).unwrap();
            assert_eq!(store.blobs().read(&digest, 7).unwrap(), b"content", "the original may go");
            fs::hard_link(store.blobs().path(&digest), &original).unwrap();
            let mut mode = two.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
            fs::set_permissions(&original, mode).unwrap();
            let mut file = File::options().write(true).open(&original).unwrap();
            file.write_all(b"CONTENT").unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(2)).unwrap();
            let error = store.blobs().check(&digest, 7).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_written_while_it_is_read_or_before_it_has_its_name_is_noticed() {
        let (folder, store) = testing::store();
        let original = folder.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let mut writer = File::options().write(true).open(&original).unwrap();
        let meanwhile = store.blobs().adopt(&original, false, &mut |_| writer.write_all(b"CONTENT").is_ok());
        match meanwhile {
            Ok(adopted) => assert_eq!((adopted.taken, adopted.digest), (Taken::Cloned, Digest::of(b"content"))),
            Err(error) => assert!(error.to_string().ends_with("it was written to meanwhile"), "{error}"),
        }
        assert!(fs::read_dir(store.layout().blobs()).unwrap().next().is_none());

        fs::write(&original, b"content").unwrap();
        let mut writer = File::options().write(true).open(&original).unwrap();
        let adopted = store.blobs().adopt(&original, false, &mut |_| true).unwrap();
        writer.write_all(b"CONTENT").unwrap();
        let (digest, length) = (adopted.digest, adopted.length);
        let checked = match adopted.commit().unwrap() {
            Taken::Linked => store.blobs().check(&digest, length).is_err_and(|error| is_damage(&error)),
            _ => store.blobs().check(&digest, length).is_ok(),
        };
        assert!(checked);
    }

    #[test]
    fn many_at_once_leave_one_file() {
        let (folder, store) = testing::store();
        let original = folder.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let at_once = std::sync::Barrier::new(8);
        // All meet again whatever happened to one of them.
        let taken = || {
            at_once.wait();
            let taken = take(&store, &original, false);
            at_once.wait();
            taken.and_then(|_| store.blobs().remove(&Digest::of(b"content")))
        };
        let taken: Vec<_> = std::thread::scope(|scope| {
            let many: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..50).map(|_| taken()).collect::<Vec<_>>())).collect();
            many.into_iter().flat_map(|one| one.join().unwrap()).collect()
        });
        taken.into_iter().for_each(|taken| taken.unwrap());
        assert_eq!(fs::read_dir(store.layout().blobs()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn nobody_waits_for_another_file_to_be_read() {
        let (folder, store) = testing::store();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::write(&one, b"content").unwrap();
        fs::write(&other, b"another").unwrap();
        let mut meanwhile = None;
        let adopted = store.blobs().adopt(&one, false, &mut |_| {
            meanwhile = take(&store, &other, false).ok();
            true
        });
        assert_eq!(meanwhile.unwrap().0, Digest::of(b"another"));
        assert_eq!(adopted.unwrap().digest, Digest::of(b"content"));
    }

    #[test]
    fn another_file_system_takes_a_copy_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let Some(other) = ["/dev/shm", "/run", "/tmp"].into_iter().find_map(|place| {
            let other = tempfile::tempdir_in(place).ok()?;
            let device = |path: &Path| fs::metadata(path).unwrap().dev();
            (device(other.path()) != device(folder.path())).then_some(other)
        }) else {
            println!("skipped: there is no other file system here");
            return;
        };
        let original = other.path().join("model.gguf");
        fs::write(&original, b"content").unwrap();
        let store = Store::open(folder.path()).unwrap();
        let refused = take(&store, &original, false).unwrap_err();
        assert!(refused.to_string().contains("without a copy"), "{refused}");
        assert!(fs::read_dir(store.layout().blobs()).unwrap().next().is_none());
        assert_eq!(take(&store, &original, true).unwrap(), (Digest::of(b"content"), Taken::Copied));
        assert_eq!(fs::read_dir(store.layout().blobs()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&original).unwrap().mode() & 0o222, 0o200, "the original is left as it is");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_a_stop_leaves_nothing() {
        let (folder, store) = testing::store();
        let fifo = folder.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for bad in [fifo.as_path(), folder.path(), &folder.path().join("nothing")] {
            assert!(take(&store, bad, true).is_err(), "{}", bad.display());
        }
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(store.blobs().adopt(&file, false, &mut |_| false).is_err());
        assert!(fs::read_dir(store.layout().blobs()).unwrap().next().is_none());
    }
}
