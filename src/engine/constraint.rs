//! Holds an answer to a JSON schema, by llguidance over the model's own vocabulary.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use super::event::EngineError;
use super::request::Constraint;

/// Blanks between parts of the JSON, as llama.cpp's grammars allow them: a blank, or a line break and what indents.
const WHITESPACE: &str = r"( |\n{1,2}[ \t]{0,20})?";

/// A model's vocabulary as constraints see it; made once a model.
pub struct Vocabulary {
    factory: ParserFactory,
}

impl Vocabulary {
    /// `pieces` holds each token's bytes, in the order of ids; those of special tokens are empty, so that no text can mean
    /// them.
    ///
    /// # Errors
    /// When llguidance cannot make its tables of it.
    pub fn new(pieces: &[Vec<u8>], end: u32) -> Result<Self, EngineError> {
        let size =
            u32::try_from(pieces.len()).map_err(|_| EngineError::Failed("the vocabulary is too large".into()))?;
        let trie = TokTrie::from(&TokRxInfo::new(size, end), pieces);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        Ok(Self { factory })
    }

    /// # Errors
    /// [`EngineError::Invalid`] naming the part of the schema that cannot be compiled.
    pub fn constrain(&self, constraint: &Constraint) -> Result<Constrained, EngineError> {
        let mut schema: Value = serde_json::from_str(&constraint.schema).map_err(invalid)?;
        if let Some(object) = schema.as_object_mut() {
            object.insert("x-guidance".into(), serde_json::json!({ "whitespace_pattern": WHITESPACE }));
        }
        let mut matcher = Matcher::new(self.factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
        if let Some(error) = matcher.get_error() {
            return Err(EngineError::Invalid(format!("invalid format: {error}")));
        }
        matcher.compute_mask().map_err(invalid)?;
        let waiting = constraint.after.clone();
        Ok(Constrained { matcher, waiting, seen: Vec::new() })
    }
}

fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(format!("invalid format: {error}"))
}

/// One answer under its constraint.
pub struct Constrained {
    matcher: Matcher,
    /// The text after which the constraint holds; `None` once it does.
    waiting: Option<String>,
    /// The end of what was generated, while waiting.
    seen: Vec<u8>,
}

impl Constrained {
    /// The tokens that may come next; `None` when any may.
    ///
    /// # Errors
    /// When the grammar has run into its limits.
    pub fn allowed(&mut self) -> Result<Option<SimpleVob>, EngineError> {
        if self.waiting.is_some() {
            return Ok(None);
        }
        self.matcher.compute_mask_or_eos().map(Some).map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// Takes the token that was chosen, with its bytes.
    ///
    /// # Errors
    /// When the token was not one of the allowed ones.
    pub fn accept(&mut self, token: u32, piece: &[u8]) -> Result<(), EngineError> {
        if let Some(text) = &self.waiting {
            self.seen.extend_from_slice(piece);
            if self.seen.windows(text.len().max(1)).any(|window| window == text.as_bytes()) {
                self.waiting = None;
                self.seen.clear();
            } else {
                let keep = text.len().min(self.seen.len());
                self.seen.drain(..self.seen.len() - keep);
            }
            return Ok(());
        }
        if self.matcher.is_stopped() {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// The text is whole and nothing can follow it.
    pub fn is_over(&self) -> bool {
        self.waiting.is_none() && self.matcher.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vocabulary {
        let mut pieces: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        pieces.push(Vec::new());
        Vocabulary::new(&pieces, 256).unwrap()
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
        let constraint = Constraint { schema: schema.into(), after: None };
        let mut good = bytes().constrain(&constraint).unwrap();
        assert_eq!(follow(&mut good, r#"{"age": 42}"#), Ok(()));
        assert!(good.allowed().unwrap().unwrap().is_allowed(256));
        assert_eq!(follow(&mut bytes().constrain(&constraint).unwrap(), r#"{"age": "x"}"#), Err(8));
    }

    #[test]
    fn it_waits_for_the_end_of_thinking() {
        let constraint = Constraint { schema: r#"{"type":"object"}"#.into(), after: Some("</think>".into()) };
        let mut constrained = bytes().constrain(&constraint).unwrap();
        assert_eq!(follow(&mut constrained, "well then</think>{\"a\": 1}"), Ok(()));
        assert!(follow(&mut bytes().constrain(&constraint).unwrap(), "</think>no").is_err());
    }

    #[test]
    fn a_bad_schema_is_the_clients_error() {
        let constraint = Constraint { schema: r#"{"type":"banana"}"#.into(), after: None };
        assert!(matches!(bytes().constrain(&constraint), Err(EngineError::Invalid(_))));
    }
}
