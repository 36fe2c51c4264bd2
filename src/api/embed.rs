//! Texts into vectors, in no dialect.

use std::time::Duration;

use super::AppState;
use super::error::ApiError;
use super::models::find_to_run;
use super::turn::{Wish, wanted};
use crate::engine::EmbedRequest;
use crate::store::Capability;
use crate::types::ModelName;

pub struct Texts {
    pub inputs: Vec<String>,
    /// Numbers to keep of each vector; zero keeps all.
    pub dimensions: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Embedded {
    /// Each of length one.
    pub vectors: Vec<Vec<f32>>,
    pub prompt_tokens: u64,
    pub load: Duration,
}

/// Loads the model, and embeds the texts if there are any.
///
/// # Errors
/// An unknown model, one that makes no embeddings, inputs that are too long and may not be cut.
pub async fn embed(state: &AppState, name: &ModelName, wish: Wish, texts: Texts) -> Result<Embedded, ApiError> {
    let known = find_to_run(state, name, &wish.asked)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("model {:?} not found, try pulling it first", wish.asked)))?;
    let (options, wanted) = wanted(state, &known, &wish.options, wish.keep_alive).await?;
    let lease = state.scheduler.acquire(wanted).await?;
    if texts.inputs.is_empty() {
        return Ok(Embedded { load: lease.load_duration(), ..Embedded::default() });
    }
    if !known.can(Capability::Embedding) {
        // the words of the server that Ollama runs such a model in
        let text = "This server does not support embeddings. Start it with `--embeddings`";
        return Err(ApiError::NotImplemented(text.into()));
    }
    let report = lease.runner().report();
    let limit = match report.train_context_length {
        0 => report.context_length,
        trained => report.context_length.min(trained),
    };
    // The runner may have more room than the request wants, and a request may want none: zero counts when it is said.
    let said = wish.options.get("num_ctx").is_some_and(|value| !value.is_null());
    let asked = if said || options.load.num_ctx != 0 { options.load.num_ctx } else { i64::MAX };
    let request = EmbedRequest {
        inputs: texts.inputs,
        truncate: wish.truncate.unwrap_or(true),
        max_tokens: i64::try_from(limit).unwrap_or(i64::MAX).min(asked),
    };
    let mut reply = lease.runner().embed(request).await?;
    for vector in &mut reply.vectors {
        shorten(vector, texts.dimensions)?;
    }
    Ok(Embedded { vectors: reply.vectors, prompt_tokens: reply.prompt_tokens, load: lease.load_duration() })
}

/// Keeps the first numbers, and makes the length one again.
fn shorten(vector: &mut Vec<f32>, dimensions: usize) -> Result<(), ApiError> {
    if vector.iter().any(|number| !number.is_finite()) {
        return Err(ApiError::invalid("embedding contains NaN or Inf values"));
    }
    if (1..vector.len()).contains(&dimensions) {
        vector.truncate(dimensions);
        let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|number| *number = (f64::from(*number) / length) as f32);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_vectors_have_length_one() {
        let mut vector = vec![0.36, 0.48, 0.8];
        shorten(&mut vector, 2).unwrap();
        assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] - 0.8).abs() < 1e-6);
        shorten(&mut vector, 9).unwrap();
        assert_eq!(vector.len(), 2);
        assert!(shorten(&mut vec![f32::NAN], 0).is_err());
    }
}
