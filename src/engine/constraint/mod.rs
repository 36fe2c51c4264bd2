//! Holds an answer to a JSON schema, by llguidance over the model's own vocabulary.

mod compile;

use std::sync::{Arc, OnceLock};

use llguidance::Matcher;
use toktrie::SimpleVob;

use super::event::EngineError;
use super::request::Constraint;
use super::tokens::{Piece, Tokens};
use compile::{Grammars, invalid, line};

/// Blanks that may stand between the end of thinking and the JSON, in bytes.
const BLANKS: usize = 8;

/// A model's vocabulary as constraints see it; made once a model.
pub struct Vocabulary {
    tokens: Arc<Tokens>,
    /// Made when the first constraint comes: it takes seconds for a large vocabulary.
    grammars: OnceLock<Result<Grammars, EngineError>>,
}

impl Vocabulary {
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self { tokens, grammars: OnceLock::new() }
    }

    /// # Errors
    /// [`EngineError::Invalid`] naming the part of the schema that cannot be compiled; when llguidance cannot read the
    /// vocabulary.
    pub fn constrain(&self, constraint: &Constraint) -> Result<Constrained, EngineError> {
        let grammars = self.grammars.get_or_init(|| Grammars::new(&self.tokens)).as_ref().map_err(Clone::clone)?;
        let matcher = grammars.grammar(&constraint.schema).map_err(invalid)?;
        let stage = match &constraint.after {
            Some(text) => Stage::Waiting { text: text.clone().into_bytes(), seen: Vec::new() },
            None => Stage::Beginning { typed: Vec::new() },
        };
        let calls = constraint.calls.iter().map(|call| call.trim_start().as_bytes().to_vec());
        let blanks = if constraint.after.is_some() { BLANKS } else { 0 };
        let calls: Vec<Vec<u8>> = calls.filter(|call| !call.is_empty()).collect();
        let openers = self.openers(blanks, &calls);
        Ok(Constrained { matcher, stage, blanks, calls, openers, tokens: self.tokens.clone() })
    }

    /// The tokens that may stand before the JSON: blanks, and what begins a call.
    fn openers(&self, blanks: usize, calls: &[Vec<u8>]) -> Vec<u32> {
        if blanks == 0 && calls.is_empty() {
            return Vec::new();
        }
        let opens = |piece: &Piece| {
            let (before, text) = split(&piece.bytes);
            !piece.bytes.is_empty() && before <= blanks && (text.is_empty() || goes_on(calls, b"", text))
        };
        (0..).zip(self.tokens.pieces()).filter(|(_, piece)| opens(piece)).map(|(token, _)| token).collect()
    }
}

/// How many blanks `bytes` begin with, and what comes after them.
fn split(bytes: &[u8]) -> (usize, &[u8]) {
    let text = bytes.trim_ascii_start();
    (bytes.len() - text.len(), text)
}

/// Whether `piece` behind `text` is a part of a call's beginning, or the whole of it with more.
fn goes_on(calls: &[Vec<u8>], text: &[u8], piece: &[u8]) -> bool {
    let rests = calls.iter().filter_map(|call| call.strip_prefix(text));
    !piece.is_empty() && rests.into_iter().any(|rest| rest.starts_with(piece) || piece.starts_with(rest))
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
    /// Tokens that may stand before the JSON: found once, since a vocabulary is long to look through.
    openers: Vec<u32>,
    tokens: Arc<Tokens>,
}

impl Constrained {
    /// The tokens that may come next; `None` when any may.
    ///
    /// # Errors
    /// When the grammar has run into its limits.
    pub fn allowed(&mut self) -> Result<Option<SimpleVob>, EngineError> {
        // What can go wrong is that the schema asks for more than the limits allow.
        let failed = |error: anyhow::Error| invalid(line(&error.to_string()));
        let mut mask = match &self.stage {
            Stage::Waiting { .. } | Stage::Free => return Ok(None),
            Stage::Held | Stage::Beginning { .. } => self.matcher.compute_mask_or_eos().map_err(failed)?,
        };
        if let Stage::Beginning { typed } = &self.stage {
            let (before, text) = split(typed);
            if text.is_empty() {
                let fits = |token: &&u32| before + split(self.tokens.bytes(**token)).0 <= self.blanks;
                self.openers.iter().filter(fits).for_each(|token| mask.allow_token(*token));
            } else {
                // A call is half written, and nothing else can follow.
                mask.set_all(false);
                let fitting =
                    (0..).zip(self.tokens.pieces()).filter(|(_, piece)| goes_on(&self.calls, text, &piece.bytes));
                fitting.for_each(|(token, _)| mask.allow_token(token));
            }
        }
        Ok(Some(mask))
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
