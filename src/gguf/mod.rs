//! The GGUF file format: a reader of our own that trusts nothing it reads, and a writer.
//!
//! Every GGUF passes here before an engine sees it. Big arrays (vocabularies) stay in the file until someone asks.

mod error;
mod file_type;
mod header;
mod metadata;
mod source;
mod tensor;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use error::GgufError;
pub use file_type::{FileType, Making, file_type_name, parameter_size};
pub use metadata::{GgufKind, Metadata};
pub use tensor::{Tensor, TensorType};
pub use value::{Array, Elements, Value, ValueType};
pub use write::{Field, GgufWriter};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use header::Header;

/// A GGUF file whose header was read and holds together: every tensor lies inside the file and on no other.
#[derive(Clone, Debug)]
pub struct Gguf {
    path: PathBuf,
    header: Header,
}

impl Gguf {
    /// # Errors
    /// [`GgufError`] when the file cannot be read or is not a whole, sound GGUF file.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let header = Header::read(open_file(path)?)?;
        Ok(Self { path: path.to_owned(), header })
    }

    /// Reads only the metadata, which is enough for lists. The tensors are not looked at.
    ///
    /// # Errors
    /// As [`Gguf::open`], as far as the file is read.
    pub fn peek(path: &Path) -> Result<Metadata, GgufError> {
        Header::peek(open_file(path)?)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn version(&self) -> u32 {
        self.header.version
    }

    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// In the file's order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.header.tensors
    }

    /// Where the tensors' data begins in the file.
    pub fn data_offset(&self) -> u64 {
        self.header.data
    }

    /// Numbers in all tensors.
    pub fn parameter_count(&self) -> u64 {
        self.tensors().iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements()))
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata().get(key)
    }

    pub fn architecture(&self) -> &str {
        self.metadata().architecture()
    }

    /// The value of `<architecture>.<key>`, an integer that is not negative.
    pub fn arch_u64(&self, key: &str) -> Option<u64> {
        self.metadata().arch_u64(key)
    }

    pub fn file_type(&self) -> &'static str {
        self.metadata().file_type()
    }

    pub fn chat_template(&self) -> Option<&str> {
        self.metadata().chat_template()
    }

    /// Reads the elements of an array of this file's metadata.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn elements(&self, array: &Array) -> Result<Elements, GgufError> {
        array.read(open_file(&self.path)?)
    }

    /// The text of a token; `None` when the vocabulary has no such token.
    ///
    /// # Errors
    /// As [`Gguf::elements`].
    pub fn token(&self, id: u64) -> Result<Option<String>, GgufError> {
        match self.get("tokenizer.ggml.tokens").and_then(Value::as_array) {
            Some(tokens) => tokens.string(open_file(&self.path)?, id),
            None => Ok(None),
        }
    }

    /// The text of the token that begins a sequence.
    ///
    /// # Errors
    /// As [`Gguf::elements`].
    pub fn bos_token(&self) -> Result<Option<String>, GgufError> {
        self.token_named("tokenizer.ggml.bos_token_id")
    }

    /// The text of the token that ends a sequence.
    ///
    /// # Errors
    /// As [`Gguf::elements`].
    pub fn eos_token(&self) -> Result<Option<String>, GgufError> {
        self.token_named("tokenizer.ggml.eos_token_id")
    }

    /// The text of the token that ends a turn.
    ///
    /// # Errors
    /// As [`Gguf::elements`].
    pub fn eot_token(&self) -> Result<Option<String>, GgufError> {
        self.token_named("tokenizer.ggml.eot_token_id")
    }

    fn token_named(&self, key: &str) -> Result<Option<String>, GgufError> {
        self.metadata().u64(key).map_or(Ok(None), |id| self.token(id))
    }
}

/// Opens a plain file: reading a pipe or a device might never end.
fn open_file(path: &Path) -> Result<File, GgufError> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
    }
    Ok(File::open(path)?)
}
