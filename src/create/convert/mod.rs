//! Safetensors made into GGUF, where a quantisation or an adapter asks for it.
//!
//! A conversion rewrites the request: the files that were given become one GGUF file in the store, and all that follows
//! is as if that had been uploaded. Tensors go through one by one in small pieces; no model is ever in memory.

mod adapter;
mod arch;
mod config;
mod folder;
mod model;
mod pooling;
mod tensor;
mod vocab;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, BufWriter};
use std::sync::Arc;

use super::quantize::{asked, target};
use super::safetensors::{self, bad};
use super::{CreateError, CreateFile, CreateRequest};
use crate::gguf::{Gguf, GgufKind, Metadata};
use crate::store::{MediaType, Model, ModelFormat, Pin, Store, StoreError};
use crate::types::{Digest, ModelName};
use folder::Folder;
use model::Plan;
use tensor::Float;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;

/// How far a conversion is, in bytes of the file that it makes. Its text is Ollama's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    adapter: bool,
    pub completed: u64,
    pub total: u64,
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.adapter { "converting adapter" } else { "converting model" })
    }
}

/// A file that was made for a model. When the last of it is dropped and no model has come to use it, it goes.
#[derive(Clone, Debug)]
pub struct Converted {
    made: Arc<Made>,
}

#[derive(Debug)]
struct Made {
    store: Store,
    digest: Digest,
    pin: Option<Pin>,
}

impl Converted {
    pub(super) fn digest(&self) -> &Digest {
        &self.made.digest
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.pin = None;
        if let Err(error) = self.store.remove_unused([self.digest]) {
            tracing::warn!(%error, "a converted model that nothing uses cannot be removed");
        }
    }
}

/// Converts what the request gives as safetensors and cannot use so: a model that is to be quantised, and adapters.
/// Mostly nothing, at no cost. `told` hears how far it is; when it gives false, nobody wants the result any more.
///
/// # Errors
/// [`CreateError`], in the request's files; then nothing was made. [`CreateError::GivenUp`] after `told` gave false.
pub fn convert(
    store: &Store,
    request: &mut CreateRequest,
    mut told: impl FnMut(Conversion) -> bool,
) -> Result<(), CreateError> {
    let has_safetensors = |files: &[CreateFile]| files.iter().any(|file| file.path().ends_with(".safetensors"));
    let adapts = has_safetensors(&request.adapters);
    if asked(&request.quantize).is_none() && !adapts {
        return Ok(());
    }
    let _pins = super::pins(store, request);
    if let Some(wanted) = asked(&request.quantize) {
        let to = target(wanted)?;
        let given = has_safetensors(&request.files);
        let base = if given { None } else { safetensors_base(store, request)? };
        let files = match &base {
            Some(base) => files_of(base)?,
            None => request.files.clone(),
        };
        if given || base.is_some() {
            if files.iter().any(|file| file.path().ends_with(".gguf")) {
                return bad("safetensors files must be given alone".to_owned());
            }
            safetensors::facts_of(store, &files)?;
            let to = [Float::F16, Float::BF16, Float::F32].into_iter().find(|float| float.kind().name() == to.name());
            let plan = Plan::of_model(Folder { store, files: &files }, to)?;
            let file = write(store, request, plan, "model.gguf", &mut told)?;
            request.files = vec![file];
        }
    }
    if adapts {
        let base = base_metadata(store, request)?;
        let plan = adapter::plan(Folder { store, files: &request.adapters }, &base)?;
        let file = write(store, request, plan, "adapter.gguf", &mut told)?;
        request.adapters = vec![file];
    }
    Ok(())
}

/// The model to start from, if it is one of safetensors whose weights no file replaces.
fn safetensors_base(store: &Store, request: &CreateRequest) -> Result<Option<Model>, CreateError> {
    let Some(from) = request.from.as_ref().filter(|_| request.files.is_empty()) else { return Ok(None) };
    let base = model(store, from)?;
    Ok((base.format() == Some(ModelFormat::Safetensors)).then_some(base))
}

fn model(store: &Store, from: &ModelName) -> Result<Model, CreateError> {
    match store.model(from) {
        Err(StoreError::NotFound(_)) => Err(CreateError::FromNotFound(from.clone())),
        other => Ok(other?),
    }
}

fn files_of(base: &Model) -> Result<Vec<CreateFile>, CreateError> {
    let layers = base.manifest.layers_of(MediaType::File);
    layers.map(|layer| CreateFile::new(layer.name.as_deref().unwrap_or_default(), &layer.digest.to_string())).collect()
}

/// What the model that an adapter is for says of itself.
fn base_metadata(store: &Store, request: &CreateRequest) -> Result<Metadata, CreateError> {
    let read = |path: &std::path::Path, name: &str| {
        Gguf::peek(path).map_err(|source| CreateError::Gguf { file: name.to_owned(), source })
    };
    for file in &request.files {
        if store.blobs().size(file.digest()).is_none() {
            return Err(StoreError::MissingBlob(*file.digest()).into());
        }
        if let Ok(metadata) = read(&store.blobs().path(file.digest()), file.path())
            && metadata.kind() == GgufKind::Model
        {
            return Ok(metadata);
        }
    }
    let base = request.from.as_ref().map(|from| model(store, from)).transpose()?;
    match base.filter(|base| base.format() == Some(ModelFormat::Gguf)) {
        Some(base) => {
            let weights = base.weights()?;
            let first = weights.first().expect("a GGUF model has weights: a bug");
            read(first, &base.name.short())
        }
        None => bad("an adapter of safetensors needs a GGUF model, or `quantize`, which makes one".to_owned()),
    }
}

/// Writes the file into the store, and keeps it there as long as the request lives.
fn write(
    store: &Store,
    request: &mut CreateRequest,
    plan: Plan,
    name: &str,
    told: &mut dyn FnMut(Conversion) -> bool,
) -> Result<CreateFile, CreateError> {
    let adapter = name == "adapter.gguf";
    let total = plan.writer.tensors().iter().map(|tensor| tensor.size()).sum();
    let mut now = Conversion { adapter, completed: 0, total };
    let mut given_up = !told(now);
    let mut next = 0;
    let folder = store.layout().blobs();
    let mut ingest = store.blobs().ingest()?;
    let written = plan.writer.write(BufWriter::with_capacity(BUFFER, &mut ingest), |number, out| {
        plan.tensors[number].write(out, &mut |count| {
            now.completed += count;
            // some two hundred times are enough
            if now.completed >= next || now.completed == total {
                next = now.completed + total / 200;
                given_up = given_up || !told(now);
            }
            if given_up { Err(io::Error::other("nobody waits")) } else { Ok(()) }
        })
    });
    match written {
        _ if given_up => return Err(CreateError::GivenUp),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return bad(error.to_string()),
        other => other.map_err(StoreError::io("write in", &folder))?,
    }
    let (digest, _) = ingest.commit(None)?;
    let made = Made { store: store.clone(), digest, pin: Some(store.pin(digest)) };
    request.converted.push(Converted { made: Arc::new(made) });
    CreateFile::new(name, &digest.to_string())
}
