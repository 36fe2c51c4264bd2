//! Embeddings: texts of all requests under way, packed into batches.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;

use super::load::Limits;
use super::vocab::{Vocab, native};
use crate::engine::backend::Events;
use crate::engine::event::EngineError;
use crate::engine::protocol::{Command, SequenceId};
use crate::engine::request::{EmbedReply, EmbedRequest};

pub struct Embedder<'m> {
    context: LlamaContext<'m>,
    vocab: &'m Vocab,
    limits: Limits,
    batch: LlamaBatch<'static>,
    /// Texts without a vector, in the order they came.
    waiting: VecDeque<Text>,
    open: HashMap<SequenceId, Open>,
    events: Events,
}

/// One text of a request.
struct Text {
    sequence: SequenceId,
    index: usize,
    tokens: Vec<u32>,
}

/// A request that is not answered yet.
struct Open {
    vectors: Vec<Vec<f32>>,
    missing: usize,
    prompt_tokens: u64,
}

impl<'m> Embedder<'m> {
    pub fn new(context: LlamaContext<'m>, vocab: &'m Vocab, limits: Limits, events: Events) -> Self {
        let batch = LlamaBatch::new(context.n_batch() as usize, 1);
        Self { context, vocab, limits, batch, waiting: VecDeque::new(), open: HashMap::new(), events }
    }

    /// Serves `commands` until their channel closes.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            if self.waiting.is_empty() {
                let Ok(command) = commands.recv() else { return };
                self.take(command);
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.take(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.step();
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Embed { sequence, request } => match self.texts(sequence, &request) {
                Ok(texts) => self.open(sequence, texts),
                Err(error) => self.events.failed(sequence, error),
            },
            Command::Cancel { sequence } => self.close(sequence),
            Command::Generate { sequence, .. } => {
                let error = "this model makes embeddings and no text";
                self.events.failed(sequence, EngineError::Invalid(error.into()));
            }
            other => super::common(self.vocab, other, &self.events),
        }
    }

    fn texts(&self, sequence: SequenceId, request: &EmbedRequest) -> Result<Vec<Text>, EngineError> {
        let most = usize::try_from(request.max_tokens).unwrap_or(0).min(self.limits.context);
        let text = |(index, input): (usize, &String)| {
            let whole = self.vocab.tokenize(input, true);
            let own = whole.len() - self.vocab.tokenize(input, false).len().min(whole.len());
            let before = usize::from(self.vocab.bos().is_some()).min(own);
            let tokens = cut(whole, (before, own - before), most, request.truncate)?;
            Ok(Text { sequence, index, tokens })
        };
        request.inputs.iter().enumerate().map(text).collect()
    }

    fn open(&mut self, sequence: SequenceId, texts: Vec<Text>) {
        let prompt_tokens = texts.iter().map(|text| text.tokens.len() as u64).sum();
        let open = Open { vectors: vec![Vec::new(); texts.len()], missing: texts.len(), prompt_tokens };
        if texts.is_empty() {
            self.events.embedded(sequence, EmbedReply { vectors: open.vectors, prompt_tokens });
            return;
        }
        self.open.insert(sequence, open);
        self.waiting.extend(texts);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.open.remove(&sequence);
        self.waiting.retain(|text| text.sequence != sequence);
    }

    /// One batch: as many texts as there is room for, or one that is longer than that.
    fn step(&mut self) {
        self.batch.clear();
        let room = self.limits.batch.min(self.context.n_batch() as usize);
        let mut texts: Vec<Text> = Vec::new();
        let mut used = 0;
        while let Some(next) = self.waiting.front()
            && texts.len() < super::load::EMBED_SEQUENCES as usize
            && (texts.is_empty() || used + next.tokens.len() <= room)
        {
            used += next.tokens.len();
            texts.extend(self.waiting.pop_front());
        }
        for (slot, text) in (0..).zip(&texts) {
            for (position, &token) in (0..).zip(&text.tokens) {
                self.batch.add(native(token), position, &[slot], true).expect("a text beyond the context: a bug");
            }
        }
        if texts.is_empty() {
            return;
        }
        let decoded = self.context.decode(&mut self.batch);
        for (slot, _) in (0..).zip(&texts) {
            // A whole sequence can always be removed; an encoder has no cache, and nothing to remove.
            self.context.kv_cache_seq_rm(slot, None, None).ok();
        }
        if let Err(error) = decoded {
            for text in texts {
                self.fail(text.sequence, EngineError::Failed(error.to_string()));
            }
            return;
        }
        for (slot, text) in (0..).zip(texts) {
            let vector = self.context.embeddings_seq_ith(slot).map_err(|error| EngineError::Failed(error.to_string()));
            match vector.and_then(normalise) {
                Ok(vector) => self.put(&text, vector),
                Err(error) => self.fail(text.sequence, error),
            }
        }
    }

    fn put(&mut self, text: &Text, vector: Vec<f32>) {
        let Some(open) = self.open.get_mut(&text.sequence) else { return };
        open.vectors[text.index] = vector;
        open.missing -= 1;
        if open.missing == 0
            && let Some(Open { vectors, prompt_tokens, .. }) = self.open.remove(&text.sequence)
        {
            self.events.embedded(text.sequence, EmbedReply { vectors, prompt_tokens });
        }
    }

    /// A request fails once, with all its texts.
    fn fail(&mut self, sequence: SequenceId, error: EngineError) {
        if self.open.contains_key(&sequence) {
            self.close(sequence);
            self.events.failed(sequence, error);
        }
    }
}

/// `whole` has `own` tokens of the model's before and after the text's, which a cut leaves.
fn cut(whole: Vec<u32>, own: (usize, usize), most: usize, truncate: bool) -> Result<Vec<u32>, EngineError> {
    let invalid = |text: &str| Err(EngineError::Invalid(text.into()));
    let (before, after) = own;
    if whole.is_empty() {
        return invalid("the input is empty");
    }
    if whole.len() <= most {
        return Ok(whole);
    }
    if !truncate {
        return invalid("the input length exceeds the context length");
    }
    if most <= before + after {
        return invalid("input after truncation exceeds maximum context length");
    }
    Ok([&whole[..most - after], &whole[whole.len() - after..]].concat())
}

/// To length 1; a vector of zeros stays.
fn normalise(vector: &[f32]) -> Result<Vec<f32>, EngineError> {
    if !vector.iter().all(|value| value.is_finite()) {
        return Err(EngineError::Invalid("embedding contains NaN or Inf values".into()));
    }
    let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    Ok(vector.iter().map(|value| (f64::from(*value) * scale) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_keeps_the_models_own_tokens() {
        let whole = vec![101, 1, 2, 3, 102];
        assert_eq!(cut(whole.clone(), (1, 1), 5, false).unwrap(), whole);
        assert_eq!(cut(whole.clone(), (1, 1), 3, true).unwrap(), [101, 1, 102]);
        let text = |most, truncate| cut(whole.clone(), (1, 1), most, truncate).unwrap_err().to_string();
        assert_eq!(text(4, false), "the input length exceeds the context length");
        assert_eq!(text(2, true), "input after truncation exceeds maximum context length");
        assert_eq!(text(0, true), "input after truncation exceeds maximum context length");
    }

    #[test]
    fn vectors_have_length_one() {
        assert_eq!(normalise(&[3.0, 4.0]).unwrap(), [0.6, 0.8]);
        assert_eq!(normalise(&[0.0]).unwrap(), [0.0]);
        assert!(normalise(&[f32::NAN]).is_err());
    }
}
