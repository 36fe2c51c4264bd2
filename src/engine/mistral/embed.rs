//! Texts into vectors, one after another.

use std::sync::atomic::{AtomicBool, Ordering};

use mistralrs::RequestMessage;

use super::model::Model;
use crate::engine::event::EngineError;
use crate::engine::protocol::SequenceId;
use crate::engine::request::{EmbedReply, EmbedRequest};

impl Model {
    /// Answers `request` with an event, unless it is cancelled on the way.
    pub fn embed(&self, sequence: SequenceId, request: &EmbedRequest, cancelled: &AtomicBool) {
        match self.vectors(request, cancelled) {
            Ok(Some(reply)) => self.events.embedded(sequence, reply),
            Ok(None) => {}
            Err(error) => self.events.failed(sequence, error),
        }
    }

    fn vectors(&self, request: &EmbedRequest, cancelled: &AtomicBool) -> Result<Option<EmbedReply>, EngineError> {
        if !self.embedding {
            return Err(EngineError::Invalid("this model does not support embeddings".into()));
        }
        let limit = usize::try_from(request.max_tokens).unwrap_or(0).min(self.context);
        // All are read first, so that a text that is too long costs nothing.
        let inputs = request.inputs.iter().map(|input| self.tokenizer.input(input, request.truncate, limit));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let mut reply = EmbedReply { vectors: Vec::with_capacity(inputs.len()), prompt_tokens: 0 };
        for tokens in inputs {
            if cancelled.load(Ordering::Acquire) {
                return Ok(None);
            }
            if tokens.is_empty() {
                return Err(EngineError::Invalid("the input is empty".into()));
            }
            reply.prompt_tokens += tokens.len() as u64;
            let tokens = at_least_two(tokens);
            let vector = self.run(RequestMessage::EmbeddingTokens { prompt: tokens }, None)?;
            let vector = vector.ok_or_else(|| EngineError::Failed("mistral.rs gave no embedding".into()))?;
            reply.vectors.push(normalised(vector)?);
        }
        Ok(Some(reply))
    }
}

/// mistral.rs makes no attention mask for a single token and panics without one. The token twice gives the same vector: both
/// have the same value in every layer, and so has any weighted mean of the two.
fn at_least_two(tokens: Vec<u32>) -> Vec<u32> {
    match tokens[..] {
        [token] => vec![token, token],
        _ => tokens,
    }
}

/// The vector at length 1. Folders that say so normalise by themselves; doing it again changes nothing.
fn normalised(mut vector: Vec<f32>) -> Result<Vec<f32>, EngineError> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(EngineError::Invalid("embedding contains NaN or Inf values".into()));
    }
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_or_are_refused() {
        assert_eq!(normalised(vec![3.0, 4.0]).unwrap(), [0.6, 0.8]);
        assert_eq!(normalised(vec![0.0, 0.0]).unwrap(), [0.0, 0.0]);
        assert!(normalised(vec![1.0, f32::NAN]).is_err());
    }
}
