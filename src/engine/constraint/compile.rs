//! A schema into a grammar: what is too large is refused, and of what cannot be compiled the part at fault is named.
//!
//! llguidance bounds its own work by counts, not by time: some tenths of a second at the worst. So nothing here may run on a
//! thread that answers wait for.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::engine::event::EngineError;
use crate::engine::tokens::{Piece, Tokens};

/// Blanks between parts of the JSON, as llama.cpp's grammars allow them: a blank, or a line break and what indents.
const WHITESPACE: &str = r"( |\n{1,2}[ \t]{0,20})?";

/// Bytes of a schema. The time to compile one grows with them, and the largest that are in use have a few hundred thousand.
const LARGEST: usize = 1 << 20;
/// Items, properties or characters that a schema may ask for at the least: no answer ever had as many.
const MOST: u64 = 1_000_000;
/// Parts of a schema that are tried to find the one at fault, and how long.
const TRIES: usize = 100;
const PATIENCE: Duration = Duration::from_millis(500);

/// llguidance's limits, a grammar's size halved: the largest schema it was tried with has 200 000 symbols.
fn limit(limits: &mut ParserLimits) {
    limits.max_grammar_size = 250_000;
    limits.verbose_errors = false;
}

/// Compiles schemas over one vocabulary.
pub(super) struct Grammars {
    factory: ParserFactory,
}

impl Grammars {
    /// No text of an answer can mean a special token.
    ///
    /// # Errors
    /// When llguidance cannot make its tables of `tokens`, or none of them ends an answer.
    pub(super) fn new(tokens: &Tokens) -> Result<Self, EngineError> {
        let end = tokens.ends().first().ok_or_else(|| EngineError::Failed("the model has no end token".into()))?;
        let size =
            u32::try_from(tokens.count()).map_err(|_| EngineError::Failed("the vocabulary is too large".into()))?;
        let text = |piece: &Piece| if piece.special { Vec::new() } else { piece.bytes.clone() };
        let texts: Vec<Vec<u8>> = tokens.pieces().iter().map(text).collect();
        let trie = TokTrie::from(&TokRxInfo::new(size, *end), &texts);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(invalid)?;
        factory.quiet();
        limit(factory.limits_mut());
        Ok(Self { factory })
    }

    /// # Errors
    /// Where and why the schema cannot be held, in a line.
    pub(super) fn grammar(&self, text: &str) -> Result<Matcher, String> {
        if text.len() > LARGEST {
            return Err(format!("the schema has more than {LARGEST} bytes"));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let named = |(part, error): (String, String)| if part.is_empty() { error } else { format!("{part}: {error}") };
        if let Some(endless) = endless(&schema, String::new()) {
            return Err(named(endless));
        }
        self.compile(schema.clone()).map_err(|error| named(self.culprit(&schema).unwrap_or((String::new(), error))))
    }

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
        let began = Instant::now();
        let mut path = String::new();
        let mut part = schema;
        'deeper: loop {
            for (step, child) in parts(part) {
                if tries == 0 || began.elapsed() > PATIENCE {
                    return found;
                }
                tries -= 1;
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

/// The first part that asks for more than any answer could have: it compiles, and the answer would never end.
fn endless(schema: &Value, path: String) -> Option<(String, String)> {
    for word in ["minItems", "minLength", "minProperties", "minContains"] {
        if schema.get(word).and_then(Value::as_f64).is_some_and(|least| least > MOST as f64) {
            return Some((path, format!("{word} is larger than {MOST}")));
        }
    }
    parts(schema).into_iter().find_map(|(step, part)| endless(part, format!("{path}{step}")))
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

pub(super) fn invalid(error: impl std::fmt::Display) -> EngineError {
    EngineError::Invalid(format!("invalid format: {error}"))
}

/// The first line of what llguidance says, without its inner state.
pub(super) fn line(error: &str) -> String {
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
