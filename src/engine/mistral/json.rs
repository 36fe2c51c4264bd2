//! The JSON files of a model's folder, and how what is wrong with one is said.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::engine::event::EngineError;

/// A configuration of more bytes than this is refused; tokenizers come to tens of megabytes.
const LONGEST_JSON: u64 = 256 << 20;

/// The JSON object in `folder`'s file `name`.
///
/// # Errors
/// When there is none.
pub fn read_json(folder: &Path, name: &str) -> Result<Value, EngineError> {
    let file = File::open(folder.join(name)).map_err(|error| refuse(format!("cannot read `{name}`: {error}")))?;
    let value: Value = serde_json::from_reader(BufReader::new(file.take(LONGEST_JSON)))
        .map_err(|error| refuse(format!("`{name}` is broken: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(refuse(format!("`{name}` holds no object"))) }
}

pub fn refuse(message: impl Into<String>) -> EngineError {
    EngineError::Load(message.into())
}
