//! The metadata of GGUF blobs, read once: lists ask for it again and again, and a vocabulary is long to walk.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::Blobs;
use crate::gguf::{Gguf, GgufError, Metadata};
use crate::types::Digest;

/// Above this many the cache starts anew.
const MOST: usize = 1024;

/// A std mutex: held for single map operations. What a digest names never changes, so nothing here grows stale.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<HashMap<Digest, Arc<Metadata>>>);

impl Heads {
    pub(super) fn get(&self, blobs: &Blobs, digest: &Digest) -> Result<Arc<Metadata>, GgufError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(head) = known {
            return Ok(head);
        }
        // A pipe or a link out of the store is not read.
        blobs.open(digest).map_err(io::Error::other)?;
        let head = Arc::new(Gguf::peek(&blobs.path(digest))?);
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() >= MOST {
            heads.clear();
        }
        heads.insert(*digest, head.clone());
        Ok(head)
    }
}
