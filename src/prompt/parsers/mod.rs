//! The built-in output parsers: a name, what it can do, and how it begins.
//!
//! Twenty-seven names, one format a file. What the formats share: `scan` (text that comes in pieces), `out` (white space at
//! the edges, pieces, call numbers), `tagged` (thoughts, text and calls between tags), `json` and `typed` (arguments).
//!
//! What a format cannot read as a call is content, tags and all, so that nothing a model wrote is lost.

mod arguments;
mod braces;
mod cohere;
mod deepseek;
mod glimmer;
mod glm;
pub mod harmony;
mod json;
mod laguna;
mod lfm;
mod ministral;
mod olmo;
mod out;
mod passthrough;
mod python;
mod qwen;
mod scan;
mod tagged;
mod typed;

use super::OutputParser;
use crate::types::{Message, Role, Think, Tool};

/// A built-in parser.
pub struct ParserEntry {
    pub name: &'static str,
    /// Whether it finds tool calls.
    pub tools: bool,
    /// Whether it finds thoughts.
    pub thinking: bool,
    /// Special tokens whose text must reach the parser.
    pub preserved: Tokens,
    begin: Begins,
}

impl ParserEntry {
    /// A parser for one answer: `tools` are offered, `last` is the last message of the conversation.
    pub fn start(&self, tools: &[Tool], last: Option<&Message>, think: Option<Think>) -> Box<dyn OutputParser> {
        (self.begin)(&Start { tools, last, think })
    }
}

/// The parser of this name.
pub fn find(name: &str) -> Option<&'static ParserEntry> {
    PARSERS.iter().find(|entry| entry.name == name)
}

/// What a parser is told before the first text.
struct Start<'a> {
    tools: &'a [Tool],
    last: Option<&'a Message>,
    think: Option<Think>,
}

impl Start<'_> {
    fn thinks_unless_off(&self) -> bool {
        self.think.is_none_or(Think::is_on)
    }

    fn thinks_if_on(&self) -> bool {
        self.think.is_some_and(Think::is_on)
    }

    /// The assistant's message that the model goes on with.
    fn prefill(&self) -> Option<&Message> {
        self.last.filter(|last| last.role == *Role::ASSISTANT)
    }

    /// The model goes on with the text of an answer.
    fn continues(&self) -> bool {
        self.prefill().is_some_and(|last| !last.content.is_empty())
    }
}

const THINK_TOOL: &[&str] = &["<think>", "</think>", "<tool_call>", "</tool_call>"];
const CLOSE_TOOL: &[&str] = &["</think>", "<tool_call>", "</tool_call>"];

pub(super) static PARSERS: &[ParserEntry] = &[
    tools("qwen3", THINK_TOOL, qwen::qwen3),
    both("qwen3-thinking", THINK_TOOL, qwen::qwen3_thinking),
    tools("qwen3-coder", &["<tool_call>", "</tool_call>"], qwen::qwen3_coder),
    both("qwen3.5", THINK_TOOL, qwen::qwen3_5),
    both("ornith", THINK_TOOL, qwen::qwen3_5),
    both("nemotron-3-nano", THINK_TOOL, qwen::qwen3_5),
    both("nemotron-3.5-nano", THINK_TOOL, qwen::qwen3_5),
    tools("qwen3-vl-instruct", CLOSE_TOOL, qwen::qwen3_vl_instruct),
    both("qwen3-vl-thinking", CLOSE_TOOL, qwen::qwen3_vl_thinking),
    tools("ministral", ministral::TOKENS, ministral::ministral),
    both("deepseek3", deepseek::TOKENS, deepseek::deepseek3),
    both("cogito", deepseek::COGITO_TOKENS, deepseek::cogito),
    tools("olmo3", &["<function_calls>", "</function_calls>"], olmo::olmo3),
    ParserEntry { tools: false, ..both("olmo3-think", &["</think>"], olmo::olmo3_think) },
    tools("functiongemma", braces::FUNCTIONGEMMA_TOKENS, braces::functiongemma),
    both("gemma4", braces::GEMMA4_TOKENS, braces::gemma4),
    tools("gemma4-no-thinking", braces::GEMMA4_TOKENS, braces::gemma4_no_thinking),
    both("glm-4.7", glm::TOKENS, glm::glm_4_7),
    tools("glm-ocr", glm::TOKENS, glm::glm_ocr),
    both("laguna", laguna::TOKENS, laguna::laguna),
    both("poolside-v1", laguna::TOKENS, laguna::poolside_v1),
    tools("lfm2", lfm::TOKENS, lfm::lfm2),
    both("harmony", harmony::TOKENS, harmony::harmony),
    both("cohere", cohere::TOKENS, cohere::cohere),
    both("glimmer", glimmer::TOKENS, glimmer::glimmer),
    ParserEntry { tools: false, ..tools("passthrough", &[], passthrough::passthrough) },
    both("lfm2-thinking", lfm::TOKENS, lfm::lfm2_thinking),
];

type Begins = fn(&Start) -> Box<dyn OutputParser>;
type Tokens = &'static [&'static str];

const fn both(name: &'static str, preserved: Tokens, begin: Begins) -> ParserEntry {
    ParserEntry { name, tools: true, thinking: true, preserved, begin }
}

const fn tools(name: &'static str, preserved: Tokens, begin: Begins) -> ParserEntry {
    ParserEntry { name, tools: true, thinking: false, preserved, begin }
}
