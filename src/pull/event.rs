//! What a pull or a push tells on its way.

use crate::types::Digest;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// The manifest is about to be fetched.
    Manifest,
    /// Of one blob. `completed` never goes back, and the last event of each blob has `completed == total`.
    Layer { digest: Digest, total: u64, completed: u64 },
    /// Of a file that comes from elsewhere than a registry, as [`PullEvent::Layer`]. `key` is its digest where that is known
    /// beforehand, and else stands for it while it comes.
    File { name: String, key: Digest, total: u64, completed: u64 },
    /// Every blob is there. (Each was hashed while it came.)
    Verifying,
    /// The manifest is about to be written.
    Writing,
    /// Blobs that only the former manifest of the name had used were removed.
    Pruning,
    /// The model is there, whole.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEvent {
    /// The store's manifest is about to be read.
    Retrieving,
    /// There is no such model; the error follows.
    NotRetrieved,
    /// Of one blob, as in [`PullEvent::Layer`]; `completed` begins anew when an upload has to.
    Layer {
        digest: Digest,
        total: u64,
        completed: u64,
    },
    /// The manifest is about to be sent.
    Manifest,
    Done,
}
