//! A loaded model: its tokenizer, and the way to mistral.rs and back for one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mistralrs::{
    CustomLogitsProcessor, MistralRs, NormalRequest, Request, RequestMessage, Response, SamplingParams, StopTokens,
};
use tokio::sync::mpsc;

use super::panics;
use super::tokenizer::Tokenizer;
use crate::engine::backend::Events;
use crate::engine::constraint::Vocabulary;
use crate::engine::event::EngineError;
use crate::engine::protocol::SequenceId;
use crate::engine::tokens::Tokens;

/// Responses that wait for us. mistral.rs stands still when they are full, and we only count them off.
const RESPONSES: usize = 256;

pub struct Model {
    /// Dropped, it ends its thread.
    pub _engine: Arc<MistralRs>,
    pub requests: mpsc::Sender<Request>,
    pub numbers: AtomicUsize,
    pub events: Events,
    pub tokenizer: Tokenizer,
    pub tokens: Arc<Tokens>,
    pub constraints: Vocabulary,
    /// Tokens of one sequence.
    pub context: usize,
    /// The token that makes mistral.rs end a sequence. It has no other ends: which token is one is decided here.
    pub end: u32,
    pub embedding: bool,
}

impl Model {
    pub fn tokenize(&self, sequence: SequenceId, text: &str, add_special: bool) {
        match self.tokenizer.encode(text, add_special) {
            Ok(tokens) => self.events.tokens(sequence, tokens),
            Err(error) => self.events.failed(sequence, error),
        }
    }

    pub fn detokenize(&self, sequence: SequenceId, tokens: &[u32]) {
        self.events.text(sequence, self.tokens.text(tokens));
    }

    /// Runs a request to its end, its tokens chosen by `course`, and gives the vector it made, if it made one. mistral.rs
    /// has let go of a request when it closes the channel; before that its memory is in use, and a dropped receiver would
    /// make it panic.
    ///
    /// # Errors
    /// When mistral.rs says that it failed.
    pub fn run(
        &self,
        messages: RequestMessage,
        course: Option<Arc<dyn CustomLogitsProcessor>>,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let sampling = SamplingParams {
            // The largest logit, and the course leaves only one.
            temperature: Some(0.0),
            stop_toks: course.is_some().then(|| StopTokens::Ids(vec![self.end])),
            // Never reached. Without it a sequence that goes wrong would have no end.
            max_len: Some(self.context + 8),
            ..SamplingParams::deterministic()
        };
        let (sender, mut responses) = mpsc::channel(RESPONSES);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut request = NormalRequest::new_simple(messages, sampling, sender, number, None, None);
        request.is_streaming = course.is_some();
        request.logits_processors = course.map(|course| vec![course]);
        if self.requests.blocking_send(Request::Normal(Box::new(request))).is_err() {
            panics::end("the thread of mistral.rs has ended");
        }

        let mut result = Ok(None);
        while let Some(response) = responses.blocking_recv() {
            match response {
                Response::InternalError(error) | Response::ValidationError(error) => {
                    result = Err(EngineError::Failed(panics::first_line(&error.to_string())));
                }
                Response::ModelError(error, _) | Response::CompletionModelError(error, _) => {
                    result = Err(EngineError::Failed(panics::first_line(&error)));
                }
                Response::Embeddings { embeddings, .. } => result = Ok(Some(embeddings)),
                _ => {}
            }
        }
        if self.requests.is_closed() {
            panics::end("the thread of mistral.rs has ended");
        }
        result
    }
}
