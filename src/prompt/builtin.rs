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
        "ministral" => "[/THINK]",
        _ => "</think>",
    };
    parsers::find(parser).map(|_| end)
}

/// Whether a model of this parser names whom each text is for, so that its answer has a text before it even without thinking.
pub(super) fn is_framed(parser: &str) -> bool {
    matches!(parser, "harmony" | "glimmer")
}

/// What a model of this parser begins its calls with, in place of an answer; empty when it has none.
pub(super) fn begin_calls(parser: &str) -> &'static str {
    let begin = match parser {
        // Their calls have frames of their own, and come before the answer's.
        "harmony" | "glimmer" => "",
        "ministral" => "[TOOL_CALLS]",
        "deepseek3" | "cogito" => "<｜tool▁calls▁begin｜>",
        "olmo3" => "<function_calls>",
        "functiongemma" => "<start_function_call>",
        "gemma4" | "gemma4-no-thinking" => "<|tool_call>",
        "lfm2" | "lfm2-thinking" => "<|tool_call_start|>",
        "cohere" => "<|START_ACTION|>",
        _ => "<tool_call>",
    };
    parsers::find(parser).filter(|entry| entry.tools).map_or("", |_| begin)
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
    fn what_begins_a_call_reaches_the_parser() {
        for &ParserEntry { name, tools, .. } in parsers::PARSERS {
            let begin = begin_calls(name);
            assert!(begin.is_empty() || preserved(name).contains(&begin), "{name}: {begin}");
            assert!(!tools || is_framed(name) || !begin.is_empty(), "{name}");
        }
    }

    #[test]
    fn gemma4_goes_by_name_then_size() {
        assert_eq!(gemma4("gemma4:E4B-it", 30_000_000_000), "gemma4-small");
        assert_eq!(gemma4("gemma4:26b", 0), "gemma4-large");
        assert_eq!(gemma4("mine", 12_000_000_000), "gemma4-large");
        assert_eq!(gemma4("mine", 0), "gemma4-small");
    }
}
