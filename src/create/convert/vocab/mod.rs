//! The tokenizer: its vocabulary, its rules and its special tokens, as llama.cpp wants to be told of them.

mod bpe;
mod file;
mod pre;
mod sentencepiece;
mod special;
mod wordpiece;

use std::collections::{HashMap, HashSet};

#[cfg(test)]
pub(super) use sentencepiece::tests::pieces;
use serde_json::Value;

use super::folder::Folder;
use crate::create::CreateError;
use crate::create::safetensors::bad;
use crate::gguf::GgufWriter;
use file::TokenizerFile;

/// Tokens; the largest vocabularies have some 260 thousand.
const MOST: u64 = 4 << 20;

/// What a token is; the numbers are GGUF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    text: String,
    kind: Kind,
    /// The higher, the sooner it is merged, where scores tell.
    score: f32,
}

impl Token {
    fn new(text: impl Into<String>, kind: Kind, score: f32) -> Self {
        Self { text: text.into(), kind, score }
    }
}

/// Pieces of text by their ids, with gaps where a vocabulary has them.
type Tokens = Vec<Option<Token>>;

#[derive(Debug)]
pub(super) struct Vocabulary {
    /// `tokenizer.ggml.model`
    model: &'static str,
    /// `tokenizer.ggml.pre`: how text is cut before anything is merged.
    pre: &'static str,
    tokens: Tokens,
    merges: Vec<String>,
    /// Settings that are the model's own, by their keys.
    flags: Vec<(&'static str, bool)>,
    /// The ids that `tokenizer.json` puts first and last around a text; `None` without such a file.
    around: Option<(Option<u64>, Option<u64>)>,
}

impl Vocabulary {
    /// Reads it out of the folder's files. `rows` is how many tokens the weights know.
    pub(super) fn read(folder: Folder<'_>, rows: u64) -> Result<Self, CreateError> {
        let file: Option<TokenizerFile> = folder.parse("tokenizer.json")?;
        let mut vocabulary = match &file {
            None => Self::of_model_file(folder, "there is neither a `tokenizer.json` nor a `tokenizer.model`")?,
            Some(file) => match file.kind() {
                "BPE" if file.is_byte_level() => bpe::byte_level(file)?,
                "BPE" if file.model.byte_fallback && folder.has("tokenizer.model") => {
                    Self::of_model_file(folder, "`tokenizer.model` is missing")?
                }
                "BPE" if file.model.byte_fallback => bpe::with_scores(file)?,
                "BPE" => return bad("a BPE tokenizer that knows no bytes cannot be converted to GGUF".to_owned()),
                "WordPiece" => wordpiece::read(file)?,
                other => return bad(format!("the tokenizer model {other:?} cannot be converted to GGUF")),
            },
        };
        vocabulary.around = file.as_ref().map(TokenizerFile::around);
        let known = vocabulary.tokens.len() as u64;
        if rows > MOST {
            return bad(format!("the weights are for {rows} tokens, more than the {MOST} that are allowed"));
        }
        if known > rows {
            return bad(format!("the tokenizer has {known} tokens, but the weights are for {rows}"));
        }
        let rows = rows as usize;
        for added in file::added(folder, file.as_ref())? {
            vocabulary.add(added, rows);
        }
        vocabulary.fill(rows);
        if vocabulary.model == "llama" {
            vocabulary.check_bytes()?;
        }
        Ok(vocabulary)
    }

    fn of_model_file(folder: Folder<'_>, missing: &str) -> Result<Self, CreateError> {
        match folder.bytes("tokenizer.model")? {
            Some(bytes) => sentencepiece::read(&bytes),
            None => bad(missing.to_owned()),
        }
    }

    /// Puts a token in its place that was added when the others stood. One that the weights do not know is of no use.
    fn add(&mut self, added: file::Added, rows: usize) {
        let Some(id) = usize::try_from(added.id).ok().filter(|id| *id < rows) else { return };
        if self.tokens.len() <= id {
            self.tokens.resize(id + 1, None);
        }
        let kept = [Kind::Unknown, Kind::Control, Kind::Byte];
        let there = self.tokens[id].as_ref();
        if there.is_some_and(|token| token.text == added.content && kept.contains(&token.kind)) {
            return;
        }
        let kind = if added.special { Kind::Control } else { Kind::UserDefined };
        // what users define is found in the text as it stands there
        let text = match (self.model, kind) {
            ("llama", Kind::UserDefined) => added.content.replace('\u{2581}', " "),
            _ => added.content,
        };
        let score = there.map_or(-1000.0, |token| token.score);
        self.tokens[id] = Some(Token::new(text, kind, score));
    }

    /// Gives every row of the weights a token, and none the text of another, which llama.cpp takes for a fault.
    fn fill(&mut self, rows: usize) {
        self.tokens.resize(rows, None);
        let mut texts: HashSet<String> = HashSet::new();
        let mut free = Vec::new();
        for (id, place) in self.tokens.iter_mut().enumerate() {
            match place {
                Some(token) if !token.text.is_empty() && texts.insert(token.text.clone()) => {}
                _ => free.push(id),
            }
        }
        for id in free {
            let mut text = format!("[PAD{id}]");
            while !texts.insert(text.clone()) {
                text.push('_');
            }
            self.tokens[id] = Some(Token::new(text, Kind::Unused, -1000.0));
        }
    }

    /// What is no token is spelled byte by byte, so there must be one for each.
    fn check_bytes(&self) -> Result<(), CreateError> {
        let known: HashSet<&str> = self.tokens.iter().flatten().map(|token| token.text.as_str()).collect();
        match (0..=255_u8).find(|byte| !known.contains(byte_token(*byte).as_str())) {
            Some(byte) => bad(format!("the tokenizer has no token {}", byte_token(byte))),
            None => Ok(()),
        }
    }

    pub(super) fn write(&self, folder: Folder<'_>, config: &Value, writer: &mut GgufWriter) -> Result<(), CreateError> {
        let tokens: Vec<&Token> = self.tokens.iter().flatten().collect();
        let texts: Vec<String> = tokens.iter().map(|token| token.text.clone()).collect();
        let kinds: Vec<i32> = tokens.iter().map(|token| token.kind as i32).collect();
        writer.set("tokenizer.ggml.model", self.model);
        writer.set("tokenizer.ggml.pre", self.pre);
        writer.set("tokenizer.ggml.tokens", &texts[..]);
        if self.model == "llama" {
            let scores: Vec<f32> = tokens.iter().map(|token| token.score).collect();
            writer.set("tokenizer.ggml.scores", &scores[..]);
        }
        writer.set("tokenizer.ggml.token_type", &kinds[..]);
        if self.model == "gpt2" {
            writer.set("tokenizer.ggml.merges", &self.merges[..]);
        }
        let ids: HashMap<&str, u32> = texts.iter().map(String::as_str).zip(0..).collect();
        special::write(folder, config, self, &ids, writer)?;
        self.flags.iter().for_each(|(key, flag)| writer.set(&format!("tokenizer.ggml.{key}"), flag));
        Ok(())
    }
}

/// The text of the token for a byte.
fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// Puts pieces in the places that their ids say.
fn by_id(pieces: impl IntoIterator<Item = (u64, Token)>) -> Result<Tokens, CreateError> {
    let pieces: Vec<(u64, Token)> = pieces.into_iter().collect();
    // gaps are few in any real vocabulary
    let most = 2 * pieces.len() as u64 + 1024;
    let mut tokens = Tokens::new();
    for (id, token) in pieces {
        if id >= most {
            return bad(format!("the tokenizer's ids have gaps too wide: there is a token {id}"));
        }
        let id = id as usize;
        if tokens.len() <= id {
            tokens.resize(id + 1, None);
        }
        tokens[id] = Some(token);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::convert::vocab::file::Added;

    #[test]
    fn every_row_has_a_token_of_its_own() {
        let token = |text: &str| Some(Token::new(text, Kind::Normal, 0.0));
        let tokens = vec![token("a"), None, token("a"), token("[PAD1]"), token("")];
        let mut vocabulary =
            Vocabulary { model: "gpt2", pre: "gpt-2", tokens, merges: Vec::new(), flags: Vec::new(), around: None };
        for (id, special) in [(5, true), (6, false), (99, true), (u64::MAX, true)] {
            vocabulary.add(Added { id, content: format!("<{id}>"), special }, 8);
        }
        vocabulary.fill(8);
        let seen: Vec<_> = vocabulary.tokens.iter().flatten().map(|token| (token.text.as_str(), token.kind)).collect();
        assert_eq!(
            seen,
            [
                ("a", Kind::Normal),
                ("[PAD1]_", Kind::Unused),
                ("[PAD2]", Kind::Unused),
                ("[PAD1]", Kind::Normal),
                ("[PAD4]", Kind::Unused),
                ("<5>", Kind::Control),
                ("<6>", Kind::UserDefined),
                ("[PAD7]", Kind::Unused),
            ]
        );
        assert!(by_id([(1_u64 << 40, Token::new("a", Kind::Normal, 0.0))]).is_err());
    }
}
