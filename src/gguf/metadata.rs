//! The keys and values at the head of a GGUF file, in the file's order.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::file_type::file_type_name;
use super::source::Source;
use super::{GgufError, Value};

/// Bytes of a key, as the format has it.
const KEY: u64 = 65_535;

#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    /// Where each key is in `entries`.
    places: HashMap<String, usize>,
}

/// What a GGUF file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufKind {
    Model,
    /// A LoRA.
    Adapter,
    /// The part that turns images or sounds into embeddings.
    Projector,
}

impl Metadata {
    pub(super) fn read<R: Read + Seek>(source: &mut Source<R>, count: u64) -> Result<Self, GgufError> {
        let mut metadata = Self::default();
        for _ in 0..count {
            let key = source.string("a metadata key", KEY)?;
            let key = String::from_utf8(key).map_err(|_| GgufError::NotUtf8("a metadata key"))?;
            let value = Value::read(source, &key)?;
            if metadata.places.insert(key.clone(), metadata.entries.len()).is_some() {
                return Err(GgufError::DuplicateKey(key));
            }
            metadata.entries.push((key, value));
        }
        Ok(metadata)
    }

    /// In the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.places.get(key).map(|place| &self.entries[*place].1)
    }

    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    pub fn f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    pub fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// `general.architecture`; `unknown` without one.
    pub fn architecture(&self) -> &str {
        self.str("general.architecture").unwrap_or("unknown")
    }

    /// The value of `<architecture>.<key>`.
    pub fn arch(&self, key: &str) -> Option<&Value> {
        self.get(&format!("{}.{key}", self.architecture()))
    }

    /// The value of `<architecture>.<key>`, an integer that is not negative.
    pub fn arch_u64(&self, key: &str) -> Option<u64> {
        self.arch(key)?.as_u64()
    }

    /// The name of `general.file_type`; `unknown` without one.
    pub fn file_type(&self) -> &'static str {
        self.u64("general.file_type").map_or("unknown", file_type_name)
    }

    /// The model's own chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.str("tokenizer.chat_template")
    }

    pub fn kind(&self) -> GgufKind {
        match self.str("general.type") {
            Some("adapter") => GgufKind::Adapter,
            Some("projector" | "mmproj") => GgufKind::Projector,
            _ if self.architecture() == "clip" => GgufKind::Projector,
            _ if self.arch("block_count").is_none() && self.arch("vision.block_count").is_some() => GgufKind::Projector,
            _ => GgufKind::Model,
        }
    }

    /// Which part of a split model this file is, from zero, and of how many.
    pub fn split(&self) -> Option<(u64, u64)> {
        let count = self.u64("split.count").filter(|count| *count > 1)?;
        Some((self.u64("split.no")?, count))
    }
}
