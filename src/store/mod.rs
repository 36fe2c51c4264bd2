//! Floor 1: content-addressed models on disk, in Ollama's own layout, so that both programs can share one folder.
//!
//! [`Blobs`] holds content by its digest, [`Tags`] the names that point at manifests. Everything here blocks: callers on
//! an async thread use `spawn_blocking`.
//!
//! Invariant: a name under `blobs/` has the hash it says, and a manifest appears only after its blobs are durable
//! (write, sync, rename, sync the folder; what another program has written is synced before it is relied on), and goes for
//! good before they do. Nothing half-written is ever visible under its final name. What the disk or a hand did to a blob
//! afterwards is found when it is used ([`Blobs::check`]).

mod adopt;
mod blobs;
mod config;
mod details;
mod df;
mod error;
#[cfg(test)]
mod extra_tests;
mod gc;
mod heads;
mod layout;
mod link;
mod loose;
mod manifest;
mod messages;
mod model;
pub mod modelfile;
#[cfg(test)]
mod names_tests;
mod naming;
mod partial;
mod pins;
mod prune;
mod sound;
mod stamp;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
mod turns;
mod verify;
mod view;

pub use adopt::{Adopted, Taken};
pub use blobs::{Blobs, Ingest, IngestFile};
pub use config::ModelConfig;
pub use details::{Capability, ModelDetails};
pub use df::{ModelUsage, Usage};
pub use error::StoreError;
pub use layout::Layout;
pub use link::{Shared, share};
pub use loose::{Loose, LooseKind};
pub use manifest::{Descriptor, Manifest, MediaType};
pub use model::{Model, ModelFormat};
pub use partial::Partial;
pub use pins::Pin;
pub use prune::{PruneRules, Pruned};
pub use tags::{Tag, Tags};
pub use verify::{Finding, Verified, VerifyStep};

pub(crate) use messages::to_bytes as message_layer;
pub(crate) use turns::Turns;
pub(crate) use view::is_clean_path;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A store of models. Clones share one state.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// A replaced model's blobs stay.
    keeps_replaced: bool,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    blobs: Blobs,
    tags: Tags,
    pins: pins::Pins,
    /// See [`gc::Alone`].
    naming: Mutex<()>,
    heads: heads::Heads,
    views: view::Elsewhere,
}

impl Store {
    /// Opens the store at `root`, making its folders where they are missing. A store that cannot be written is opened all
    /// the same: its models can be listed and run.
    ///
    /// # Errors
    /// When `root` exists and is no folder, or cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, &[])
    }

    /// As [`Store::open`], with what is in `extras` beside it: models of these stores are listed and run, and nothing there is
    /// written or removed. What an earlier store has goes before what a later one has.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(root: &Path, extras: &[PathBuf]) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        layout.prepare()?;
        let extras: Arc<[Layout]> = extras.iter().map(|extra| Layout::new(extra)).collect();
        for extra in extras.iter().filter(|extra| !extra.root().is_dir()) {
            tracing::warn!(store = %extra.root().display(), "an extra store is not there");
        }
        let blobs = Blobs::new(layout.clone(), extras.clone());
        let tags = Tags::new(layout.clone(), extras);
        let pins = pins::Pins::new(layout.pins());
        let inner = Inner {
            layout,
            blobs,
            tags,
            pins,
            naming: Mutex::default(),
            heads: heads::Heads::default(),
            views: view::Elsewhere::default(),
        };
        Ok(Self { inner: Arc::new(inner), keeps_replaced: false })
    }

    /// The same store, in which a model that replaces another leaves the other's blobs alone.
    pub fn keep_replaced(self) -> Self {
        Self { keeps_replaced: true, ..self }
    }

    pub fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub fn tags(&self) -> &Tags {
        &self.inner.tags
    }
}
