//! Writing a model's archive, as a stream: small things first, blobs as they are read from the store, and hashed once more.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::{BLOBS, INDEX, INDEX_TYPE, Index, IndexEntry, LAYOUT, LAYOUT_VERSION, LayoutFile, REF_NAME};
use crate::create::CreateError;
use crate::store::{Manifest, Pin, Store, StoreError};
use crate::types::{Digest, ModelName};

/// A model that is about to be written; nothing of it is removed meanwhile.
#[derive(Debug)]
pub struct Export {
    store: Store,
    name: ModelName,
    manifest: Vec<u8>,
    blobs: Vec<(Digest, u64)>,
    _pins: Vec<Pin>,
}

/// Looks whether all of a model is there.
///
/// # Errors
/// [`StoreError::NotFound`]; a blob that is missing or damaged.
pub fn export(store: &Store, name: &ModelName) -> Result<Export, CreateError> {
    let (bytes, _) = store.tags().bytes(name)?;
    let manifest = Manifest::parse(&bytes)?;
    let pins = manifest.descriptors().map(|blob| store.pin(blob.digest)).collect();
    let mut blobs = Vec::new();
    let mut seen = BTreeSet::new();
    // The config first: who reads the archive learns the small things early.
    for blob in [&manifest.config].into_iter().chain(&manifest.layers) {
        store.blobs().check(&blob.digest, blob.size)?;
        if seen.insert(blob.digest) {
            blobs.push((blob.digest, blob.size));
        }
    }
    Ok(Export { store: store.clone(), name: store.tags().resolve(name), manifest: bytes, blobs, _pins: pins })
}

impl Export {
    /// Writes the archive. The same model always gives the same bytes.
    ///
    /// # Errors
    /// When `out` does not take it, or a blob is not what its name says: then the archive has no end.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        let mut tar = Builder::new(out);
        let layout = LayoutFile { image_layout_version: LAYOUT_VERSION.to_owned() };
        add(&mut tar, LAYOUT, &json(&layout))?;
        add(&mut tar, INDEX, &json(&self.index()))?;
        for folder in ["blobs/", BLOBS] {
            let mut header = header(0);
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            tar.append_data(&mut header, folder, io::empty())?;
        }
        add(&mut tar, &format!("{BLOBS}{}", Digest::of(&self.manifest).hex()), &self.manifest)?;
        for (digest, size) in &self.blobs {
            let file = self.store.blobs().open(digest).map_err(io::Error::other)?;
            let mut reader = Hashed { reader: file.take(*size), hash: Sha256::new() };
            tar.append_data(&mut header(*size), format!("{BLOBS}{}", digest.hex()), &mut reader)?;
            let actual = Digest::from_bytes(reader.hash.finalize().into());
            if actual != *digest {
                let why = format!("its content is {actual}");
                return Err(io::Error::other(StoreError::Damaged { digest: *digest, why }));
            }
        }
        tar.into_inner()?.flush()
    }

    fn index(&self) -> Index {
        let manifest = IndexEntry {
            media_type: crate::store::MediaType::Manifest.as_str().to_owned(),
            digest: Digest::of(&self.manifest),
            size: self.manifest.len() as u64,
            annotations: [(REF_NAME.to_owned(), self.name.to_string())].into(),
        };
        Index { schema_version: 2, media_type: INDEX_TYPE.to_owned(), manifests: vec![manifest] }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("an index is plain JSON: a bug")
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add(tar: &mut Builder<impl Write>, path: &str, content: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(content.len() as u64), path, content)
}

struct Hashed<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
