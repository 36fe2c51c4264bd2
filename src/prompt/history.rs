//! How much of a conversation fits a model's context: the newest messages, and every system message.

use crate::types::{Message, Role};

/// The messages from `start` on, with the system messages before it in front.
pub fn from(messages: &[Message], start: usize) -> Vec<Message> {
    let (dropped, kept) = messages.split_at(start.min(messages.len()));
    dropped.iter().filter(|message| message.role == Role::SYSTEM).chain(kept).cloned().collect()
}

/// Drops messages from the front until `tokens` of the rest is at most `limit`. The last message always stays.
///
/// `tokens` renders and counts; it is asked a few times only, as fewer messages are taken never to make more tokens.
///
/// # Errors
/// Those of `tokens`.
pub async fn fit<E, F>(
    messages: &[Message],
    limit: usize,
    mut tokens: impl FnMut(Vec<Message>) -> F,
) -> Result<Vec<Message>, E>
where
    F: Future<Output = Result<usize, E>>,
{
    let Some(last) = messages.len().checked_sub(1) else {
        return Ok(Vec::new());
    };
    if last == 0 || tokens(messages.to_vec()).await? <= limit {
        return Ok(messages.to_vec());
    }
    // `low` does not fit; `high` fits or is the last message
    let (mut low, mut high) = (0, last);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if tokens(from(messages, middle)).await? <= limit {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(from(messages, high))
}

/// What an image of a model with a projector is taken to cost, as Ollama reckons.
pub const IMAGE_TOKENS: usize = 768;

/// Takes `<think>…</think>` out of the answers before the last question. Clients that know no `thinking` send it back so.
pub(super) fn without_thinking(messages: &mut [Message]) {
    let last_question = messages.iter().rposition(|message| message.role == Role::USER).unwrap_or(0);
    for message in messages[..last_question].iter_mut().filter(|message| message.role == Role::ASSISTANT) {
        let Some((before, rest)) = message.content.split_once("<think>") else { continue };
        if let Some((_, after)) = rest.split_once("</think>") {
            let after = if before.trim().is_empty() { after.trim_start() } else { after };
            message.content = format!("{before}{after}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_before_the_last_question_lose_their_thinking() {
        let answer = || Message::text(Role::ASSISTANT, "<think>x</think>\n\ny");
        let mut messages = [answer(), Message::text(Role::USER, "<think>a</think>"), answer()];
        without_thinking(&mut messages);
        assert_eq!(messages.map(|message| message.content), ["y", "<think>a</think>", "<think>x</think>\n\ny"]);
    }

    #[tokio::test]
    async fn asks_little_and_keeps_the_system_and_the_last() {
        let mut messages: Vec<Message> =
            (0..1000).map(|number| Message::text(Role::USER, number.to_string())).collect();
        messages[3].role = Role::new(Role::SYSTEM);
        let mut asked = 0;
        let count = |messages: Vec<Message>| {
            asked += 1;
            std::future::ready(Ok::<_, ()>(messages.len()))
        };
        let kept = fit(&messages, 10, count).await.unwrap();
        assert_eq!((kept.len(), kept[0].content.as_str(), kept[1].content.as_str()), (10, "3", "991"));
        assert!(asked < 15, "asked {asked} times");
    }
}
