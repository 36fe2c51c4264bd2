//! A folder's `tokenizer.json`: text to tokens by the tokenizers crate, and each token's bytes read from the vocabulary.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::folder::Folder;
use super::json::{read_json, refuse};
use crate::engine::event::EngineError;
use crate::engine::request::PromptPart;
use crate::engine::tokens::{Piece, Tokens};

/// A vocabulary's ids end before this; the largest known are a tenth of it.
const MOST_TOKENS: u32 = 1 << 22;

/// Tokens that end a turn in the chat formats of the field, for folders whose files name only the end of a text.
const ENDS: [&str; 6] = ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"];

/// Turns text into tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What it puts before a text by itself, and behind it.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl Tokenizer {
    /// The tokenizer and the tokens it knows.
    ///
    /// # Errors
    /// When the folder has none, or a text model's does not say where an answer ends.
    pub fn open(folder: &Folder, embedding: bool) -> Result<(Self, Tokens), EngineError> {
        let json = read_json(&folder.path, "tokenizer.json")?;
        let broken = |error: &dyn std::fmt::Display| refuse(format!("`tokenizer.json` is broken: {error}"));
        let text = serde_json::to_string(&json).map_err(|error| broken(&error))?;
        let mut inner: tokenizers::Tokenizer = text.parse().map_err(|error| broken(&error))?;
        inner.with_padding(None).with_truncation(None).map_err(|error| broken(&error))?;

        let pieces = pieces(&inner, has_byte_level(&json["decoder"])).map_err(|error| broken(&error))?;
        let ends = ends(folder, &inner);
        if ends.is_empty() && !embedding {
            return Err(refuse("the model's folder does not say which token ends an answer"));
        }
        let mut tokenizer = Self { inner, prefix: Vec::new(), suffix: Vec::new() };
        let (bare, whole) = (tokenizer.encode("a", false)?, tokenizer.encode("a", true)?);
        if let Some(at) = whole.windows(bare.len().max(1)).position(|window| window == bare) {
            tokenizer.prefix = whole[..at].to_vec();
            tokenizer.suffix = whole[at + bare.len()..].to_vec();
        }
        Ok((tokenizer, Tokens::new(pieces, ends)))
    }

    pub fn prefix(&self) -> &[u32] {
        &self.prefix
    }

    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, EngineError> {
        let encoding = self.inner.encode_fast(text, add_special);
        encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// A prompt's tokens. What the tokenizer puts before a text stands at the front, unless the prompt has it already.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when the prompt holds something else than text.
    pub fn prompt(&self, parts: &[PromptPart], tokens: &Tokens) -> Result<Vec<u32>, EngineError> {
        let mut prompt = Vec::new();
        for part in parts {
            match part {
                PromptPart::Text(text) => prompt.extend(self.encode(text, false)?),
                PromptPart::Tokens(given) => prompt.extend_from_slice(given),
                PromptPart::Media(_) => return Err(EngineError::Invalid("this model takes no images or audio".into())),
            }
        }
        if let Some(unknown) = prompt.iter().find(|&&token| token as usize >= tokens.count()) {
            return Err(EngineError::Invalid(format!("the model has no token {unknown}")));
        }
        if !prompt.starts_with(&self.prefix) {
            prompt.splice(0..0, self.prefix.iter().copied());
        }
        Ok(prompt)
    }

    /// A text's tokens for an embedding, of which there may be `limit`.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there are more, and cutting is not allowed or leaves nothing of the text.
    pub fn input(&self, text: &str, truncate: bool, limit: usize) -> Result<Vec<u32>, EngineError> {
        let invalid = |text: &str| EngineError::Invalid(text.into());
        let mut tokens = self.encode(text, true)?;
        if tokens.len() <= limit {
            return Ok(tokens);
        }
        if !truncate {
            return Err(invalid("the input length exceeds the context length"));
        }
        if limit <= self.prefix.len() + self.suffix.len() {
            return Err(invalid("input after truncation exceeds maximum context length"));
        }
        tokens.truncate(limit - self.suffix.len());
        tokens.extend_from_slice(&self.suffix);
        Ok(tokens)
    }
}

/// Each token's bytes, in the order of ids.
fn pieces(tokenizer: &tokenizers::Tokenizer, byte_level: bool) -> Result<Vec<Piece>, String> {
    let vocabulary = tokenizer.get_vocab(true);
    let last = vocabulary.values().copied().max().ok_or("it has no tokens")?;
    if last >= MOST_TOKENS {
        return Err(format!("it has a token {last}"));
    }
    let bytes = byte_level.then(byte_level_bytes);
    let mut pieces = vec![Piece::default(); last as usize + 1];
    for (text, id) in vocabulary {
        pieces[id as usize].bytes = match &bytes {
            Some(bytes) => text.chars().map(|character| bytes.get(&character).copied()).collect(),
            None => fallback_byte(&text).map(|byte| vec![byte]),
        }
        .unwrap_or_else(|| if byte_level { text.into_bytes() } else { text.replace('▁', " ").into_bytes() });
    }
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        if let Some(piece) = pieces.get_mut(id as usize) {
            *piece = Piece { bytes: token.content.into_bytes(), special: token.special };
        }
    }
    Ok(pieces)
}

/// The byte that `<0x0A>` and its like stand for.
fn fallback_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 2)
}

/// How byte-level vocabularies write bytes: printable ones as themselves, the others as the characters from U+0100 on.
fn byte_level_bytes() -> HashMap<char, u8> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX)
        .filter_map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => Some((char::from(byte), byte)),
            _ => others.next().map(|character| (character, byte)),
        })
        .collect()
}

/// Whether a decoder, or one it is made of, is the byte-level one.
fn has_byte_level(decoder: &Value) -> bool {
    let inner = decoder["decoders"].as_array();
    decoder["type"] == "ByteLevel" || inner.is_some_and(|inner| inner.iter().any(has_byte_level))
}

/// Tokens that end an answer: those the folder's files name, the usual one first, then those known by their text.
fn ends(folder: &Folder, tokenizer: &tokenizers::Tokenizer) -> Vec<u32> {
    let mut ends = Vec::new();
    let generation = read_json(&folder.path, "generation_config.json").unwrap_or_default();
    for config in [&generation, &folder.config, &folder.config["text_config"]] {
        match &config["eos_token_id"] {
            Value::Array(ids) => ends.extend(ids.iter().filter_map(Value::as_u64)),
            id => ends.extend(id.as_u64()),
        }
    }
    let config = read_json(&folder.path, "tokenizer_config.json").unwrap_or_default();
    let named = [&config["eos_token"], &config["eos_token"]["content"]].into_iter().find_map(Value::as_str);
    let special: BTreeSet<u32> =
        tokenizer.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
    let known = ENDS.iter().filter_map(|text| tokenizer.token_to_id(text)).filter(|id| special.contains(id));
    let ends = ends.into_iter().filter_map(|id| u32::try_from(id).ok());
    let mut unique = Vec::new();
    for id in ends.chain(named.and_then(|text| tokenizer.token_to_id(text))).chain(known) {
        if tokenizer.id_to_token(id).is_some() && !unique.contains(&id) {
            unique.push(id);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use mistralrs::NormalLoaderType;

    use super::*;
    use crate::engine::mistral::folder::Family;
    use crate::engine::mistral::weights::Weights;

    /// A tokenizer of single characters that puts `<s>` before a text and `</s>` behind it.
    fn tokenizer() -> (Tokenizer, Tokens) {
        let folder = tempfile::tempdir().unwrap();
        let special = |id: u32, content: &str, special: bool| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        };
        let around = |id: &str| serde_json::json!({"SpecialToken": {"id": id, "type_id": 0}});
        let json = serde_json::json!({
            "version": "1.0",
            "added_tokens": [special(0, "<s>", true), special(1, "</s>", true), special(2, "<call>", false)],
            "post_processor": {"type": "TemplateProcessing",
                "single": [around("<s>"), {"Sequence": {"id": "A", "type_id": 0}}, around("</s>")], "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                    "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "<call>": 2, "▁": 3, "a": 4, "b": 5, "<0x0A>": 6,
                "▁a": 7}, "merges": ["▁ a"], "byte_fallback": true}
        });
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "</s>"}}"#).unwrap();
        let folder = Folder {
            path: folder.path().to_owned(),
            family: Family::Text(NormalLoaderType::Llama),
            config: serde_json::json!({"eos_token_id": [1, 99]}),
            weights: Weights { files: Vec::new(), floats: 0, others: 0 },
        };
        Tokenizer::open(&folder, false).unwrap()
    }

    #[test]
    fn pieces_are_the_bytes_of_text() {
        let (_, tokens) = tokenizer();
        assert_eq!((tokens.count(), tokens.ends()), (8, &[1][..]));
        assert_eq!((tokens.bytes(7), tokens.bytes(6), tokens.bytes(2)), (&b" a"[..], &b"\n"[..], &b"<call>"[..]));
        assert!(tokens.is_special(0) && !tokens.is_special(2));
        let bytes = byte_level_bytes();
        assert_eq!(
            (bytes.len(), bytes[&'Ġ'], bytes[&'Ċ'], bytes[&'!'], bytes[&'\u{143}']),
            (256, b' ', b'\n', b'!', 0xAD)
        );
    }

    #[test]
    fn a_prompt_begins_once_and_does_not_end() {
        let (tokenizer, tokens) = tokenizer();
        assert_eq!((tokenizer.prefix.as_slice(), tokenizer.suffix.as_slice()), (&[0][..], &[1][..]));
        let prompt = |text: &str| tokenizer.prompt(&[PromptPart::Text(text.into())], &tokens).unwrap();
        assert_eq!(prompt("ab<call>"), [0, 4, 5, 2]);
        assert_eq!(prompt("<s>ab"), [0, 4, 5]);
        let unknown = tokenizer.prompt(&[PromptPart::Tokens(vec![4, 8])], &tokens);
        assert_eq!(unknown, Err(EngineError::Invalid("the model has no token 8".into())));
    }

    #[test]
    fn an_input_that_is_cut_keeps_its_ends() {
        let (tokenizer, _) = tokenizer();
        assert_eq!(tokenizer.input("abab", true, 6).unwrap(), [0, 4, 5, 4, 5, 1]);
        assert_eq!(tokenizer.input("abab", true, 4).unwrap(), [0, 4, 5, 1]);
        assert!(tokenizer.input("abab", true, 2).is_err() && tokenizer.input("abab", false, 5).is_err());
    }
}
