//! From a request's prompt to the tokens the model gets.

use super::vocab::Vocab;
use crate::engine::event::EngineError;
use crate::engine::request::{GenerateRequest, PromptPart};

/// A prompt that fits the context.
#[derive(Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What the model gets.
    pub tokens: Vec<u32>,
    /// The same before it was cut.
    pub whole: Vec<u32>,
    /// Tokens at the beginning that stay when the context shifts.
    pub keep: usize,
}

impl Prompt {
    /// # Errors
    /// When it is empty, holds media, or does not fit a context of `context` tokens and may not be cut.
    pub fn new(vocab: &Vocab<'_>, request: &GenerateRequest, context: usize) -> Result<Self, EngineError> {
        let whole = tokens(vocab, &request.prompt)?;
        if whole.is_empty() {
            return Err(EngineError::Invalid("the prompt is empty".into()));
        }
        let keep = match usize::try_from(request.sampling.num_keep) {
            Ok(keep) => keep.saturating_add(usize::from(vocab.bos().is_some())),
            Err(_) => whole.len(),
        };
        let keep = keep.min(whole.len()).min(context.saturating_sub(4));
        let tokens = fit(&whole, keep, context, request.truncate, request.shift)?;
        Ok(Self { tokens, whole, keep })
    }
}

fn tokens(vocab: &Vocab<'_>, parts: &[PromptPart]) -> Result<Vec<u32>, EngineError> {
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
    if let Some(bos) = vocab.bos()
        && tokens.first() != Some(&bos)
    {
        tokens.insert(0, bos);
    }
    Ok(tokens)
}

/// A prompt leaves room for one token of the answer at least. One that is longer loses its middle: `keep` tokens at the
/// beginning stay, and of the rest so many of the newest that half of it is free again, as after a shift.
fn fit(whole: &[u32], keep: usize, context: usize, truncate: bool, shift: bool) -> Result<Vec<u32>, EngineError> {
    if whole.len() < context {
        return Ok(whole.to_vec());
    }
    let length = whole.len();
    if !truncate {
        return Err(EngineError::Invalid(format!(
            "request ({length} tokens) exceeds the available context size ({context} tokens), try increasing it"
        )));
    }
    if !shift {
        return Err(EngineError::Invalid(format!(
            "the prompt is longer than the context length currently available to the model; it has {length} tokens and \
             the context {context}: shorten the prompt, allow context shift or increase num_ctx"
        )));
    }
    let newest = context.saturating_sub(((context - keep) / 2).max(1) + keep);
    if keep + newest == 0 {
        return Err(EngineError::Invalid(format!("a context of {context} tokens has no room for a prompt")));
    }
    Ok([&whole[..keep], &whole[length - newest..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_prompt_loses_its_middle() {
        let whole: Vec<u32> = (0..100).collect();
        assert_eq!(fit(&whole, 4, 101, true, true).unwrap(), whole);
        // 64 - (64 - 4) / 2 tokens in all.
        let cut = fit(&whole, 4, 64, true, true).unwrap();
        assert_eq!((cut.len(), &cut[..5], cut.last()), (34, &[0, 1, 2, 3, 70][..], Some(&99)));
        assert_eq!(fit(&whole, 0, 2, true, true).unwrap(), [99]);
        assert!(fit(&whole, 0, 1, true, true).is_err());
    }

    #[test]
    fn what_may_not_be_cut_is_refused() {
        let whole = [1; 64];
        let text = |truncate, shift| fit(&whole, 4, 64, truncate, shift).unwrap_err().to_string();
        assert!(text(false, true).contains("exceeds the available context size (64 tokens)"));
        assert!(text(true, false).starts_with("the prompt is longer than the context length currently available"));
    }
}
