//! For tests: stores, and models in them.

use super::{Descriptor, Manifest, MediaType, Store};
use crate::types::{Digest, ModelName};

/// A store of its own, and the folder that goes with it.
pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

/// Stores a layer's content.
pub fn layer(store: &Store, kind: MediaType, content: &[u8]) -> Descriptor {
    Descriptor::new(kind, store.blobs().put(content).unwrap(), content.len() as u64)
}

/// Stores a model of these layers, with an empty config.
pub fn model(store: &Store, name: &str, layers: Vec<Descriptor>) -> ModelName {
    let name = ModelName::parse(name).unwrap();
    let config = layer(store, MediaType::Config, b"{}");
    store.tag(&name, &Manifest::new(config, layers).to_bytes()).unwrap();
    name
}

/// Stores a model that is nothing but weights, and gives their digest.
pub fn weights(store: &Store, name: &str, content: &[u8]) -> Digest {
    let weights = layer(store, MediaType::Model, content);
    let digest = weights.digest;
    model(store, name, vec![weights]);
    digest
}
