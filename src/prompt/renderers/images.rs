//! Markers for images: `[img-N]` where image N of the conversation belongs.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::types::Message;

/// The numbers of a conversation's images, counted over all messages in order, whether or not a renderer shows them.
pub(super) struct Images {
    /// The number of each message's first image.
    first: Vec<usize>,
}

impl Images {
    pub(super) fn of(messages: &[Message]) -> Self {
        let mut next = 0;
        let first = messages
            .iter()
            .map(|message| {
                let first = next;
                next += message.images.len();
                first
            })
            .collect();
        Self { first }
    }

    /// The message's text with a marker for each of its images: in place of `[img]`, as far as the text has them, the rest
    /// before the text. A text that already numbers its images is left alone.
    pub(super) fn content<'a>(&self, messages: &'a [Message], index: usize) -> Cow<'a, str> {
        let message = &messages[index];
        if message.images.is_empty() {
            return Cow::Borrowed(&message.content);
        }
        let numbered = message.content.contains("[img-");
        let mut text = message.content.clone();
        let mut markers = String::new();
        for number in self.first[index]..self.first[index] + message.images.len() {
            if text.contains("[img]") {
                text = text.replacen("[img]", &format!("[img-{number}]"), 1);
            } else if !numbered {
                write!(markers, "[img-{number}]").expect("a string takes all");
            }
        }
        if !markers.is_empty() && text.starts_with(|char: char| !char.is_whitespace()) {
            markers.push(' ');
        }
        Cow::Owned(markers + &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Image;

    #[test]
    fn markers_go_where_the_text_wants_them_and_the_rest_before() {
        let image = || Image(vec![1].into());
        let with = |text: &str, count: usize| Message { images: vec![image(); count], ..Message::text("user", text) };
        let messages = [with("one", 1), with("a [img] b", 2), with("", 1), with("see [img-5]", 1)];
        let images = Images::of(&messages);
        let texts: Vec<_> = (0..messages.len()).map(|index| images.content(&messages, index)).collect();
        assert_eq!(texts, ["[img-0] one", "[img-2] a [img-1] b", "[img-3]", "see [img-5]"]);
    }
}
