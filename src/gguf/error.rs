//! Why a file is no GGUF file that can be used.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file does not begin as a GGUF file does.
    #[error("not a GGUF file")]
    Magic,
    #[error("big-endian GGUF files are not supported")]
    BigEndian,
    #[error("GGUF version {0} is not supported, only 2 and 3 are")]
    Version(u32),
    #[error("GGUF file is cut short: it ends inside {what} at byte {at}")]
    Truncated { what: &'static str, at: u64 },
    #[error("GGUF file has {what} of {have}, more than the {most} that are allowed")]
    TooLarge { what: &'static str, have: u64, most: u64 },
    #[error("GGUF file has {0} that is not UTF-8")]
    NotUtf8(&'static str),
    #[error("GGUF metadata has `{}` twice", shown(.0))]
    DuplicateKey(String),
    #[error("GGUF metadata `{}` has the unknown value type {id}", shown(.key))]
    ValueType { key: String, id: u32 },
    #[error("GGUF metadata `{}` is an array of arrays, which is not supported", shown(.0))]
    NestedArray(String),
    #[error("GGUF metadata `{0}` is missing")]
    Missing(&'static str),
    #[error("GGUF alignment must be a power of two from 8 to 65536")]
    Alignment,
    #[error("GGUF file has tensor `{}` twice", shown(.0))]
    DuplicateTensor(String),
    #[error("tensor `{}` has the unknown type {id}", shown(.name))]
    TensorType { name: String, id: u32 },
    #[error("tensor `{}` {problem}", shown(.name))]
    Tensor { name: String, problem: &'static str },
}

/// A name out of a file, fit for a message: names may be long and hold anything.
fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if name.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

impl GgufError {
    /// Whether the file is at fault; else it could not be read.
    pub fn is_bad_file(&self) -> bool {
        !matches!(self, Self::Io(_))
    }
}
