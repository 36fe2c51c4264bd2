//! Where a message's images stand in its text: `[img-N]`, N counted over the conversation.

use crate::types::{Image, Message};

/// The messages with a marker for each image, and the images in the order of their numbers.
///
/// Each literal `[img]` is the place of the next image of its message; the markers of the others come first.
pub fn mark(messages: &[Message]) -> (Vec<Message>, Vec<Image>) {
    let mut images = Vec::new();
    let marked = messages
        .iter()
        .map(|message| {
            let first = images.len();
            images.extend(message.images.iter().cloned());
            Message { content: mark_text(&message.content, first, message.images.len()), ..message.clone() }
        })
        .collect();
    (marked, images)
}

fn mark_text(text: &str, first: usize, count: usize) -> String {
    let mut numbers = first..first + count;
    let mut body = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("[img]") {
        let Some(number) = numbers.next() else { break };
        body.push_str(&rest[..at]);
        body.push_str(&format!("[img-{number}]"));
        rest = &rest[at + "[img]".len()..];
    }
    let before: String = numbers.map(|number| format!("[img-{number}]")).collect();
    before + &body + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_take_their_places() {
        assert_eq!(mark_text("[img] two [img]", 1, 3), "[img-3][img-1] two [img-2]");
        assert_eq!(mark_text("[img] and [img]", 0, 1), "[img-0] and [img]");
        assert_eq!(mark_text("no picture", 0, 0), "no picture");
    }
}
