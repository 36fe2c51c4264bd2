//! The built-in renderers: conversations into prompts for models whose format is written here, not in a template.
//!
//! A family a file. What a prompt looks like was recorded from Ollama, and `src/tests/conformance/renderers.rs` replays it.

mod cohere;
mod deepseek;
mod functiongemma;
mod gemma4;
mod gemma_value;
mod glimmer;
mod glm;
mod images;
mod json;
mod laguna;
mod lfm2;
mod nemotron;
mod olmo3;
mod qwen3_5;
mod qwen3_coder;
mod qwen3_vl;
mod xml_tools;

use crate::prompt::{Conversation, PromptError, Rendered};
use crate::types::{Message, Role};

/// Writes conversations in one model family's format.
pub trait Renderer: Sync {
    /// # Errors
    /// [`PromptError`] when the format has no place for this conversation.
    fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError>;

    /// The text for the beginning-of-sequence token. Where a prompt begins with it, it must go if the tokenizer adds that
    /// token itself.
    fn leading_bos(&self) -> Option<&'static str> {
        None
    }
}

/// The renderer of that name. A model's configuration may name one that is not here.
pub fn find(name: &str) -> Option<&'static dyn Renderer> {
    RENDERERS.iter().find(|(known, _)| *known == name).map(|(_, renderer)| *renderer)
}

static RENDERERS: [(&str, &dyn Renderer); 26] = [
    ("cogito", &deepseek::Cogito),
    ("cohere", &cohere::Cohere),
    ("deepseek3.1", &deepseek::DeepSeek31),
    ("functiongemma", &functiongemma::FunctionGemma),
    ("gemma4", &gemma4::SMALL),
    ("gemma4-large", &gemma4::LARGE),
    ("gemma4-small", &gemma4::SMALL),
    ("glimmer", &glimmer::Glimmer),
    ("glm-4.7", &glm::Glm47),
    ("glm-ocr", &glm::GlmOcr),
    ("laguna", &laguna::Laguna),
    ("lfm2", &lfm2::LFM2),
    ("lfm2-thinking", &lfm2::LFM2_THINKING),
    ("nemotron-3-nano", &nemotron::NANO_3),
    ("nemotron-3.5-nano", &nemotron::NANO_3_5),
    ("olmo3", &olmo3::OLMO_3),
    ("olmo3-32b-think", &olmo3::OLMO_3_THINK_32B),
    ("olmo3-think", &olmo3::OLMO_3_THINK),
    ("olmo3.1", &olmo3::OLMO_3_1),
    ("ornith", &qwen3_5::ORNITH),
    ("poolside-v1", &laguna::PoolsideV1),
    ("qwen3-coder", &qwen3_coder::Qwen3Coder),
    ("qwen3-vl-instruct", &qwen3_vl::INSTRUCT),
    ("qwen3-vl-thinking", &qwen3_vl::THINKING),
    ("qwen3.5", &qwen3_5::QWEN_3_5),
    ("qwen3.8", &qwen3_5::QWEN_3_8),
];

/// The prompt, with the conversation's images in the order in which their markers count them.
fn rendered(text: String, conversation: &Conversation) -> Rendered {
    let images = conversation.messages.iter().flat_map(|message| message.images.iter().cloned()).collect();
    Rendered { text, images }
}

/// Whether the model is to go on with this message's own words: the last one, the assistant's, with text and no calls.
fn is_prefill(messages: &[Message], index: usize) -> bool {
    let message = &messages[index];
    index + 1 == messages.len()
        && message.role == Role::ASSISTANT
        && message.tool_calls.is_empty()
        && !message.content.is_empty()
}

/// The neighbours of a message that share its role, so that a run of tool results can be one turn: (before, after).
fn same_role_around(messages: &[Message], index: usize) -> (bool, bool) {
    let role = &messages[index].role;
    let before = index.checked_sub(1).is_some_and(|previous| messages[previous].role == *role);
    (before, messages.get(index + 1).is_some_and(|next| next.role == *role))
}

/// A tool's result as the qwen family has it: a user's turn, which those that follow share.
fn qwen_result(messages: &[Message], index: usize, content: &str) -> String {
    let (before, after) = same_role_around(messages, index);
    let begin = if before { "" } else { "<|im_start|>user" };
    let end = if after { "" } else { "<|im_end|>\n" };
    format!("{begin}\n<tool_response>\n{content}\n</tool_response>{end}")
}

/// Where the model's own thinking begins to matter: past the last user message, not counting those that only wrap a
/// tool's result. `None` when there is no such message.
fn last_query(messages: &[Message]) -> Option<usize> {
    messages.iter().rposition(|message| {
        let text = message.content.trim();
        let wrapped = text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
        message.role == Role::USER && !wrapped
    })
}

/// Thinking and the rest. A client may have sent back the thinking inside the text, as some APIs hand it out.
fn split_thinking<'a>(thinking: &'a str, content: &'a str) -> (&'a str, &'a str) {
    match (content.split_once("</think>"), content.rsplit_once("</think>")) {
        (Some((before, _)), Some((_, after))) if thinking.is_empty() => {
            (before.rsplit("<think>").next().unwrap_or_default(), after.trim_start())
        }
        _ => (thinking, content),
    }
}
