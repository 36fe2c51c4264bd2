//! How an answer ended, in Anthropic's words.

use crate::api::turn::Done;
use crate::engine::FinishReason;
use crate::wire::anthropic::Usage;

pub(super) fn reason(done: &Done, called: bool) -> &'static str {
    match done.finish {
        _ if called => "tool_use",
        FinishReason::Stop => "end_turn",
        FinishReason::Length => "max_tokens",
    }
}

pub(super) fn usage(done: &Done) -> Usage {
    Usage { input_tokens: done.usage.prompt_tokens, output_tokens: done.usage.completion_tokens }
}
