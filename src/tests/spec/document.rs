//! The documents as JSON, places in them, and the references between them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

pub const NAMES: [&str; 4] = ["ollama.yaml", "openai.yaml", "anthropic.yaml", "hanzod.yaml"];
const SCHEME: &str = "spec:///";

/// The documents by their names.
#[derive(Clone, Debug)]
pub struct Documents(BTreeMap<String, Value>);

/// A document's name and a JSON pointer into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub document: String,
    pub pointer: String,
}

impl Place {
    pub fn new(document: &str, pointer: &str) -> Self {
        Self { document: document.into(), pointer: pointer.into() }
    }

    pub fn child(&self, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self { document: self.document.clone(), pointer: format!("{}/{key}", self.pointer) }
    }

    pub fn url(&self) -> String {
        format!("{SCHEME}{}#{}", self.document, self.pointer)
    }

    /// Where a reference that stands here leads.
    pub fn refer(&self, reference: &str) -> Self {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let document = if file.is_empty() { &self.document } else { file };
        Self::new(document, pointer)
    }
}

impl Documents {
    pub fn load() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("api-spec");
        let mut documents = BTreeMap::new();
        for name in NAMES {
            let text = std::fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))?;
            let value = serde_yaml_ng::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
            documents.insert(name.to_owned(), value);
        }
        Ok(Self(documents))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn get(&self, place: &Place) -> Option<&Value> {
        self.0.get(&place.document)?.pointer(&place.pointer)
    }

    /// What stands at a place or where the reference there leads, and that place.
    pub fn follow(&self, place: Place) -> Result<(&Value, Place), String> {
        let value = self.get(&place).ok_or_else(|| format!("nothing at {}", place.url()))?;
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.follow(place.refer(reference)),
            None => Ok((value, place)),
        }
    }
}

/// Schemas refer to each other's documents by URL.
impl boon::UrlLoader for Documents {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let document = url.strip_prefix(SCHEME).and_then(|name| self.0.get(name));
        document.cloned().ok_or_else(|| format!("no document {url}").into())
    }
}
