//! Vocabularies of merged pairs: of bytes, and of characters as SentencePiece has them.

use std::collections::HashMap;

use super::file::{TokenizerFile, steps};
use super::{Kind, Token, Vocabulary, bad, by_id, byte_token, pre};
use crate::create::CreateError;

/// A score below that of any piece that can be merged.
const NEVER: f32 = -1e9;

pub(super) fn byte_level(file: &TokenizerFile) -> Result<Vocabulary, CreateError> {
    let mut merges = Vec::with_capacity(file.model.merges.len());
    for merge in &file.model.merges {
        match merge.pieces() {
            Some((one, other)) if !one.contains(' ') && !other.contains(' ') => merges.push(format!("{one} {other}")),
            _ => return bad("`tokenizer.json` has a merge that is not of two pieces".to_owned()),
        }
    }
    let pieces = file.pieces()?.into_iter().map(|(text, id)| (id, Token::new(text, Kind::Normal, 0.0)));
    Ok(Vocabulary {
        model: "gpt2",
        pre: pre::name(&file.pre_tokenizer, file.model.ignore_merges)?,
        tokens: by_id(pieces)?,
        merges,
        flags: Vec::new(),
        around: None,
    })
}

/// SentencePiece's vocabulary without its own file: the order of the merges tells the scores.
pub(super) fn with_scores(file: &TokenizerFile) -> Result<Vocabulary, CreateError> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    for (rank, merge) in file.model.merges.iter().enumerate() {
        let Some((one, other)) = merge.pieces() else {
            return bad("`tokenizer.json` has a merge that is not of two pieces".to_owned());
        };
        ranks.entry(format!("{one}{other}")).or_insert(rank);
    }
    let unknown = file.model.unk_token.as_deref();
    let bytes: Vec<String> = (0..=255).map(byte_token).collect();
    let token = |text: String| {
        let (kind, score) = match () {
            () if Some(text.as_str()) == unknown => (Kind::Unknown, 0.0),
            () if text.len() == 6 && bytes.contains(&text) => (Kind::Byte, 0.0),
            () => (Kind::Normal, ranks.get(&text).map_or(NEVER, |rank| -(*rank as f32))),
        };
        Token::new(text, kind, score)
    };
    let pieces = file.pieces()?.into_iter().map(|(text, id)| (id, token(text)));
    let prefix = puts_a_space_first(file);
    let flags = vec![("add_space_prefix", prefix)];
    Ok(Vocabulary { model: "llama", pre: "default", tokens: by_id(pieces)?, merges: Vec::new(), flags, around: None })
}

fn puts_a_space_first(file: &TokenizerFile) -> bool {
    let normalizer = steps(&file.normalizer).iter().any(|step| step["type"] == "Prepend");
    let pre_tokenizer = steps(&file.pre_tokenizer).iter().any(|step| {
        let scheme = step["prepend_scheme"].as_str().unwrap_or(match step["add_prefix_space"].as_bool() {
            Some(false) => "never",
            _ => "always",
        });
        step["type"] == "Metaspace" && scheme != "never"
    });
    normalizer || pre_tokenizer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(value: serde_json::Value) -> TokenizerFile {
        serde_json::from_str(&value.to_string()).unwrap()
    }

    #[test]
    fn merges_become_scores() {
        let file = file(json!({
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
            "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
                      "vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "b": 3, "ab": 4, "abb": 5, "bb": 6},
                      "merges": ["a b", "ab b", ["a", "bb"]]},
        }));
        let vocabulary = with_scores(&file).unwrap();
        let seen: Vec<_> = vocabulary.tokens.iter().flatten().map(|token| (token.kind, token.score)).collect();
        let (normal, never) = (Kind::Normal, NEVER);
        assert_eq!(
            seen,
            [
                (Kind::Unknown, 0.0),
                (Kind::Byte, 0.0),
                (normal, never),
                (normal, never),
                (normal, 0.0),
                (normal, -1.0),
                (normal, never)
            ]
        );
        assert_eq!(vocabulary.flags, [("add_space_prefix", true)]);
    }
}
