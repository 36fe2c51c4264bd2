//! Weights that must be quantised before the model can be made of them.
//!
//! Quantising takes minutes and a child process, which are not for this room: it says what is to be done
//! ([`quantizations`]), someone has it done, and `create` takes the results, which it holds to what was asked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{CreateError, CreateEvent, CreateRequest, Given};
use crate::gguf::{FileType, Gguf, Making};
use crate::store::{Descriptor, IngestFile, MediaType, Pin, Store, StoreError};

/// What Ollama puts in the place of a digest where there is none yet.
pub const NO_DIGEST: &str = "0000000000000000000";

/// What one file, or a file in parts, is to become. Its text is Ollama's status while that is done.
#[derive(Debug)]
pub struct Quantization {
    /// Files of the store, the parts of a model in order.
    input: Vec<PathBuf>,
    from: FileType,
    to: FileType,
    what: MediaType,
    /// Keep the input from being collected.
    _pins: Arc<Vec<Pin>>,
}

impl Quantization {
    pub fn input(&self) -> &[PathBuf] {
        &self.input
    }

    pub fn to(&self) -> FileType {
        self.to
    }

    /// Takes the quantised file into the store. To be given to `create` in [`CreateRequest::quantized`].
    ///
    /// # Errors
    /// When the file cannot be hashed, synced or renamed.
    pub fn commit(self, store: &Store, file: IngestFile) -> Result<Quantized, StoreError> {
        let (digest, size) = file.commit()?;
        let layer = Descriptor::new(self.what, digest, size);
        Ok(Quantized { layer, _pin: Arc::new(store.pin(digest)) })
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quantizing {} model to {}", self.from, self.to)
    }
}

/// Weights that were quantised, in the store.
#[derive(Clone, Debug)]
pub struct Quantized {
    layer: Descriptor,
    _pin: Arc<Pin>,
}

/// What is to be quantised before `create` can make the model; mostly nothing, at no cost. If something is, `events` are told of the
/// files that were read, and `create` does not tell of them again.
///
/// # Errors
/// Those of `create`, as far as they can be told before the quantisation.
pub fn quantizations(
    store: &Store,
    request: &CreateRequest,
    events: impl FnMut(CreateEvent),
) -> Result<Vec<Quantization>, CreateError> {
    if asked(&request.quantize).or(asked(&request.draft_quantize)).is_none() {
        return Ok(Vec::new());
    }
    let mut pins = super::pins(store, request);
    let (base, given) = super::check(store, request)?;
    pins.extend(base.iter().flat_map(|base| &base.manifest.layers).map(|layer| store.pin(layer.digest)));
    let pins = Arc::new(pins);
    let needs = needs(request, &given)?;
    if !needs.is_empty() {
        given.events.into_iter().for_each(events);
    }
    let quantization = |Need { input, from, to, what }| Quantization { input, from, to, what, _pins: pins.clone() };
    Ok(needs.into_iter().map(quantization).collect())
}

/// Puts what was quantised in the place of what was given.
pub(super) fn settle(
    store: &Store,
    request: &CreateRequest,
    given: &mut Given,
) -> Result<Vec<Descriptor>, CreateError> {
    let mut layers = Vec::new();
    for Need { from, to, what, .. } in needs(request, given)? {
        let done = request.quantized.iter().find(|done| done.layer.media_type == what);
        let Some(Quantized { layer, .. }) = done else {
            return Err(CreateError::NotQuantized { from: from.name(), to: to.name() });
        };
        let path = store.blobs().path(&layer.digest);
        let made =
            Gguf::open(&path).map_err(|source| CreateError::Gguf { file: "quantized model".to_owned(), source })?;
        if made.file_type() != to.name() {
            return Err(CreateError::NotQuantized { from: made.file_type(), to: to.name() });
        }
        if what == MediaType::Model {
            to.name().clone_into(&mut given.facts.file_type);
        }
        layers.push(layer.clone());
    }
    Ok(layers)
}

struct Need {
    input: Vec<PathBuf>,
    from: FileType,
    to: FileType,
    what: MediaType,
}

/// An empty word asks for nothing.
pub(super) fn asked(quantize: &Option<String>) -> Option<&str> {
    quantize.as_deref().filter(|text| !text.is_empty())
}

fn needs(request: &CreateRequest, given: &Given) -> Result<Vec<Need>, CreateError> {
    let mut needs = Vec::new();
    if let Some(wanted) = asked(&request.quantize)
        && let Some((from, to)) = step(wanted, &given.facts.file_type)?
    {
        if given.weights.is_empty() {
            return Err(CreateError::NotGgufWeights);
        }
        needs.push(Need { input: given.weights.clone(), from, to, what: MediaType::Model });
    }
    if let Some(wanted) = asked(&request.draft_quantize)
        && let Some((from, to)) = step(wanted, given.draft_type.as_deref().ok_or(CreateError::NoDraft)?)?
    {
        if given.drafts.len() > 1 {
            return Err(CreateError::Files("of several draft models none can be quantized".to_owned()));
        }
        needs.push(Need { input: given.drafts.clone(), from, to, what: MediaType::Draft });
    }
    Ok(needs)
}

/// From which type to which the weights must go; `None` when they are what is asked for.
fn step(wanted: &str, have: &str) -> Result<Option<(FileType, FileType)>, CreateError> {
    if FileType::parse(wanted).is_some_and(|to| to.name() == have) {
        return Ok(None);
    }
    let to = target(wanted)?;
    let from = FileType::parse(have).filter(|from| from.is_full_precision()).ok_or(CreateError::Quantized)?;
    Ok(Some((from, to)))
}

/// The type that is asked for, if it can be made.
pub(super) fn target(wanted: &str) -> Result<FileType, CreateError> {
    let unsupported = || CreateError::QuantizationType(wanted.to_owned());
    let to = FileType::parse(wanted).ok_or_else(unsupported)?;
    match to.making() {
        Making::Plain => Ok(to),
        Making::Matrix => Err(CreateError::Matrix(to.name())),
        Making::Never => Err(unsupported()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_where_it_can_be() {
        let step = |wanted, have| {
            step(wanted, have)
                .map(|step| step.map(|(from, to)| format!("{from} to {to}")).unwrap_or_default())
                .map_err(|error| error.to_string())
        };
        let five = "supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0";
        for (wanted, have, expected) in [
            ("q4_k_m", "F16", Ok("F16 to Q4_K_M")),
            ("Q5_1", "BF16", Ok("BF16 to Q5_1")),
            ("f32", "F16", Ok("F16 to F32")),
            ("q8_0", "Q8_0", Ok("")),
            ("IQ1_S", "IQ1_S", Ok("")),
            ("Q4_0", "Q8_0", Err("quantization is only supported for F16, BF16 and F32 models".to_owned())),
            ("Q4_0", "unknown", Err("quantization is only supported for F16, BF16 and F32 models".to_owned())),
            ("Q9_9", "F16", Err(format!("unsupported quantization type Q9_9 - {five}"))),
            ("NVFP4", "F16", Err(format!("unsupported quantization type NVFP4 - {five}"))),
            ("iq2_m", "F16", Err("quantization to IQ2_M needs an importance matrix, which cannot be given".to_owned())),
        ] {
            assert_eq!(step(wanted, have), expected.map(str::to_owned), "{wanted} of {have}");
        }
    }
}
