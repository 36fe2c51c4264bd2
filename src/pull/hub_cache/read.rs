//! Reading the cache: what it has of a revision, and its files into the store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use sha1::Digest as _;

use super::super::huggingface::Listed;
use super::super::transfer::{GitHash, Proof, Wanted};
use super::CachedRepository;
use crate::store::{Pin, Store, StoreError, Taken, is_clean_path};

/// Files and folders of a snapshot that are looked at, and how deep.
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 8;
/// Bytes of a list of files that are read.
const LONGEST_TREE: u64 = 32 << 20;
const TREE_FORMAT: u32 = 1;

/// What a look for a file came to.
#[derive(Debug)]
pub(in super::super) enum Found {
    /// It stays for as long as it is held.
    Taken(Pin),
    Absent,
    /// Something else bears its name.
    Wrong,
}

/// Takes the file at `path` into the store, without a copy where the file system allows that.
pub(in super::super) fn take_in(store: &Store, path: &Path, wanted: &Wanted) -> Result<Found, StoreError> {
    // A pipe must not be opened: that waits for somebody to write.
    let Ok(seen) = fs::metadata(path) else { return Ok(Found::Absent) };
    if !seen.is_file() || seen.len() != wanted.size {
        return Ok(Found::Wrong);
    }
    if File::open(path).is_err() {
        return Ok(Found::Absent);
    }
    let mut git = GitHash::begin(wanted.size);
    let is_git = matches!(wanted.proof, Proof::Git(_));
    let adopted = store.blobs().adopt(path, true, &mut |bytes| {
        if is_git {
            git.update(bytes);
        }
        true
    })?;
    let digest = adopted.digest;
    let right = match wanted.proof {
        Proof::Sha256 => digest == wanted.key,
        Proof::Git(hash) => hash == GitHash(git.finalize().into()),
        Proof::Nothing { .. } => adopted.length == wanted.size,
    };
    if !right {
        return Ok(Found::Wrong);
    }
    // Before it has its name: what its content is nobody else knows yet.
    let pin = store.pin(digest);
    if adopted.commit()? == Taken::Copied {
        tracing::info!(path = %path.display(), bytes = wanted.size, "copied: the cache and the store share no files");
    }
    Ok(Found::Taken(pin))
}

/// The list of a commit's files that the hub's own tools keep since their version 2.
#[derive(Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeEntry>,
}

#[derive(Deserialize)]
struct TreeEntry {
    size: u64,
    blob_id: String,
    lfs_sha256: Option<String>,
    lfs_size: Option<u64>,
}

impl TreeEntry {
    fn wanted(&self) -> Option<Wanted> {
        match &self.lfs_sha256 {
            Some(hex) => Some(Wanted::digest(format!("sha256:{hex}").parse().ok()?, self.lfs_size?)),
            None => Some(Wanted::git(GitHash::parse(&self.blob_id)?, self.size)),
        }
    }
}

impl CachedRepository {
    /// The commit that a revision was when it was last fetched.
    pub(in super::super) fn commit(&self, revision: &str) -> Option<GitHash> {
        if let Some(commit) = GitHash::parse(revision) {
            return self.snapshot(commit).is_dir().then_some(commit);
        }
        let mut text = String::new();
        File::open(self.reference(revision)).ok()?.take(64).read_to_string(&mut text).ok()?;
        GitHash::parse(text.trim())
    }

    /// The files of a commit: all of them where a list says so, and else those that are here.
    pub(in super::super) fn files(&self, commit: GitHash) -> Vec<Listed> {
        if let Some(listed) = self.tree(commit) {
            return listed;
        }
        let mut found = Vec::new();
        let mut left = MOST_FILES;
        walk(&self.snapshot(commit), "", 0, &mut left, &mut found);
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found
    }

    fn tree(&self, commit: GitHash) -> Option<Vec<Listed>> {
        let mut bytes = Vec::new();
        let path = self.folder().join("trees").join(format!("{commit}.json"));
        File::open(path).ok()?.take(LONGEST_TREE).read_to_end(&mut bytes).ok()?;
        let tree: Tree = serde_json::from_slice(&bytes).ok()?;
        let listed = |(path, entry): (String, TreeEntry)| Some(Listed { wanted: entry.wanted()?, path });
        (tree.format_version == TREE_FORMAT).then(|| tree.files.into_iter().filter_map(listed).collect())
    }
}

fn walk(folder: &Path, above: &str, depth: usize, left: &mut usize, found: &mut Vec<Listed>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 || depth > DEEPEST {
            return;
        }
        *left -= 1;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let path = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &path, depth + 1, left, found),
            Ok(_) if is_clean_path(&path) => found.push(Listed { wanted: of_pointer(&entry.path()), path }),
            _ => {}
        }
    }
}

/// What the file should be that a snapshot has at `path`: the name of the blob that a link leads to says so.
fn of_pointer(path: &Path) -> Wanted {
    let size = fs::metadata(path).map_or(0, |seen| seen.len());
    let name = fs::read_link(path).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    if let Some(hash) = GitHash::parse(&name) {
        return Wanted::git(hash, size);
    }
    match format!("sha256:{name}").parse() {
        Ok(digest) => Wanted::digest(digest, size),
        Err(_) => Wanted::unknown(&path.to_string_lossy(), None, size),
    }
}
