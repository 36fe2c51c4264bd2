//! Files of the store that no manifest names: unused blobs, downloads that did not end, files that were being written,
//! blobs that were found damaged, and saved prompts.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Layout, Store, layout};
use crate::types::Digest;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LooseKind {
    /// A whole blob.
    Blob,
    /// A download under way, or one that was left; ours, or Ollama's.
    Partial,
    /// What a create, an upload or an import was writing.
    Temporary,
    /// A blob that was not what its name said, moved out of the way.
    Damaged,
    /// What an engine saved of a prompt.
    Prompt,
}

impl LooseKind {
    /// From when on a file of this kind has been left alone.
    fn modified(self, seen: &Metadata) -> SystemTime {
        match self {
            // Since it was moved: its content may be as old as it likes.
            Self::Damaged => {
                SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seen.ctime()).unwrap_or_default())
            }
            _ => seen.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// What stands for itself: one file, or one and those beside it.
#[derive(Clone, Debug)]
pub struct Loose {
    pub kind: LooseKind,
    /// Of a blob, and of a download that is known by it.
    pub digest: Option<Digest>,
    /// Bytes that it takes on the disk.
    pub size: u64,
    /// When something of it was last written.
    pub modified: SystemTime,
    /// Somebody is at work with it.
    pub held: bool,
    pub(super) files: Vec<PathBuf>,
}

impl Loose {
    /// Whether nothing has been written of it for so long. What has gone has been left alone.
    pub(super) fn is_left(&self, age: Duration) -> bool {
        self.files
            .iter()
            .filter_map(|path| fs::symlink_metadata(path).ok())
            .all(|seen| SystemTime::now().duration_since(self.kind.modified(&seen)).is_ok_and(|past| past >= age))
    }
}

impl Store {
    /// All of them, by kind, the largest first. Without blobs when a manifest cannot be read: then nobody knows which are
    /// in use.
    pub(super) fn loose(&self) -> (Vec<Loose>, Option<&'static str>) {
        let mut found = BTreeMap::new();
        let used = self.referenced();
        // A manifest that is being written stands at the root of them all.
        let manifests = self.layout().manifests();
        let manifests = entries(&manifests).filter(|entry| entry.is_file());
        for entry in entries(&self.layout().blobs()).chain(manifests) {
            let Some(kind) = Named::of(&entry) else { continue };
            let (kind, digest) = match kind {
                Named::Blob(digest) if used.as_ref().is_none_or(|used| used.contains(&digest)) => continue,
                Named::Blob(digest) => (LooseKind::Blob, Some(digest)),
                Named::OllamaPartial(digest) => (LooseKind::Partial, Some(digest)),
                Named::Ingest => (LooseKind::Temporary, None),
            };
            add(&mut found, kind, digest, entry);
        }
        for (folder, kind) in [
            (self.layout().partials(), LooseKind::Partial),
            (self.layout().damaged(), LooseKind::Damaged),
            (self.layout().prompts(), LooseKind::Prompt),
        ] {
            for entry in entries(&folder) {
                let digest = digest_of(&entry);
                add(&mut found, kind, digest, entry);
            }
        }
        let mut found: Vec<Loose> = found.into_values().collect();
        let pinned = self.pinned();
        for loose in &mut found {
            let pinned = loose.digest.is_some_and(|digest| pinned.contains(&digest));
            loose.held = pinned || loose.digest.is_some_and(|digest| is_locked(self.layout(), &digest));
        }
        found.sort_by_key(|loose| (loose.kind, std::cmp::Reverse(loose.size)));
        let unsure = used.is_none().then_some("a manifest cannot be read, so nobody knows which blobs are in use");
        (found, unsure)
    }
}

/// What a name among the blobs says.
enum Named {
    Blob(Digest),
    /// Ollama's downloads stand beside the blobs.
    OllamaPartial(Digest),
    Ingest,
}

impl Named {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if name.starts_with("ingest-") {
            return Some(Self::Ingest);
        }
        name.strip_prefix("sha256-")?;
        match name.split_once("-partial") {
            Some((digest, _)) => digest.parse().ok().map(Self::OllamaPartial),
            None => name.parse().ok().map(Self::Blob),
        }
    }
}

/// Of a file whose name begins with 64 digits.
pub(super) fn digest_of(path: &Path) -> Option<Digest> {
    let hex = path.file_name()?.to_str()?.split('.').next()?;
    format!("sha256:{hex}").parse().ok()
}

pub(super) fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

type Found = BTreeMap<(LooseKind, String), Loose>;

fn add(found: &mut Found, kind: LooseKind, digest: Option<Digest>, path: PathBuf) {
    let Ok(seen) = fs::symlink_metadata(&path) else { return };
    // What stands beside a download goes by its name.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let key = digest.map_or_else(|| name.clone().into_owned(), |digest| digest.hex());
    let modified = kind.modified(&seen);
    // Downloads have holes: what counts is the room they take.
    let size = match kind {
        LooseKind::Partial => seen.blocks().saturating_mul(512).min(seen.len()),
        _ => seen.len(),
    };
    let loose = found.entry((kind, key)).or_insert_with(|| Loose {
        kind,
        digest,
        size: 0,
        modified,
        held: false,
        files: Vec::new(),
    });
    loose.size += size;
    loose.modified = loose.modified.max(modified);
    loose.files.push(path);
}

/// Whether some process fetches this content now.
fn is_locked(layout: &Layout, digest: &Digest) -> bool {
    let Ok(file) = layout::open(&layout.partial(digest)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}
