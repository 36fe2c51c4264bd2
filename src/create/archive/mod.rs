//! One model as one file: a tar with an OCI image layout, as registry tools read and write it.
//!
//! `oci-layout`, `index.json` with the model's name, and `blobs/sha256/…`: the manifest as the store has it, and its blobs.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::import;
pub use write::{Export, export};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::Digest;

const LAYOUT: &str = "oci-layout";
const LAYOUT_VERSION: &str = "1.0.0";
const INDEX: &str = "index.json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const BLOBS: &str = "blobs/sha256/";
/// What a manifest is called.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}
