//! Decoding a request as Go's `encoding/json` does: names without case, unknown fields passed over, the last of repeated
//! fields wins, `null` changes nothing, and errors in Go's own texts.
//!
//! Follows Go 1.26 as Ollama 0.33 uses it: its `Decoder` checks the syntax of the whole first value, then stores field by
//! field. The first value of a wrong type is remembered and told at the end; an error of a type with a decoder of its own
//! ends the decoding at once.

mod fields;
mod scan;

use std::borrow::Cow;

pub use fields::{Raw, from_base64};
pub use scan::{Kind, Node, SyntaxError, read};

/// Why a body could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("json: cannot unmarshal {value} into Go {place} of type {kind}")]
    Type { value: String, place: String, kind: String },
    /// What a type with a decoder of its own said.
    #[error("{0}")]
    Custom(String),
}

impl JsonError {
    /// There was no body at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Syntax(SyntaxError::Empty))
    }
}

/// Decodes the first JSON value of `body`.
///
/// # Errors
/// [`JsonError`] with the text that Go gives.
pub fn decode<T: Decode>(body: &[u8]) -> Result<T, JsonError> {
    let node = read(body)?;
    let mut value = T::default();
    let mut context = Context::default();
    value.decode(&node, &mut context)?;
    context.first.map_or(Ok(value), Err)
}

/// A type that can be filled from JSON.
pub trait Decode: Default {
    /// What Go calls the type.
    fn go_type() -> Cow<'static, str>;

    /// Lays `node` over `self`.
    ///
    /// # Errors
    /// Only what ends the decoding at once; a value of a wrong type is told to `context`.
    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError>;
}

/// Where in the body the decoder is, and what went wrong first.
#[derive(Default)]
pub struct Context {
    structure: &'static str,
    path: Vec<&'static str>,
    /// Inside a type that decodes itself: Go then names the structure around it.
    sealed: bool,
    first: Option<JsonError>,
}

impl Context {
    /// Remembers that `node` cannot be stored in a `kind`.
    pub fn mismatch(&mut self, node: &Node<'_>, kind: &str) {
        self.refuse(node.word().to_owned(), kind);
    }

    fn refuse(&mut self, value: String, kind: &str) {
        let place = match self.path.as_slice() {
            [] => "value".to_owned(),
            path => format!("struct field {}.{}", self.structure, path.join(".")),
        };
        self.remember(JsonError::Type { value, place, kind: kind.to_owned() });
    }

    fn remember(&mut self, error: JsonError) {
        self.first.get_or_insert(error);
    }

    /// The entries of an object that is to be stored in a `kind`; `None` for `null` and for a mismatch.
    pub fn entries<'n, 'a>(&mut self, node: &'n Node<'a>, kind: &str) -> Option<&'n [(Cow<'a, str>, Node<'a>)]> {
        match &node.kind {
            Kind::Object(entries) => Some(entries),
            Kind::Null => None,
            _ => {
                self.mismatch(node, kind);
                None
            }
        }
    }

    /// Stores `node` in the field `name` of `structure`.
    pub fn field<T: Decode>(
        &mut self,
        structure: &'static str,
        name: &'static str,
        node: &Node<'_>,
        into: &mut T,
    ) -> Result<(), JsonError> {
        let outer = self.structure;
        if !self.sealed {
            self.structure = structure;
        }
        self.path.push(name);
        into.decode(node, self)?;
        self.path.pop();
        self.structure = outer;
        Ok(())
    }

    /// Runs the decoder of a type that decodes itself: its first error is the end.
    pub fn custom(&mut self, decode: impl FnOnce(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        let (before, sealed) = (self.first.take(), self.sealed);
        self.sealed |= !self.path.is_empty();
        decode(self)?;
        self.sealed = sealed;
        match std::mem::replace(&mut self.first, before) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

/// The known name that `key` means: an equal one, else one that differs in case.
pub fn known(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let equal = names.iter().find(|name| **name == key);
    equal.or_else(|| names.iter().find(|name| name.eq_ignore_ascii_case(key))).copied()
}

/// Implements [`Decode`] for a structure: its Go package and name, then JSON names and fields.
macro_rules! decode_struct {
    ($type:ty as $package:literal $name:literal { $($json:literal => $($field:ident).+),* $(,)? }) => {
        impl $crate::wire::go_json::Decode for $type {
            fn go_type() -> std::borrow::Cow<'static, str> {
                concat!($package, ".", $name).into()
            }

            fn decode(
                &mut self,
                node: &$crate::wire::go_json::Node<'_>,
                context: &mut $crate::wire::go_json::Context,
            ) -> Result<(), $crate::wire::go_json::JsonError> {
                let Some(entries) = context.entries(node, concat!($package, ".", $name)) else { return Ok(()) };
                for (key, value) in entries {
                    match $crate::wire::go_json::known(key, &[$($json),*]) {
                        $(Some($json) => context.field($name, $json, value, &mut self.$($field).+)?,)*
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    };
}
pub(crate) use decode_struct;
