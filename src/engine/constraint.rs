//! Holds an answer to a JSON schema, by llguidance over the model's own vocabulary.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use super::event::EngineError;
use super::request::Constraint;
use super::tokens::Piece;

/// Blanks between parts of the JSON, as llama.cpp's grammars allow them: a blank, or a line break and what indents.
const WHITESPACE: &str = r"( |\n{1,2}[ \t]{0,20})?";

/// Blanks that may stand between the end of thinking and the JSON, in bytes.
const BLANKS: usize = 8;
/// Parts of a schema that are tried to find the one at fault.
const TRIES: usize = 100;

/// A model's vocabulary as constraints see it; made once a model.
pub struct Vocabulary {
    factory: ParserFactory,
    pieces: Arc<[Piece]>,
}

impl Vocabulary {
    /// `pieces` in the order of ids. No text of an answer can mean a special one.
    ///
    /// # Errors
    /// When llguidance cannot make its tables of it.
    pub fn new(pieces: Arc<[Piece]>, end: u32) -> Result<Self, EngineError> {
        let size =
            u32::try_from(pieces.len()).map_err(|_| EngineError::Failed("the vocabulary is too large".into()))?;
        let text = |piece: &Piece| if piece.special { Vec::new() } else { piece.bytes.clone() };
        let texts: Vec<Vec<u8>> = pieces.iter().map(text).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, end), &texts);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        Ok(Self { factory, pieces })
    }

    /// # Errors
    /// [`EngineError::Invalid`] naming the part of the schema that cannot be compiled.
    pub fn constrain(&self, constraint: &Constraint) -> Result<Constrained, EngineError> {
        let schema: Value = serde_json::from_str(&constraint.schema).map_err(invalid)?;
        let matcher = self.compile(schema.clone()).map_err(|error| {
            let (part, error) = self.culprit(&schema).unwrap_or((String::new(), error));
            let part = if part.is_empty() { part } else { format!("{part}: ") };
            EngineError::Invalid(format!("invalid format: {part}{error}"))
        })?;
        let stage = match &constraint.after {
            Some(text) => Stage::Waiting { text: text.clone().into_bytes(), seen: Vec::new() },
            None => Stage::Beginning { typed: Vec::new() },
        };
        let calls = constraint.calls.iter().map(|call| call.trim_start().as_bytes().to_vec());
        Ok(Constrained {
            matcher,
            stage,
            blanks: if constraint.after.is_some() { BLANKS } else { 0 },
            calls: calls.filter(|call| !call.is_empty()).collect(),
            pieces: self.pieces.clone(),
        })
    }
}

impl Vocabulary {
    /// # Errors
    /// Why the schema cannot be held, in a line.
    fn compile(&self, mut schema: Value) -> Result<Matcher, String> {
        let Some(object) = schema.as_object_mut() else { return Err("a schema must be an object".into()) };
        object.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITESPACE, "coerce_one_of": true }));
        // llguidance cuts the texts of its errors between bytes, which panics within a character.
        let compiled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut matcher = Matcher::new(self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
            match matcher.get_error() {
                Some(error) => Err(line(&error)),
                None => matcher.compute_mask().map(|_| matcher).map_err(|error| line(&error.to_string())),
            }
        }));
        compiled.unwrap_or_else(|_| Err("the schema cannot be compiled".into()))
    }

    /// The smallest part of `schema` that fails by itself, as a JSON pointer, with what is wrong there.
    fn culprit(&self, schema: &Value) -> Option<(String, String)> {
        let mut found = None;
        let mut tries = TRIES;
        let mut path = String::new();
        let mut part = schema;
        'deeper: loop {
            for (step, child) in parts(part) {
                tries = usize::checked_sub(tries, 1)?;
                let mut whole = child.clone();
                for definitions in ["$defs", "definitions"] {
                    if let (Some(whole), Some(named)) = (whole.as_object_mut(), schema.get(definitions)) {
                        whole.entry(definitions).or_insert_with(|| named.clone());
                    }
                }
                if let Err(error) = self.compile(whole) {
                    path += &step;
                    found = Some((path.clone(), error));
                    part = child;
                    continue 'deeper;
                }
            }
            return found;
        }
    }
}

/// The schemas within a schema, with the way to each.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for key in ["properties", "patternProperties", "$defs", "definitions"] {
        let named = schema.get(key).and_then(Value::as_object).into_iter().flatten();
        parts.extend(named.map(|(name, part)| (format!("/{key}/{name}"), part)));
    }
    for key in ["anyOf", "oneOf", "allOf", "prefixItems"] {
        let list = schema.get(key).and_then(Value::as_array).into_iter().flatten();
        parts.extend(list.enumerate().map(|(index, part)| (format!("/{key}/{index}"), part)));
    }
    for key in ["items", "additionalProperties"] {
        parts.extend(schema.get(key).filter(|part| part.is_object()).map(|part| (format!("/{key}"), part)));
    }
    parts
}

/// The first line of what llguidance says, without its inner state.
fn line(error: &str) -> String {
    let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    match first.as_str() {
        "NoExtensionBias" => "nothing fits the schema".into(),
        "regex parse error:" => match lines.find_map(|line| line.strip_prefix("error: ")) {
            Some(error) => format!("the pattern cannot be read: {error}"),
            None => first,
        },
        _ => first,
    }
}

fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(format!("invalid format: {error}"))
}

/// How far an answer under a constraint is.
enum Stage {
    /// The constraint begins after `text`; `seen` is the end of what was generated.
    Waiting { text: Vec<u8>, seen: Vec<u8> },
    /// Nothing of the JSON is there; `typed` is blanks, and perhaps the beginning of a call.
    Beginning { typed: Vec<u8> },
    /// In the JSON.
    Held,
    /// A call has begun, which no schema holds.
    Free,
}

/// One answer under its constraint.
pub struct Constrained {
    matcher: Matcher,
    stage: Stage,
    /// Bytes of blanks before the JSON.
    blanks: usize,
    /// Texts that begin a call.
    calls: Vec<Vec<u8>>,
    pieces: Arc<[Piece]>,
}

impl Constrained {
    /// The tokens that may come next; `None` when any may.
    ///
    /// # Errors
    /// When the grammar has run into its limits.
    pub fn allowed(&mut self) -> Result<Option<SimpleVob>, EngineError> {
        // What can go wrong is that the schema asks for more than the limits allow.
        let failed = |error: anyhow::Error| invalid(line(&error.to_string()));
        let typed = match &self.stage {
            Stage::Waiting { .. } | Stage::Free => return Ok(None),
            Stage::Held => return self.matcher.compute_mask_or_eos().map(Some).map_err(failed),
            Stage::Beginning { typed } => typed.clone(),
        };
        let mut mask = self.matcher.compute_mask_or_eos().map_err(failed)?;
        if !typed.trim_ascii().is_empty() {
            // A call is half written, and nothing else can follow.
            mask.set_all(false);
        }
        if self.blanks > 0 || !self.calls.is_empty() {
            for (token, piece) in (0..).zip(self.pieces.iter()) {
                if self.begins(&typed, &piece.bytes) {
                    mask.allow_token(token);
                }
            }
        }
        Ok(Some(mask))
    }

    /// Whether `piece` may follow what was `typed` before the JSON: as a blank, or as a part of a call's beginning.
    fn begins(&self, typed: &[u8], piece: &[u8]) -> bool {
        let blank = |bytes: &[u8]| bytes.trim_ascii().is_empty();
        if piece.is_empty() {
            return false;
        }
        if blank(typed) && blank(piece) {
            return typed.len() + piece.len() <= self.blanks;
        }
        let whole = [typed, piece].concat();
        let text = whole.trim_ascii_start();
        whole.len() - text.len() <= self.blanks
            && self.calls.iter().any(|call| call.starts_with(text) || text.starts_with(call))
    }

    /// Takes the token that was chosen, with its bytes.
    ///
    /// # Errors
    /// When the token was not one of the allowed ones.
    pub fn accept(&mut self, token: u32, piece: &[u8]) -> Result<(), EngineError> {
        match &mut self.stage {
            Stage::Waiting { text, seen } => {
                seen.extend_from_slice(piece);
                if seen.windows(text.len().max(1)).any(|window| window == text) {
                    self.stage = Stage::Beginning { typed: Vec::new() };
                } else {
                    let keep = text.len().min(seen.len());
                    seen.drain(..seen.len() - keep);
                }
                return Ok(());
            }
            Stage::Beginning { typed } => {
                let whole = [typed, piece].concat();
                let text = whole.trim_ascii_start();
                if self.calls.iter().any(|call| text.starts_with(call)) {
                    self.stage = Stage::Free;
                    return Ok(());
                }
                let half = !typed.trim_ascii().is_empty();
                if half || self.matcher.validate_tokens(&[token]).is_ok_and(|fitting| fitting == 0) {
                    self.stage = Stage::Beginning { typed: whole };
                    return Ok(());
                }
                self.stage = Stage::Held;
            }
            Stage::Held if self.matcher.is_stopped() => return Ok(()),
            Stage::Held => {}
            Stage::Free => return Ok(()),
        }
        self.matcher.consume_token(token).map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// The text is whole and nothing can follow it.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Held) && self.matcher.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vocabulary {
        let mut pieces: Vec<Piece> = (0..=255).map(|byte| Piece { bytes: vec![byte], special: false }).collect();
        pieces.push(Piece { bytes: b"<end>".to_vec(), special: true });
        pieces.push(Piece { bytes: b"[CALL]".to_vec(), special: true });
        Vocabulary::new(pieces.into(), 256).unwrap()
    }

    fn follow(constrained: &mut Constrained, text: &str) -> Result<(), usize> {
        for (index, byte) in text.bytes().enumerate() {
            if let Some(mask) = constrained.allowed().unwrap()
                && !mask.is_allowed(u32::from(byte))
            {
                return Err(index);
            }
            constrained.accept(u32::from(byte), &[byte]).unwrap();
        }
        Ok(())
    }

    #[test]
    fn only_what_fits_is_allowed() {
        let schema = r#"{"type":"object","properties":{"age":{"type":"integer"}},"required":["age"]}"#;
        let constraint = Constraint { schema: schema.into(), after: None, calls: Vec::new() };
        let mut good = bytes().constrain(&constraint).unwrap();
        assert_eq!(follow(&mut good, r#"{"age": 42}"#), Ok(()));
        assert!(good.allowed().unwrap().unwrap().is_allowed(256));
        assert_eq!(follow(&mut bytes().constrain(&constraint).unwrap(), r#"{"age": "x"}"#), Err(8));
    }

    #[test]
    fn it_waits_for_the_end_of_thinking() {
        let constraint =
            Constraint { schema: r#"{"type":"object"}"#.into(), after: Some("</think>".into()), calls: Vec::new() };
        let mut constrained = bytes().constrain(&constraint).unwrap();
        assert_eq!(follow(&mut constrained, "well then</think>{\"a\": 1}"), Ok(()));
        assert!(follow(&mut bytes().constrain(&constraint).unwrap(), "</think>no").is_err());
    }

    #[test]
    fn blanks_may_follow_thinking_and_a_call_may_take_the_json_s_place() {
        let mut constraint = Constraint {
            schema: r#"{"type":"object"}"#.into(),
            after: None,
            calls: vec!["<call>".into(), "[CALL]".into()],
        };
        let follows = |constraint: &Constraint, text: &str| follow(&mut bytes().constrain(constraint).unwrap(), text);
        assert_eq!(follows(&constraint, "<call>anything at all"), Ok(()));
        assert_eq!(follows(&constraint, "{\"a\": \"<call>\"}"), Ok(()));
        assert_eq!((follows(&constraint, "<cat"), follows(&constraint, "\n{")), (Err(3), Err(0)));
        let mut special = bytes().constrain(&constraint).unwrap();
        assert!(special.allowed().unwrap().unwrap().is_allowed(257));
        special.accept(257, b"[CALL]").unwrap();
        assert!(special.allowed().unwrap().is_none() && !special.is_over());

        constraint.after = Some("</t>".into());
        assert_eq!(follows(&constraint, "so</t>\n\n{\"a\": 1}"), Ok(()));
        assert_eq!(follows(&constraint, "so</t>\n<call>x"), Ok(()));
        assert_eq!(follows(&constraint, &format!("</t>{}", " ".repeat(20))), Err(12));
        constraint.calls.clear();
        assert_eq!(follows(&constraint, "</t>\n<"), Err(5));
    }

    #[test]
    fn a_bad_schema_is_the_clients_error() {
        let error = |schema: &str| {
            let constraint = Constraint { schema: schema.into(), after: None, calls: Vec::new() };
            bytes().constrain(&constraint).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(error(r#"{"type":"banana"}"#), "invalid format: Invalid type: banana");
        assert_eq!(
            error(r##"{"properties":{"a":{"items":{"$ref":"#/$defs/b"}}},"$defs":{"b":{"not":{}}}}"##),
            r#"invalid format: /properties/a/items: Unimplemented keys: ["not"]"#
        );
        assert_eq!(
            error(r#"{"anyOf":[{"type":"null"},{"pattern":"(","type":"string"}]}"#),
            "invalid format: /anyOf/1: the pattern cannot be read: unclosed group"
        );
        assert_eq!(error(r##"{"$ref":"#"}"##), "invalid format: nothing fits the schema");
        assert!(error(&format!(r#"{{"properties":{{"a":["{}"]}}}}"#, "é".repeat(99))).contains("/properties/a: "));
        let either = r#"{"oneOf":[{"type":"null"},{"type":"integer"}]}"#;
        let constraint = Constraint { schema: either.into(), after: None, calls: Vec::new() };
        assert_eq!(follow(&mut bytes().constrain(&constraint).unwrap(), "17"), Ok(()));
    }
}
