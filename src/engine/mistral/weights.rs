//! The safetensors files of a folder, looked at before they are mapped: whole, and how much memory they will take.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::json::{read_json, refuse};
use crate::engine::event::EngineError;

/// A header of more bytes than this is no header; the format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;

/// A model's weights.
#[derive(Debug)]
pub struct Weights {
    pub files: Vec<PathBuf>,
    /// Elements of floating-point tensors: their width changes when they are loaded.
    pub floats: u64,
    /// Bytes of all others, which stay as they are.
    pub others: u64,
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Weights {
    /// # Errors
    /// When there are none, or a file is not whole.
    pub fn find(folder: &Path) -> Result<Self, EngineError> {
        let mut weights = Self { files: files(folder)?, floats: 0, others: 0 };
        for file in weights.files.clone() {
            let header = header(&file).map_err(|error| {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                refuse(format!("`{name}` {error}"))
            })?;
            for tensor in header.values() {
                match tensor.dtype.as_str() {
                    "F64" | "F32" | "F16" | "BF16" => {
                        let elements = tensor.shape.iter().fold(1_u64, |product, size| product.saturating_mul(*size));
                        weights.floats = weights.floats.saturating_add(elements);
                    }
                    _ => weights.others += tensor.data_offsets.1 - tensor.data_offsets.0,
                }
            }
        }
        Ok(weights)
    }
}

/// The files the index names, or else the only one, or else all.
fn files(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    if folder.join("model.safetensors.index.json").exists() {
        let index = read_json(folder, "model.safetensors.index.json")?;
        let names: BTreeSet<&str> = index["weight_map"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values())
            .filter_map(Value::as_str)
            .collect();
        let plain = |name: &str| Path::new(name).file_name().is_some_and(|plain| plain == name);
        return match names.iter().find(|name| !plain(name)) {
            Some(name) => Err(refuse(format!("`{name}` in the index is no name of a file"))),
            None if names.is_empty() => Err(refuse("the index of the weights names no file")),
            None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
        };
    }
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    let entries = fs::read_dir(folder).map_err(|error| refuse(format!("cannot read the model's folder: {error}")))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    if files.is_empty() { Err(refuse("the model's folder has no safetensors file")) } else { Ok(files) }
}

fn header(path: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| "is cut off".to_owned())?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err("is no safetensors file".into());
    }
    if length > size - 8 {
        return Err("is cut off".into());
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(cannot)?;
    let mut header: BTreeMap<String, Value> =
        serde_json::from_slice(&text).map_err(|error| format!("has a broken header: {error}"))?;
    header.remove("__metadata__");
    let mut tensors = BTreeMap::new();
    for (name, tensor) in header {
        let tensor: Tensor =
            serde_json::from_value(tensor).map_err(|error| format!("has a broken header at `{name}`: {error}"))?;
        let (begin, end) = tensor.data_offsets;
        if begin > end {
            return Err(format!("has a broken header at `{name}`"));
        }
        if end > size - 8 - length {
            return Err("is cut off".into());
        }
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safetensors(header: &str, data: usize) -> Vec<u8> {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 0);
        file
    }

    #[test]
    fn the_index_names_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
        let half = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}"#;
        let packed = r#"{"b":{"dtype":"U32","shape":[2],"data_offsets":[0,8]}}"#;
        write("one.safetensors", &safetensors(half, 12));
        write("two.safetensors", &safetensors(packed, 8));
        write("three.safetensors", b"not asked for");
        let index = |name: &str| format!(r#"{{"weight_map":{{"a":"{name}","b":"two.safetensors"}}}}"#);
        write("model.safetensors.index.json", index("one.safetensors").as_bytes());
        let weights = Weights::find(folder.path()).unwrap();
        assert_eq!((weights.files.len(), weights.floats, weights.others), (2, 6, 8));
        write("model.safetensors.index.json", index("../one.safetensors").as_bytes());
        assert!(Weights::find(folder.path()).is_err());
    }

    #[test]
    fn hostile_headers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (header, words) in [
            (r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,5]}}"#, "is cut off"),
            (r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[4,0]}}"#, "broken header at `a`"),
            (r#"{"a":{"dtype":"F16","shape":[-2],"data_offsets":[0,4]}}"#, "broken header at `a`"),
            (r#"{"a":"#, "broken header"),
        ] {
            fs::write(folder.path().join("model.safetensors"), safetensors(header, 4)).unwrap();
            let refused = Weights::find(folder.path());
            assert!(matches!(&refused, Err(EngineError::Load(text)) if text.contains(words)), "{refused:?}");
        }
    }
}
