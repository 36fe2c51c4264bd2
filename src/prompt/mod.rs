//! Messages into a prompt's text, and a model's text back into thinking, tool calls and content.
//!
//! A [`Conversation`] is rendered by one of three: a built-in renderer, a Go template, a Jinja chat template. What the model
//! writes goes through an [`OutputParser`], piece by piece as it comes.
//!
//! Invariant: a parser's joined answer does not depend on how its input was cut, and no text is lost.

mod builtin;
pub mod choose;
pub mod detect;
pub mod developer;
pub mod format;
pub mod go_prompt;
pub mod go_tags;
pub mod go_template;
pub mod history;
mod images;
pub mod jinja;
pub mod json_calls;
pub mod named;
pub mod parsers;
pub mod renderers;
mod scan;
#[cfg(test)]
mod testing;
pub mod thinking;
mod turns;
mod values;

use crate::types::{Function, Image, Message, Think, Tool};

/// What is to be rendered.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    /// `None` when nobody said.
    pub think: Option<Think>,
}

/// A rendered prompt: text in which `[img-N]` stands for `images[N]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    pub text: String,
    pub images: Vec<Image>,
}

/// Why a conversation could not be rendered, in Ollama's words where it has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PromptError(pub String);

/// A part of an answer, as a parser recognises it.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Content(String),
    Thinking(String),
    /// `index` counts from zero within the answer.
    ToolCall(Function),
}

/// Why a model's output could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub String);

/// Turns a model's text into pieces as it comes.
pub trait OutputParser: Send {
    /// Takes the next text and gives what is certain by now.
    ///
    /// # Errors
    /// [`ParseError`] when the text cannot be what the format promises; the answer ends there.
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError>;

    /// Gives what was held back. Called once, after the last text.
    ///
    /// # Errors
    /// As [`OutputParser::push`].
    fn finish(&mut self) -> Result<Vec<Piece>, ParseError>;
}
