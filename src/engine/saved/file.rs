//! The file of one state: a head, the tokens, the state as the library gave it, and a SHA-256 of all of that.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::types::Digest;

/// Changes with the format.
const MAGIC: [u8; 8] = *b"hanzodP1";
/// The magic, the key, how many tokens, how many bytes of state.
const HEAD: usize = 8 + 32 + 8 + 8;
const SUM: usize = 32;
/// Hashed and written at once.
const CHUNK: usize = 1 << 20;

/// What a model made of `tokens`.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    pub tokens: Vec<u32>,
    /// As the library gave it.
    pub bytes: Vec<u8>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is of another model or another version")]
    Foreign,
    #[error("it is damaged")]
    Damaged,
    #[error("others than this user could have written it")]
    Exposed,
    #[error("the engine does not take it")]
    Rejected,
    #[error("memory is short")]
    Memory,
}

impl FileError {
    /// Somebody was faster: what had to make room is no fault.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The file will never be of use; when it cannot be read or held now, it may be another time.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Foreign | Self::Damaged | Self::Exposed | Self::Rejected)
    }
}

/// Bytes of the file of a state.
pub fn size(tokens: usize, bytes: usize) -> u64 {
    (HEAD + SUM) as u64 + 4 * tokens as u64 + bytes as u64
}

/// # Errors
/// When the disk is full, mostly.
pub fn write(out: &mut impl Write, key: &Digest, state: &State) -> io::Result<()> {
    let mut sum = Sha256::new();
    let mut head = Vec::with_capacity(HEAD + 4 * state.tokens.len());
    head.extend(MAGIC);
    head.extend(key.as_bytes());
    head.extend((state.tokens.len() as u64).to_le_bytes());
    head.extend((state.bytes.len() as u64).to_le_bytes());
    head.extend(state.tokens.iter().flat_map(|token| token.to_le_bytes()));
    for chunk in head.chunks(CHUNK).chain(state.bytes.chunks(CHUNK)) {
        sum.update(chunk);
        out.write_all(chunk)?;
    }
    out.write_all(&sum.finalize())
}

/// The tokens only. What they promise is looked at by [`read`].
///
/// # Errors
/// When it is no file of ours for `key`.
pub fn tokens(path: &Path, key: &Digest) -> Result<Vec<u32>, FileError> {
    let (mut file, seen) = open(path)?;
    let (tokens, _) = beginning(&mut file, seen.len(), key, &mut Sha256::new())?;
    Ok(tokens)
}

/// All of it, found right.
///
/// # Errors
/// When it is no file of ours for `key`, or not what was written.
pub fn read(path: &Path, key: &Digest) -> Result<State, FileError> {
    let (mut file, seen) = open(path)?;
    let mut sum = Sha256::new();
    let (tokens, length) = beginning(&mut file, seen.len(), key, &mut sum)?;
    let bytes = exactly(&mut file, length)?;
    sum.update(&bytes);
    let mut noted = [0; SUM];
    file.read_exact(&mut noted).map_err(short)?;
    if noted[..] != sum.finalize()[..] {
        return Err(FileError::Damaged);
    }
    // It was used: what has not been for longest goes first. That a time cannot be set is no reason to go without.
    file.set_modified(std::time::SystemTime::now()).ok();
    Ok(State { tokens, bytes })
}

/// The file, when nobody but this user can have put anything into it.
fn open(path: &Path) -> Result<(File, Metadata), FileError> {
    // A pipe of this name would be waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            FileError::Exposed
        } else {
            FileError::Io(error)
        }
    })?;
    let seen = file.metadata()?;
    let ours = seen.is_file() && seen.uid() == rustix::process::geteuid().as_raw() && seen.mode() & 0o022 == 0;
    if ours { Ok((file, seen)) } else { Err(FileError::Exposed) }
}

/// The tokens, and how many bytes of state come after them in a file of `size` bytes.
fn beginning(file: &mut File, size: u64, key: &Digest, sum: &mut Sha256) -> Result<(Vec<u32>, u64), FileError> {
    let mut head = [0; HEAD];
    file.read_exact(&mut head).map_err(short)?;
    sum.update(head);
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at + byte]));
    if head[..8] != MAGIC || head[8..40] != key.as_bytes()[..] {
        return Err(FileError::Foreign);
    }
    let (count, length) = (number(40), number(48));
    // Before anything is made room for: what the head says must be what is there.
    let whole = count.checked_mul(4).and_then(|bytes| bytes.checked_add((HEAD + SUM) as u64)?.checked_add(length));
    if whole != Some(size) {
        return Err(FileError::Damaged);
    }
    let bytes = exactly(file, count * 4)?;
    sum.update(&bytes);
    Ok((
        bytes.chunks_exact(4).map(|token| u32::from_le_bytes([token[0], token[1], token[2], token[3]])).collect(),
        length,
    ))
}

fn exactly(file: &mut File, length: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let room = usize::try_from(length).map_err(|_| FileError::Memory)?;
    bytes.try_reserve_exact(room).map_err(|_| FileError::Memory)?;
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() == room { Ok(bytes) } else { Err(FileError::Damaged) }
}

fn short(error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FileError::Damaged,
        _ => FileError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key() -> Digest {
        Digest::of(b"a model")
    }

    fn file() -> (tempfile::TempDir, std::path::PathBuf, State) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let state = State { tokens: vec![1, 2, 70_000], bytes: (0..=255).cycle().take(3 * CHUNK + 5).collect() };
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        write(&mut out, &key(), &state).unwrap();
        (folder, path, state)
    }

    #[test]
    fn what_was_written_comes_back() {
        let (_folder, path, state) = file();
        assert_eq!(fs::metadata(&path).unwrap().len(), size(state.tokens.len(), state.bytes.len()));
        assert_eq!(tokens(&path, &key()).unwrap(), state.tokens);
        assert_eq!(read(&path, &key()).unwrap(), state);
        assert!(matches!(read(&path, &Digest::of(b"another")), Err(FileError::Foreign)));
        fs::remove_file(&path).unwrap();
        assert!(read(&path, &key()).unwrap_err().is_gone());
    }

    #[test]
    fn one_wrong_bit_is_found_wherever_it_is() {
        let (_folder, path, state) = file();
        let right = fs::read(&path).unwrap();
        let last = right.len() - 1;
        for at in [0, 8, 39, 40, 46, 48, 55, 56, 67, 68, right.len() / 2, last - SUM, last - SUM + 1, last] {
            let mut wrong = right.clone();
            wrong[at] ^= 16;
            fs::write(&path, wrong).unwrap();
            assert!(read(&path, &key()).unwrap_err().is_final(), "byte {at}");
        }
        for length in [0, 7, 55, 56, 60, 68, 1000, last] {
            fs::write(&path, &right[..length]).unwrap();
            assert!(read(&path, &key()).unwrap_err().is_final(), "cut to {length}");
            assert!(tokens(&path, &key()).is_err(), "cut to {length}");
        }
        fs::write(&path, [&right[..], b"x"].concat()).unwrap();
        assert!(matches!(read(&path, &key()), Err(FileError::Damaged)));
        fs::write(&path, right).unwrap();
        assert_eq!(read(&path, &key()).unwrap(), state);
    }

    #[test]
    fn what_others_could_have_written_is_not_read() {
        let (folder, path, _) = file();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path, &key()), Err(FileError::Exposed)), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, &key()), Err(FileError::Exposed)));
        assert!(matches!(read(folder.path(), &key()), Err(FileError::Exposed)));
    }
}
