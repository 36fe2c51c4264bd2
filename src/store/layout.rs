//! The only place that knows a path of the store.
//!
//! `blobs/sha256-<hex>` and `manifests/<host>/<namespace>/<model>/<tag>` are Ollama's; `hanzod/` is ours and Ollama never
//! looks into it: downloads under way (`partial/`), folders of links for engines that want files by name (`views/`), what
//! blobs' files were like when they were last found right (`stamps/`), blobs that were not (`damaged/`), what models made of
//! long prompts (`prompts/`), and which blobs running processes need (`pins/`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::StoreError;
use crate::types::{Digest, ModelName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.file_name())
    }

    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// A legal name cannot leave the folder: no part may begin with a dot or hold a slash.
    pub fn manifest(&self, name: &ModelName) -> PathBuf {
        self.manifests().join(name.host()).join(name.namespace()).join(name.model()).join(name.tag())
    }

    /// Downloads under way.
    pub fn partials(&self) -> PathBuf {
        self.root.join("hanzod").join("partial")
    }

    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(digest.hex())
    }

    /// A folder in which a model's files have the names its makers gave them.
    pub fn view(&self, files: &Digest) -> PathBuf {
        self.views().join(files.hex())
    }

    pub fn views(&self) -> PathBuf {
        self.root.join("hanzod").join("views")
    }

    /// A note of what a blob's file was like when it was last known to be right.
    pub fn stamp(&self, digest: &Digest) -> PathBuf {
        self.stamps().join(digest.hex())
    }

    pub fn stamps(&self) -> PathBuf {
        self.root.join("hanzod").join("stamps")
    }

    /// Blobs that were found not to be what their names say, moved out of the way.
    pub fn damaged(&self) -> PathBuf {
        self.root.join("hanzod").join("damaged")
    }

    /// What engines save of prompts, in files of their own.
    pub fn prompts(&self) -> PathBuf {
        self.root.join("hanzod").join("prompts")
    }

    /// A file of each process that needs blobs which no manifest names yet.
    pub fn pins(&self) -> PathBuf {
        self.root.join("hanzod").join("pins")
    }

    /// Makes the folders, and gives blobs of Ollama's first versions (`sha256:<hex>`) the names of today.
    pub(super) fn prepare(&self) -> Result<(), StoreError> {
        for folder in [self.blobs(), self.manifests()] {
            match make_folder(&folder) {
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
                made => made.map_err(StoreError::io("make", &folder))?,
            }
        }
        let Ok(entries) = fs::read_dir(self.blobs()) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let old = name.to_str().filter(|name| name.starts_with("sha256:"));
            if let Some(Ok(digest)) = old.map(str::parse::<Digest>) {
                fs::rename(entry.path(), self.blob(&digest)).ok();
            }
        }
        Ok(())
    }
}

/// Makes a folder and those above it that are missing, so that they outlive a power cut.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    let Some(above) = folder.parent().filter(|_| !folder.is_dir()) else { return Ok(()) };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    make_folder(above)?;
    match fs::create_dir(folder) {
        // Another process was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    fs::File::open(above)?.sync_all()
}

/// Opens for reading what should be a file. A pipe that stands in its place is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(without_waiting).open(path)
}

/// Syncs a folder, so that a rename in it outlives a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
}
