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
pub async fn fit<E>(
    messages: &[Message],
    limit: usize,
    mut tokens: impl AsyncFnMut(&[Message]) -> Result<usize, E>,
) -> Result<Vec<Message>, E> {
    let Some(last) = messages.len().checked_sub(1) else {
        return Ok(Vec::new());
    };
    if last == 0 || tokens(messages).await? <= limit {
        return Ok(messages.to_vec());
    }
    // `low` does not fit; `high` fits or is the last message
    let (mut low, mut high) = (0, last);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if tokens(&from(messages, middle)).await? <= limit {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(from(messages, high))
}

/// What an image of a model with a projector is taken to cost, as Ollama reckons.
pub const IMAGE_TOKENS: usize = 768;
