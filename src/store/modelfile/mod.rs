//! The Modelfile: the text that says what a model is made of.
//!
//! [`Modelfile::parse`] reads one, its `Display` writes one, [`Modelfile::recipe`] gives what its instructions amount
//! to, and [`Model::modelfile`](super::Model::modelfile) makes one of a model.

mod model;
mod parameter;
mod parse;
mod print;
mod recipe;

pub use parameter::{parameter_text, typed_parameter};
pub use recipe::Recipe;

/// A Modelfile's instructions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modelfile {
    pub instructions: Vec<Instruction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    From(String),
    License(String),
    Template(String),
    System(String),
    Adapter(String),
    Draft(String),
    Renderer(String),
    Parser(String),
    Requires(String),
    Parameter { name: String, value: String },
    Message { role: MessageRole, content: String },
}

/// Who may speak in a MESSAGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
    System,
    User,
    Assistant,
}

impl MessageRole {
    pub fn of_str(text: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Assistant].into_iter().find(|role| role.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What is wrong with a Modelfile, in Ollama's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelfileError {
    #[error("no FROM line")]
    NoFrom,
    /// The file ends inside a command's word, or a quote is never closed.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// The name of a parameter or a role is not followed by a blank.
    #[error("unexpected EOF: {0}")]
    BrokenWord(String),
    #[error(
        "(line {line}): command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \
         \"draft\", \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\""
    )]
    Command { line: usize },
    #[error("(line {line}): message role must be one of \"system\", \"user\", or \"assistant\"")]
    Role { line: usize },
    #[error("unknown parameter '{0}'")]
    UnknownParameter(String),
    #[error("invalid {kind} value [{value}]")]
    ParameterValue { kind: &'static str, value: String },
    #[error("requires must be a valid semver (e.g. 0.14.0)")]
    Requires,
}

impl ModelfileError {
    /// Where the reader was, from one; a CR and an LF count a line each.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Command { line } | Self::Role { line } => Some(*line),
            _ => None,
        }
    }
}
