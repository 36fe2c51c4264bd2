//! Reading a model's archive, as a stream: no name in it becomes a path, each blob is hashed as it lands, and the model appears
//! when all of it is there.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use super::{BLOBS, INDEX, Index, IndexEntry, LAYOUT, LayoutFile, REF_NAME};
use crate::create::CreateError;
use crate::store::{Manifest, Pin, Store, StoreError};
use crate::types::{Digest, ModelName};

/// Bytes of a manifest or an index.
const SMALL: u64 = 4 << 20;
/// Bytes between the content of one entry and that of the next: headers, long names and what else tar has there.
const BETWEEN: u64 = 1 << 20;
/// Entries of one archive.
const MOST: usize = 16 * 1024;

/// Takes in the models of an archive, or its only one as `name`. Gives their names.
///
/// # Errors
/// [`CreateError::Archive`] for what is no archive of a model; a name that cannot be written. Then the store is as it was.
pub fn import(store: &Store, input: impl Read, name: Option<&ModelName>) -> Result<Vec<ModelName>, CreateError> {
    let mut import = Import { store, blobs: HashMap::new(), fresh: Vec::new(), pins: Vec::new(), index: None };
    let done = import.read(input).and_then(|()| import.finish(name));
    let Import { fresh, pins, .. } = import;
    drop(pins);
    // Of a good import what no manifest names are the manifests themselves; of a bad one, all that came.
    if let Err(error) = store.remove_unused(fresh) {
        tracing::warn!(%error, "what an import left could not be removed");
    }
    done
}

struct Import<'a> {
    store: &'a Store,
    /// What the archive brought, and how long it is.
    blobs: HashMap<Digest, u64>,
    /// Of these, what the store did not have.
    fresh: Vec<Digest>,
    pins: Vec<Pin>,
    index: Option<Vec<u8>>,
}

fn bad(why: impl Into<String>) -> CreateError {
    CreateError::Archive(why.into())
}

fn broken(error: io::Error) -> CreateError {
    bad(error.to_string())
}

impl Import<'_> {
    fn read(&mut self, input: impl Read) -> Result<(), CreateError> {
        let allowed = Rc::new(Cell::new(BETWEEN));
        let mut archive = Archive::new(Guarded { input, allowed: allowed.clone() });
        let mut entries = archive.entries().map_err(broken)?;
        for _ in 0..MOST {
            allowed.set(BETWEEN);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(broken)?;
            allowed.set(entry.size().saturating_add(BETWEEN));
            self.entry(&mut entry)?;
        }
        Err(bad(format!("it has more than {MOST} entries")))
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), CreateError> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let unexpected = |what: &str| bad(format!("it has {what} `{}`", path.escape_debug()));
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory if matches!(path.trim_end_matches('/'), "" | "." | "blobs" | "blobs/sha256") => {
                return Ok(());
            }
            EntryType::Directory => return Err(unexpected("a folder")),
            EntryType::XGlobalHeader => return Ok(()),
            _ => return Err(unexpected("something that is no file")),
        }
        if let Some(hex) = path.strip_prefix(BLOBS) {
            let digest = format!("sha256:{hex}").parse().map_err(|_| unexpected("an illegal name"))?;
            return self.blob(digest, entry);
        }
        match path {
            LAYOUT => {
                let layout: Option<LayoutFile> = serde_json::from_slice(&small(entry, LAYOUT)?).ok();
                let known = layout.is_some_and(|layout| layout.image_layout_version.starts_with("1."));
                if known { Ok(()) } else { Err(bad("its layout is of an unknown version")) }
            }
            INDEX => match self.index.replace(small(entry, INDEX)?) {
                None => Ok(()),
                Some(_) => Err(bad("it has two indexes")),
            },
            // Other tools leave notes of their own at the top.
            note if !note.contains('/') && entry.size() <= BETWEEN && note != ".." => {
                io::copy(entry, &mut io::sink()).map(drop).map_err(broken)
            }
            _ => Err(unexpected("an unexpected file")),
        }
    }

    /// Stores a blob that is what its name says.
    fn blob(&mut self, digest: Digest, entry: &mut Entry<'_, impl Read>) -> Result<(), CreateError> {
        let size = entry.size();
        if self.blobs.insert(digest, size).is_some() {
            return Err(bad(format!("it has blob {digest} twice")));
        }
        self.pins.push(self.store.pin(digest));
        let whole = |length: u64| if length == size { Ok(()) } else { Err(bad("it ends too early")) };
        if self.store.blobs().settle(&digest, Some(size))? {
            let mut hash = Sha256::new();
            whole(io::copy(entry, &mut hash).map_err(broken)?)?;
            let actual = Digest::from_bytes(hash.finalize().into());
            if actual != digest {
                return Err(StoreError::DigestMismatch { expected: digest, actual }.into());
            }
            self.store.blobs().touch(&digest);
            return Ok(());
        }
        let mut ingest = self.store.blobs().ingest()?;
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0;
        loop {
            let count = entry.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            ingest.write_all(&buffer[..count]).map_err(StoreError::io("write", &self.store.layout().blobs()))?;
            length += count as u64;
        }
        whole(length)?;
        ingest.commit(Some(&digest))?;
        self.fresh.push(digest);
        Ok(())
    }

    /// Gives the models their names.
    fn finish(&mut self, name: Option<&ModelName>) -> Result<Vec<ModelName>, CreateError> {
        let index = self.index.take().ok_or_else(|| bad("it has no index.json"))?;
        let index: Index = serde_json::from_slice(&index).map_err(|error| bad(format!("its index: {error}")))?;
        let found = index.manifests.iter().map(|entry| self.model(entry, name)).collect::<Result<Vec<_>, _>>()?;
        match (found.len(), name) {
            (0, _) => return Err(bad("it has no model")),
            (2.., Some(_)) => return Err(bad("it has several models, and one name was given")),
            _ => {}
        }
        let models: Vec<(&ModelName, &[u8])> = found.iter().map(|(name, manifest)| (name, &manifest[..])).collect();
        // All or none: who is told that it failed looks for none of them, and tries the same again.
        self.store.tag_all(&models)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    fn model(&self, entry: &IndexEntry, name: Option<&ModelName>) -> Result<(ModelName, Vec<u8>), CreateError> {
        if self.blobs.get(&entry.digest) != Some(&entry.size) {
            return Err(bad(format!("its manifest {} is not in it, or of another length", entry.digest)));
        }
        let bytes = self.store.blobs().read(&entry.digest, SMALL)?;
        let manifest = Manifest::parse(&bytes)?;
        for blob in manifest.descriptors() {
            // What the archive lacks may be here; what it has must be as long as it says.
            if self.blobs.get(&blob.digest).is_some_and(|size| *size != blob.size) {
                return Err(bad(format!("blob {} is not as long as the manifest says", blob.digest)));
            }
            self.store.blobs().check(&blob.digest, blob.size)?;
        }
        let told = entry.annotations.get(REF_NAME);
        let name = match (name, told) {
            (Some(name), _) => name.clone(),
            (None, Some(told)) => ModelName::parse(told).map_err(|_| CreateError::InvalidName)?,
            (None, None) => return Err(bad("it does not say what its model is called: give a name")),
        };
        Ok((name, bytes))
    }
}

fn small(entry: &mut impl Read, what: &str) -> Result<Vec<u8>, CreateError> {
    let mut bytes = Vec::new();
    entry.take(SMALL + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > SMALL {
        return Err(bad(format!("its {what} is too long")));
    }
    Ok(bytes)
}

/// Gives no more than is allowed: tar keeps long names in memory, however long they say they are.
struct Guarded<R> {
    input: R,
    allowed: Rc<Cell<u64>>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = self.allowed.get();
        if allowed == 0 && !buffer.is_empty() {
            return Err(io::Error::other("it has too much between its files"));
        }
        let most = buffer.len().min(usize::try_from(allowed).unwrap_or(usize::MAX));
        let count = self.input.read(&mut buffer[..most])?;
        self.allowed.set(allowed - count as u64);
        Ok(count)
    }
}
