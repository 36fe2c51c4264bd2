//! Files that the hub's own tools have fetched already: copied from their cache, and hashed as if they came from outside.
//!
//! The cache has `models--<owner>--<repository>/blobs/<hash>`, the hash being git's, or the SHA-256 of what LFS keeps.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha1::Digest as _;

use super::transfer::{GitHash, Proof, Wanted};
use crate::store::{Store, StoreError};
use crate::types::Digest;

/// Bytes that are copied in one go.
const CHUNK: usize = 1 << 20;

/// Where a file would be.
pub(super) fn place(cache: &Path, [owner, repository]: [&str; 2], wanted: &Wanted) -> Option<PathBuf> {
    let hash = match wanted.proof {
        Proof::Sha256 => wanted.key.hex(),
        Proof::Git(hash) => hash.to_string(),
        Proof::Nothing { .. } => return None,
    };
    Some(cache.join(format!("models--{owner}--{repository}")).join("blobs").join(hash))
}

/// Copies the file at `path` into the store. `None` when it is not there, or not what it should be.
pub(super) fn take_in(store: &Store, path: &Path, wanted: &Wanted) -> Result<Option<Digest>, StoreError> {
    // A pipe must not be opened: that waits for somebody to write.
    if !fs::metadata(path).is_ok_and(|seen| seen.is_file() && seen.len() == wanted.size) {
        return Ok(None);
    }
    let Ok(file) = File::open(path) else { return Ok(None) };
    let mut file = file.take(wanted.size);
    let (mut ingest, mut git) = (store.blobs().ingest()?, GitHash::begin(wanted.size));
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk).map_err(StoreError::io("read", path))?;
        if read == 0 {
            break;
        }
        ingest.write_all(&chunk[..read]).map_err(StoreError::io("copy", path))?;
        if matches!(wanted.proof, Proof::Git(_)) {
            git.update(&chunk[..read]);
        }
    }
    if matches!(wanted.proof, Proof::Git(hash) if hash != GitHash(git.finalize().into())) {
        return Ok(None);
    }
    match ingest.commit(wanted.known().as_ref()) {
        Err(StoreError::DigestMismatch { .. }) => Ok(None),
        committed => committed.map(|(digest, _)| Some(digest)),
    }
}
