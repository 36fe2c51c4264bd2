//! Messages of one role in a row as one, for templates that know no others.

use crate::types::{Message, Role};

/// Consecutive messages of one role as one, but for tools' results.
///
/// Ollama keeps only the first one's thinking and calls; here none are lost.
pub(super) fn merge(messages: Vec<Message>) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        match merged.last_mut() {
            Some(last) if last.role == message.role && message.role != Role::TOOL => {
                append(&mut last.content, &message.content);
                append(&mut last.thinking, &message.thinking);
                last.images.extend(message.images);
                last.tool_calls.extend(message.tool_calls);
            }
            _ => merged.push(message),
        }
    }
    merged
}

/// Adds `more` as a paragraph of its own.
pub(super) fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}
