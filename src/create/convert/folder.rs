//! The files of a safetensors folder, by name: its JSON read, its tensors opened and left where they are.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tensor::Stored;
use crate::create::safetensors::{self, Header, JSON, bad};
use crate::create::{CreateError, CreateFile};
use crate::store::{Store, StoreError};

#[derive(Clone, Copy)]
pub(super) struct Folder<'a> {
    pub(super) store: &'a Store,
    pub(super) files: &'a [CreateFile],
}

impl Folder<'_> {
    pub(super) fn has(&self, path: &str) -> bool {
        safetensors::has(self.files, path)
    }

    /// A JSON file; `None` when it is not there.
    pub(super) fn json(&self, path: &str) -> Result<Option<Value>, CreateError> {
        safetensors::json(self.store, self.files, path)
    }

    /// A JSON file of a form that is known.
    pub(super) fn parse<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CreateError> {
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| CreateError::Files(format!("`{path}` is not what it should be: {error}")))
    }

    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, CreateError> {
        let file = self.files.iter().find(|file| file.path() == path);
        Ok(file.map(|file| self.store.blobs().read(file.digest(), JSON)).transpose()?)
    }

    /// Every tensor by its name, of the files called so if there are any.
    pub(super) fn tensors(&self, called: &str) -> Result<BTreeMap<String, Stored>, CreateError> {
        let mut found = BTreeMap::new();
        for file in self.weights(called)? {
            let header = Header::read(self.store, file)?;
            let path = self.store.blobs().path(file.digest());
            let opened = Arc::new(File::open(&path).map_err(StoreError::io("open", &path))?);
            for (name, tensor) in header.tensors {
                let at = header.data + tensor.begin();
                let stored = Stored { file: opened.clone(), at, dtype: tensor.dtype, shape: tensor.shape };
                if found.insert(name.clone(), stored).is_some() {
                    return bad(format!("tensor `{name}` is in two of the files"));
                }
            }
        }
        Ok(found)
    }

    /// The files that hold the model: those of the index; else those called so; else all. (Some makers give their model
    /// once more in a form of their own.)
    fn weights(&self, called: &str) -> Result<Vec<&CreateFile>, CreateError> {
        let index = self.json("model.safetensors.index.json")?;
        let named = index.as_ref().and_then(|index| index.get("weight_map")).and_then(Value::as_object);
        let named: HashSet<&str> = named.into_iter().flatten().filter_map(|(_, file)| file.as_str()).collect();
        let all: Vec<&CreateFile> = self.files.iter().filter(|file| file.path().ends_with(".safetensors")).collect();
        let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<&CreateFile> {
            all.iter().copied().filter(|file| wanted(file.path())).collect()
        };
        let choices = [of(&|path| named.contains(path)), of(&|path| path.starts_with(called) && !path.contains('/'))];
        Ok(choices.into_iter().find(|files| !files.is_empty()).unwrap_or(all))
    }
}

/// A word of a JSON file, for messages.
pub(super) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned).chars().take(64).collect()
}
