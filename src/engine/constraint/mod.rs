//! Holds an answer to a JSON schema, by llguidance over the model's own vocabulary.

mod compile;

use std::sync::Arc;

use llguidance::{Matcher, ParserFactory};
use toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use super::event::EngineError;
use super::request::Constraint;
use super::tokens::Piece;
use compile::line;

/// Blanks that may stand between the end of thinking and the JSON, in bytes.
const BLANKS: usize = 8;

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
        compile::limit(factory.limits_mut());
        Ok(Self { factory, pieces })
    }

    /// # Errors
    /// [`EngineError::Invalid`] naming the part of the schema that cannot be compiled.
    pub fn constrain(&self, constraint: &Constraint) -> Result<Constrained, EngineError> {
        let matcher = self.grammar(&constraint.schema).map_err(invalid)?;
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
mod tests;
