//! What lists tell of models, read once a manifest: a list of hundreds is asked for every few seconds by some clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::models::listed_capabilities;
use crate::store::{Capability, ModelDetails, ModelFormat, Store, StoreError, Tag};
use crate::types::Digest;

/// Above this many the cache starts anew.
const MOST: usize = 4096;

/// A model's line of a list, but for what its tag says.
#[derive(Debug)]
pub struct Listed {
    pub details: ModelDetails,
    pub capabilities: Vec<Capability>,
    /// Of a model that another server runs: its name there, and that server. Else both are empty.
    pub remote_model: String,
    pub remote_host: String,
}

/// A std mutex: held for single map operations. A manifest's digest always means the same, so nothing grows stale.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Mutex<HashMap<Digest, Arc<Listed>>>>);

impl Cache {
    /// # Errors
    /// When a small blob of the model is missing or broken.
    pub fn get(&self, store: &Store, tag: &Tag) -> Result<Arc<Listed>, StoreError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&tag.digest).cloned();
        if let Some(listed) = kept {
            return Ok(listed);
        }
        let model = store.model_of(tag.clone())?;
        let listed = Arc::new(Listed {
            details: model.details(),
            capabilities: listed_capabilities(&model),
            remote_model: model.config.remote_model.clone(),
            remote_host: model.config.remote_host.clone(),
        });
        // Weights that cannot be read may be mended by the next pull, under the same digest.
        if model.format() != Some(ModelFormat::Gguf) || model.head().is_some() {
            let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if map.len() >= MOST {
                map.clear();
            }
            map.insert(tag.digest, listed.clone());
        }
        Ok(listed)
    }
}
