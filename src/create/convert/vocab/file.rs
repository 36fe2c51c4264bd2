//! `tokenizer.json`, as far as it is asked, and the tokens that stand in other files beside it.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Folder, bad};
use crate::create::CreateError;

#[derive(Deserialize)]
pub(super) struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) decoder: Value,
    #[serde(default)]
    post_processor: Value,
    pub(super) model: Model,
}

/// A token that was added to a vocabulary.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
}

#[derive(Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(default)]
    pub(super) unk_token: Option<String>,
    #[serde(default)]
    pub(super) continuing_subword_prefix: Option<String>,
    /// What it looks like depends on the kind.
    vocab: Box<RawValue>,
    #[serde(default)]
    pub(super) merges: Vec<Merge>,
}

/// Two pieces that become one: older files have them in one text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    /// Both pieces; `None` for a text that is not two.
    pub(super) fn pieces(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(one, other) => Some((one, other)),
            Self::Text(text) => text.split_once(' '),
        }
    }
}

impl TokenizerFile {
    pub(super) fn kind(&self) -> &str {
        // files of long ago do not tell theirs
        let untold = if self.model.merges.is_empty() { "untold" } else { "BPE" };
        self.model.kind.as_deref().unwrap_or(untold)
    }

    /// Whether text is taken as bytes, each shown as a letter.
    pub(super) fn is_byte_level(&self) -> bool {
        [&self.pre_tokenizer, &self.decoder]
            .into_iter()
            .any(|it| steps(it).iter().any(|step| step["type"] == "ByteLevel"))
    }

    /// Pieces and their ids.
    pub(super) fn pieces(&self) -> Result<HashMap<String, u64>, CreateError> {
        let pieces = serde_json::from_str(self.model.vocab.get());
        pieces.map_err(|error| CreateError::Files(format!("the vocabulary in `tokenizer.json` is broken: {error}")))
    }

    /// The tokens that are put first and last around a text.
    pub(super) fn around(&self) -> (Option<u64>, Option<u64>) {
        let inner = self.post_processor["processors"].as_array();
        let mut all = inner.into_iter().flatten().chain([&self.post_processor]);
        let Some(template) = all.find(|step| step["type"] == "TemplateProcessing") else { return (None, None) };
        let id = |piece: Option<&Value>| {
            let name = piece?["SpecialToken"]["id"].as_str()?;
            template["special_tokens"][name]["ids"][0].as_u64()
        };
        let pieces = template["single"].as_array();
        (id(pieces.and_then(|all| all.first())), id(pieces.and_then(|all| all.last())))
    }

    pub(super) fn is_special(&self, piece: &str) -> bool {
        self.added_tokens.iter().any(|added| added.special && added.content == piece)
    }
}

/// The steps of a normalizer or a pre-tokenizer: itself, or those of a sequence.
pub(super) fn steps(value: &Value) -> Vec<&Value> {
    let inner = ["pretokenizers", "normalizers", "decoders"].into_iter().find_map(|key| value.get(key)?.as_array());
    match inner {
        Some(steps) => steps.iter().collect(),
        None if value.is_null() => Vec::new(),
        None => vec![value],
    }
}

/// Every token that was added, by the files that tell of such, the surest last.
pub(super) fn added(folder: Folder<'_>, file: Option<&TokenizerFile>) -> Result<Vec<Added>, CreateError> {
    let mut all: BTreeMap<u64, Added> = BTreeMap::new();
    if let Some(Value::Object(tokens)) = folder.json("added_tokens.json")? {
        let tokens =
            tokens.into_iter().filter_map(|(content, id)| Some(Added { id: id.as_u64()?, content, special: false }));
        all.extend(tokens.map(|added| (added.id, added)));
    }
    let settings = folder.json("tokenizer_config.json")?.unwrap_or_default();
    for (id, token) in settings["added_tokens_decoder"].as_object().into_iter().flatten() {
        let (Ok(id), Some(content)) = (id.parse::<u64>(), token["content"].as_str()) else {
            return bad(format!("`tokenizer_config.json` has a broken token {id}"));
        };
        let special = token["special"].as_bool().unwrap_or(false);
        all.insert(id, Added { id, content: content.to_owned(), special });
    }
    all.extend(file.into_iter().flat_map(|file| &file.added_tokens).map(|added| (added.id, added.clone())));
    Ok(all.into_values().collect())
}
