//! The formats that are written in code, by the names that a model's configuration gives: the joint to both of their rooms.

use super::choose::Abilities;
use super::parsers::{self, ParserEntry};
use super::renderers::{self, Renderer};
use super::{Conversation, OutputParser, PromptError, Rendered};
use crate::types::Think;

/// # Errors
/// When there is no such renderer, or it cannot take the conversation.
pub(super) fn render(name: &str, conversation: &Conversation) -> Result<Rendered, PromptError> {
    let renderer = renderers::find(name).ok_or_else(|| PromptError(format!("unknown renderer {name:?}")))?;
    renderer.render(conversation)
}

pub(super) fn leading_bos(renderer: &str) -> Option<&'static str> {
    renderers::find(renderer).and_then(Renderer::leading_bos)
}

/// The parser of that name; a name that nobody knows is as good as none.
pub(super) fn parser(name: &str, conversation: &Conversation, think: Option<Think>) -> Option<Box<dyn OutputParser>> {
    let entry = parsers::find(name)?;
    Some(entry.start(&conversation.tools, conversation.messages.last(), think))
}

pub(super) fn abilities(parser: &str) -> Abilities {
    let able = |entry: &ParserEntry| Abilities { tools: entry.tools, thinking: entry.thinking, insert: false };
    parsers::find(parser).map(able).unwrap_or_default()
}

/// Special tokens whose text must reach the parser.
pub(super) fn preserved(parser: &str) -> &'static [&'static str] {
    parsers::find(parser).map_or(&[], |entry| entry.preserved)
}

/// What a model of this parser writes where its thinking ends and its answer begins.
pub(super) fn end_of_thinking(parser: &str) -> Option<&'static str> {
    let end = match parser {
        "harmony" => "<|channel|>final<|message|>",
        "gemma4" => "<channel|>",
        "cohere" => "<|END_THINKING|>",
        "glimmer" => "to=user<|message|>",
        _ => "</think>",
    };
    parsers::find(parser).filter(|entry| entry.thinking).map(|_| end)
}

/// The renderer that plain `gemma4` stands for: by the size in the model's name, else by its count of parameters.
pub(super) fn gemma4(name: &str, parameters: u64) -> &'static str {
    const BILLION: u64 = 1_000_000_000;
    let name = name.to_lowercase();
    let says = |sizes: &[&str]| sizes.iter().any(|size| name.contains(size));
    let large = !says(&["e2b", "e4b"]) && (says(&["12b", "26b", "31b"]) || parameters >= 12 * BILLION);
    if large { "gemma4-large" } else { "gemma4-small" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemma4_goes_by_name_then_size() {
        assert_eq!(gemma4("gemma4:E4B-it", 30_000_000_000), "gemma4-small");
        assert_eq!(gemma4("gemma4:26b", 0), "gemma4-large");
        assert_eq!(gemma4("mine", 12_000_000_000), "gemma4-large");
        assert_eq!(gemma4("mine", 0), "gemma4-small");
    }
}
