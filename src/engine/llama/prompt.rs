//! From a request's prompt to tokens.

use super::vocab::Vocab;
use crate::engine::event::EngineError;
use crate::engine::request::PromptPart;

/// The tokens of `parts`, and how many of them at the beginning the tokenizer put there by itself.
///
/// # Errors
/// When a token is not of the vocabulary, or a part is an image, which no model here can see yet.
pub fn tokens(vocab: &Vocab<'_>, parts: &[PromptPart]) -> Result<(Vec<u32>, usize), EngineError> {
    let mut tokens = Vec::new();
    // Neighbouring texts are one text: a token may reach over their border.
    let mut text = String::new();
    for part in parts {
        match part {
            PromptPart::Text(more) => text.push_str(more),
            PromptPart::Tokens(more) => {
                vocab.check(more)?;
                tokens.extend(vocab.tokenize(&std::mem::take(&mut text), false));
                tokens.extend(more);
            }
            PromptPart::Media(_) => return Err(EngineError::Invalid("this model does not support images".into())),
        }
    }
    tokens.extend(vocab.tokenize(&text, false));
    let Some(bos) = vocab.bos() else { return Ok((tokens, 0)) };
    if tokens.first() != Some(&bos) {
        tokens.insert(0, bos);
    }
    Ok((tokens, 1))
}
