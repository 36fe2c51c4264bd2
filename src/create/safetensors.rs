//! A safetensors folder: which of its files make a model, and what they say of it. The files are kept as they came.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::weights::Facts;
use super::{CreateError, CreateFile};
use crate::gguf::parameter_size;
use crate::store::{Store, StoreError};

/// Bytes of a header; a thousand tensors take some 100 kB.
const HEADER: u64 = 32 << 20;
/// Bytes of a JSON file that is read here.
pub(super) const JSON: u64 = 64 << 20;

/// Checks the files and tells what they say.
pub(super) fn facts_of(store: &Store, files: &[CreateFile]) -> Result<Facts, CreateError> {
    if let Some(file) = files.iter().find(|file| is_pickle(file.path())) {
        return bad(format!("`{}`: files that hold Python objects are not accepted", file.path()));
    }
    if has(files, "adapter_config.json") {
        return bad("adapters must be GGUF files".to_owned());
    }
    let config = json(store, files, "config.json")?;
    let Some(config) = config else {
        return bad("`config.json` is missing".to_owned());
    };
    if !["tokenizer.json", "tokenizer.model", "tekken.json"].iter().any(|name| has(files, name)) {
        return bad("there is no tokenizer among the files".to_owned());
    }
    check_index(store, files)?;

    let mut tensors = Vec::new();
    for file in files.iter().filter(|file| file.path().ends_with(".safetensors")) {
        tensors.extend(Header::read(store, file)?.tensors.into_values());
    }
    // what describes the text side of a model that also sees
    let text = config.get("text_config").filter(|text| text.is_object()).unwrap_or(&config);
    let number = |key: &str| text.get(key).and_then(Value::as_u64).unwrap_or(0);
    let bits = config.pointer("/quantization/bits").and_then(Value::as_u64).filter(|bits| (1..=32).contains(bits));
    let family = config.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Facts {
        format: "safetensors",
        families: vec![family.clone()],
        family,
        parameter_size: parameter_size(parameter_count(&tensors, bits)),
        file_type: bits.map_or_else(|| most_common_type(&tensors), |bits| format!("int{bits}")),
        context_length: number("max_position_embeddings"),
        embedding_length: number("hidden_size"),
        capabilities: capabilities(&config, files),
    })
}

/// `modules.json` is of a sentence transformer, which pools its tokens into one vector.
fn capabilities(config: &Value, files: &[CreateFile]) -> Vec<String> {
    let told = [
        ("embedding", has(files, "modules.json")),
        ("completion", !has(files, "modules.json")),
        ("vision", config.get("vision_config").is_some_and(Value::is_object)),
        ("audio", config.get("audio_config").is_some_and(Value::is_object)),
    ];
    told.into_iter().filter(|(_, told)| *told).map(|(name, _)| name.to_owned()).collect()
}

pub(super) fn has(files: &[CreateFile], path: &str) -> bool {
    files.iter().any(|file| file.path() == path)
}

pub(super) fn bad<T>(why: String) -> Result<T, CreateError> {
    Err(CreateError::Files(why))
}

fn is_pickle(path: &str) -> bool {
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"].iter().any(|suffix| path.ends_with(suffix))
}

/// The content of a JSON file; `None` when it is not among the files.
pub(super) fn json(store: &Store, files: &[CreateFile], path: &str) -> Result<Option<Value>, CreateError> {
    let Some(file) = files.iter().find(|file| file.path() == path) else {
        return Ok(None);
    };
    let bytes = store.blobs().read(file.digest(), JSON)?;
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| CreateError::Files(format!("`{path}` is not JSON: {error}")))
}

/// Every file that the index names must have been given.
fn check_index(store: &Store, files: &[CreateFile]) -> Result<(), CreateError> {
    let Some(index) = json(store, files, "model.safetensors.index.json")? else {
        return Ok(());
    };
    let given: HashSet<&str> = files.iter().map(CreateFile::path).collect();
    let named = index.get("weight_map").and_then(Value::as_object).into_iter().flatten();
    match named.map(|(_, file)| file.as_str().unwrap_or_default()).find(|file| !given.contains(file)) {
        Some(file) => bad(format!("`{file}` is in the index, but was not given")),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
pub(super) struct Tensor {
    pub(super) dtype: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Tensor {
    fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length))
    }

    /// Bytes of one element.
    fn width(&self) -> Option<u64> {
        Some(match self.dtype.as_str() {
            "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
            "U16" | "I16" | "F16" | "BF16" => 2,
            "U32" | "I32" | "F32" => 4,
            "U64" | "I64" | "F64" => 8,
            _ => return None,
        })
    }

    /// Where its bytes begin, from the start of the file's data.
    pub(super) fn begin(&self) -> u64 {
        self.data_offsets[0]
    }
}

/// What stands at the head of a safetensors file.
///
/// Invariant: every tensor has as many bytes as its shape takes, inside the file, and together they have no more than it.
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Where the tensors' data begins.
    pub(super) data: u64,
}

impl Header {
    pub(super) fn read(store: &Store, file: &CreateFile) -> Result<Self, CreateError> {
        let path = store.blobs().path(file.digest());
        let size = store.blobs().size(file.digest()).ok_or(StoreError::MissingBlob(*file.digest()))?;
        let wrong = |why: &str| CreateError::Files(format!("`{}` is not a sound safetensors file: {why}", file.path()));
        let mut reader = File::open(&path).map_err(StoreError::io("open", &path))?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => wrong("it is cut short"),
            _ => StoreError::io("read", &path)(error).into(),
        };
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        let Some(room) = size.checked_sub(8).and_then(|left| left.checked_sub(length)) else {
            return Err(wrong("its header is longer than the file"));
        };
        if length > HEADER {
            return Err(wrong("its header is too long"));
        }
        let mut header = Vec::new();
        reader.take(length).read_to_end(&mut header).map_err(failed)?;
        let mut entries: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(&header).map_err(|error| wrong(&format!("its header is not JSON: {error}")))?;
        entries.remove("__metadata__");
        let mut tensors = BTreeMap::new();
        let mut whole = 0_u64;
        for (name, entry) in entries {
            let tensor: Tensor =
                serde_json::from_str(entry.get()).map_err(|error| wrong(&format!("tensor `{name}`: {error}")))?;
            let Some(width) = tensor.width() else {
                return Err(wrong(&format!("tensor `{name}` has the unknown type {}", tensor.dtype)));
            };
            let [begin, end] = tensor.data_offsets;
            let bytes = tensor.elements().and_then(|elements| elements.checked_mul(width));
            if end > room || end.checked_sub(begin).is_none_or(|have| Some(have) != bytes) {
                return Err(wrong(&format!("tensor `{name}` does not fit its place in the file")));
            }
            whole = whole.saturating_add(end - begin);
            tensors.insert(name, tensor);
        }
        if whole > room {
            return Err(wrong("its tensors lie on each other's data"));
        }
        Ok(Self { tensors, data: 8 + length })
    }
}

/// Weights of so many bits lie packed in 32-bit words.
fn parameter_count(tensors: &[Tensor], bits: Option<u64>) -> u64 {
    let count = |tensor: &Tensor| {
        let elements = tensor.elements().unwrap_or(0);
        match bits {
            Some(bits) if tensor.dtype == "U32" => elements.saturating_mul(32) / bits,
            _ => elements,
        }
    };
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(count(tensor)))
}

fn most_common_type(tensors: &[Tensor]) -> String {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in tensors {
        let count = counts.entry(&tensor.dtype).or_default();
        *count = count.saturating_add(tensor.elements().unwrap_or(0));
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or_else(|| "unknown".to_owned(), |(name, _)| name.to_owned())
}
