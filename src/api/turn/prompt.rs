//! A conversation into what an engine is given, and what will read the answer.

use std::sync::Arc;

use serde_json::json;

use super::Loaded;
use crate::api::error::ApiError;
use crate::api::models::{Known, in_place};
use crate::engine::PromptPart;
use crate::prompt::format::{Format, Hold};
use crate::prompt::{Conversation, OutputParser, ParseError, Piece, Rendered, history};
use crate::types::{Image, Message};

/// Contexts are made in steps of this many tokens.
const CONTEXT_STEP: usize = 256;

type Parsers = Box<dyn FnMut() -> Box<dyn OutputParser> + Send>;

/// A prompt and how its answer is to be read.
pub struct Prompt {
    /// As it was rendered, for those who only want to see it.
    pub text: String,
    pub images: usize,
    pub parts: Vec<PromptPart>,
    pub preserved: Vec<String>,
    /// Where a form that is asked for holds the answer.
    pub hold: Hold,
    pub parsers: Parsers,
}

impl Prompt {
    /// Text as it is; all of its answer is content.
    pub fn plain(text: String, images: &[Image]) -> Self {
        Self {
            parts: parts(&text, images),
            images: images.len(),
            text,
            preserved: Vec::new(),
            hold: Hold::default(),
            parsers: Box::new(|| Box::new(Plain)),
        }
    }

    /// A conversation in a format that is not the model's own.
    ///
    /// # Errors
    /// When the format's template fails.
    pub fn rendered(format: Format, conversation: &Conversation) -> Result<Self, ApiError> {
        let rendered = format.render(conversation)?;
        let (preserved, hold) = (format.preserved(), format.hold(conversation, &rendered));
        let (conversation, for_parsers) = (conversation.clone(), rendered.clone());
        let parsers: Parsers = Box::new(move || format.parser(&conversation, &for_parsers));
        Ok(Self { preserved, hold, parsers, ..Self::plain(rendered.text, &rendered.images) })
    }

    fn of_model(known: &Arc<Known>, conversation: Conversation, rendered: Rendered) -> Result<Self, ApiError> {
        let format = known.format()?;
        let (preserved, hold) = (format.preserved(), format.hold(&conversation, &rendered));
        let (known, for_parsers) = (known.clone(), rendered.clone());
        let parsers: Parsers = Box::new(move || match &known.format {
            Ok(format) => format.parser(&conversation, &for_parsers),
            Err(_) => Box::new(Plain),
        });
        Ok(Self { preserved, hold, parsers, ..Self::plain(rendered.text, &rendered.images) })
    }
}

impl Loaded {
    /// Renders all of the conversation.
    ///
    /// # Errors
    /// When the model's template cannot be read or fails.
    pub fn render(&self, conversation: Conversation) -> Result<Prompt, ApiError> {
        let known = &self.turn.known;
        let mut rendered = known.format()?.render(&conversation)?;
        self.leave_bos(&mut rendered);
        Prompt::of_model(known, conversation, rendered)
    }

    /// Renders as much of the conversation's end as fits, unless the request says otherwise.
    ///
    /// # Errors
    /// As [`Loaded::render`].
    pub async fn render_newest(&self, mut conversation: Conversation) -> Result<Prompt, ApiError> {
        if self.turn.wish.truncate.unwrap_or(true) && conversation.messages.len() > 1 {
            let all = std::mem::take(&mut conversation.messages);
            let count = |messages| self.count(messages, &conversation);
            let newest = history::fit(&all, self.context(), count).await?;
            conversation.messages = newest;
        }
        in_place(|| self.render(conversation))
    }

    /// Tokens of the conversation with these messages; exact only when it may not fit.
    async fn count(&self, messages: Vec<Message>, rest: &Conversation) -> Result<usize, ApiError> {
        let conversation = Conversation { messages, ..rest.clone() };
        let known = &self.turn.known;
        let rendered = known.format()?.render(&conversation)?;
        let sees = known.model.projectors().len().min(1);
        let images = rendered.images.len() * history::IMAGE_TOKENS * sees;
        // a token is a byte at the least
        if rendered.text.len() + 2 + images <= self.context() {
            return Ok(rendered.text.len());
        }
        Ok(self.lease.runner().tokenize(rendered.text, true).await?.len() + images)
    }

    /// Refuses a prompt that does not fit and may not be cut, in the words of the server that Ollama runs its models in.
    ///
    /// # Errors
    /// 400 with how many tokens there are, and how many may be.
    pub async fn check_fits(&self, parts: &[PromptPart]) -> Result<(), ApiError> {
        if self.turn.wish.truncate != Some(false) {
            return Ok(());
        }
        let mut tokens = 0;
        for part in parts {
            tokens += match part {
                PromptPart::Text(text) => self.lease.runner().tokenize(text.clone(), true).await?.len(),
                PromptPart::Tokens(tokens) => tokens.len(),
                PromptPart::Media(_) => 0,
            };
        }
        let room = self.context().next_multiple_of(CONTEXT_STEP);
        if tokens < room {
            return Ok(());
        }
        let message =
            format!("request ({tokens} tokens) exceeds the available context size ({room} tokens), try increasing it");
        let error = json!({
            "code": 400, "message": message, "type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": room
        });
        Err(ApiError::Invalid(json!({ "error": error }).to_string()))
    }

    /// Takes the first token's text off a prompt that the tokenizer puts that token in front of.
    fn leave_bos(&self, rendered: &mut Rendered) {
        if let Some(bos) = self.lease.runner().report().bos.as_deref().filter(|bos| !bos.is_empty())
            && let Some(rest) = rendered.text.strip_prefix(bos)
        {
            rendered.text = rest.to_owned();
        }
    }
}

/// Text with its images in their places: `[img-N]` stands for `images[N]`. Without images it is only text.
pub fn parts(text: &str, images: &[Image]) -> Vec<PromptPart> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(at) = rest[from..].find("[img-").map(|at| at + from) {
        let number = &rest[at + "[img-".len()..];
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let image = number[..digits].parse::<usize>().ok().and_then(|index| images.get(index));
        match image.filter(|_| number[digits..].starts_with(']')) {
            Some(image) => {
                if at > 0 {
                    parts.push(PromptPart::Text(rest[..at].to_owned()));
                }
                parts.push(PromptPart::Media(image.0.to_vec()));
                rest = &number[digits + 1..];
                from = 0;
            }
            None => from = at + 1,
        }
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(PromptPart::Text(rest.to_owned()));
    }
    parts
}

/// Takes all text as content.
pub(super) struct Plain;

impl OutputParser for Plain {
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError> {
        Ok(if text.is_empty() { Vec::new() } else { vec![Piece::Content(text.to_owned())] })
    }

    fn finish(&mut self) -> Result<Vec<Piece>, ParseError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_take_their_places() {
        let images = [Image([1].as_slice().into()), Image([2].as_slice().into())];
        let text = |text: &str| PromptPart::Text(text.into());
        assert_eq!(
            parts("a [img-1]b[img-0]", &images),
            [text("a "), PromptPart::Media(vec![2]), text("b"), PromptPart::Media(vec![1])]
        );
        assert_eq!(parts("[img-7] [img-x] [img-1", &images), [text("[img-7] [img-x] [img-1")]);
        assert_eq!(parts("", &[]), [text("")]);
    }
}
