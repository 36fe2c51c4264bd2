//! Past calls in the form that a template insists on.

use crate::types::{Message, Role};

/// Gives each call an id, and each result that of its call. `short`: nine letters and digits, as Mistral's templates want them.
pub(super) fn name(messages: &mut [Message], short: bool) {
    let mut count = 0;
    // calls without a result yet: id and tool
    let mut open: Vec<(String, String)> = Vec::new();
    for message in messages {
        for call in &mut message.tool_calls {
            if call.id.is_empty() {
                call.id = format!("call{count:05}");
            } else if short {
                call.id = shorten(&call.id);
            }
            count += 1;
            open.push((call.id.clone(), call.function.name.clone()));
        }
        if message.role != Role::TOOL {
            continue;
        }
        if short && !message.tool_call_id.is_empty() {
            message.tool_call_id = shorten(&message.tool_call_id);
        }
        let by_id = open.iter().position(|(id, _)| *id == message.tool_call_id);
        let by_name = || open.iter().position(|(_, tool)| *tool == message.tool_name);
        let unnamed = message.tool_call_id.is_empty() && !open.is_empty();
        if let Some(index) = by_id.or_else(|| unnamed.then(|| by_name().unwrap_or(0))) {
            message.tool_call_id = open.remove(index).0;
        }
    }
}

fn shorten(id: &str) -> String {
    let plain: Vec<char> = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let last: String = plain[plain.len().saturating_sub(9)..].iter().collect();
    format!("{last:0>9}")
}

/// Answers with several calls as several answers, each followed by its call's result.
pub(super) fn apart(messages: Vec<Message>) -> Vec<Message> {
    let mut out = Vec::with_capacity(messages.len());
    let mut rest = messages.into_iter().peekable();
    while let Some(mut message) = rest.next() {
        let calls = std::mem::take(&mut message.tool_calls);
        let mut results = Vec::new();
        while let Some(result) = rest.next_if(|next| calls.len() > 1 && next.role == Role::TOOL) {
            results.push(result);
        }
        if calls.is_empty() {
            out.push(message.clone());
        }
        for call in calls {
            let found = results.iter().position(|result| result.tool_call_id == call.id);
            let id = call.id.clone();
            out.push(Message { tool_calls: vec![call], ..message.clone() });
            message.content.clear();
            message.thinking.clear();
            match found {
                Some(index) => out.push(results.remove(index)),
                None if id.is_empty() && !results.is_empty() => out.push(results.remove(0)),
                None => {}
            }
        }
        out.extend(results);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ToolCall;

    fn conversation(ids: [&str; 2], answered: [&str; 2]) -> Vec<Message> {
        let mut answer = Message::text(Role::ASSISTANT, "both");
        answer.tool_calls = ids.map(|id| ToolCall { id: id.to_owned(), ..ToolCall::default() }).to_vec();
        let mut messages = vec![answer];
        for id in answered {
            let mut result = Message::text(Role::TOOL, id);
            result.tool_call_id = id.to_owned();
            messages.push(result);
        }
        messages
    }

    fn shown(messages: &[Message]) -> Vec<String> {
        let calls =
            |message: &Message| message.tool_calls.iter().map(|call| call.id.clone()).collect::<Vec<_>>().join(",");
        messages
            .iter()
            .map(|message| format!("{}{}{}", message.content, calls(message), message.tool_call_id))
            .collect()
    }

    #[test]
    fn ids_are_given_and_shortened() {
        let mut messages = conversation(["", ""], ["", ""]);
        name(&mut messages, false);
        assert_eq!(shown(&messages), ["bothcall00000,call00001", "call00000", "call00001"]);
        let mut messages = conversation(["call_abcdefgh", "x"], ["x", "call_abcdefgh"]);
        name(&mut messages, true);
        assert_eq!(shown(&messages), ["bothlabcdefgh,00000000x", "x00000000x", "call_abcdefghlabcdefgh"]);
    }

    #[test]
    fn each_call_stands_before_its_result() {
        assert_eq!(shown(&apart(conversation(["a", "b"], ["b", "a"]))), ["botha", "aa", "b", "bb"]);
    }
}
