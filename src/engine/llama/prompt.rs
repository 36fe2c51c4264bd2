//! From a request's prompt to tokens, images and sounds.

use std::collections::VecDeque;

use super::vision::Medium;
use super::vocab::Vocab;
use crate::engine::event::EngineError;
use crate::engine::request::PromptPart;

#[derive(Default)]
pub struct Prompt {
    /// With the number of an image or a sound in each of its places.
    pub tokens: Vec<u32>,
    /// Tokens at the beginning that the tokenizer put there by itself.
    pub prefix: usize,
    /// In their order.
    pub media: VecDeque<Medium>,
}

impl Prompt {
    /// Reads `parts`, whose images and sounds are `media`.
    ///
    /// # Errors
    /// When a token is not of the vocabulary, or nobody has read an image.
    pub fn read(vocab: &Vocab, parts: &[PromptPart], mut media: VecDeque<Medium>) -> Result<Self, EngineError> {
        let mut prompt = Self::default();
        // Neighbouring texts are one text: a token may reach over their border.
        let mut text = String::new();
        for part in parts {
            match part {
                PromptPart::Text(more) => text.push_str(more),
                PromptPart::Tokens(more) => {
                    vocab.check(more)?;
                    prompt.tokens.extend(vocab.tokenize(&std::mem::take(&mut text), false));
                    prompt.tokens.extend(more);
                }
                PromptPart::Media(_) => {
                    let Some(mut medium) = media.pop_front() else {
                        return Err(EngineError::Invalid("this model does not support images".into()));
                    };
                    prompt.tokens.extend(vocab.tokenize(&std::mem::take(&mut text), false));
                    medium.span.at = prompt.tokens.len();
                    prompt.tokens.extend(std::iter::repeat_n(medium.number, medium.span.tokens));
                    prompt.media.push_back(medium);
                }
            }
        }
        let ends_with_medium = text.is_empty() && matches!(parts.last(), Some(PromptPart::Media(_)));
        // Logits come of tokens only.
        prompt.tokens.extend(vocab.tokenize(if ends_with_medium { "\n" } else { &text }, false));
        if let Some(bos) = vocab.bos() {
            prompt.prefix = 1;
            if prompt.tokens.first() != Some(&bos) {
                prompt.tokens.insert(0, bos);
                prompt.media.iter_mut().for_each(|medium| medium.span.at += 1);
            }
        }
        match prompt.media.back() {
            Some(last) if last.span.end() == prompt.tokens.len() => {
                Err(EngineError::Invalid("the prompt ends with an image".into()))
            }
            _ => Ok(prompt),
        }
    }
}
