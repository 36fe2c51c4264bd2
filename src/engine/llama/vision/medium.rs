//! An image or a sound of a prompt: read, encoded part by part, and evaluated as far as there is room in a turn.

use std::collections::VecDeque;
use std::sync::Arc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::mtmd::{MtmdInputChunk, MtmdInputChunkType, MtmdInputChunks};

use super::raw::{self, Position};
use super::{Projector, reason};
use crate::engine::event::EngineError;
use crate::engine::llama::cache::{Span, sequence};
use crate::engine::llama::log;

/// Parts of an answer's images and sounds that are encoded before there is room for them: one, while another is evaluated.
const AHEAD: usize = 2;

/// An image or a sound of a prompt, with the tokens that its model wants around it. It is in a sequence as a whole or not at
/// all.
pub struct Medium {
    pub span: Span,
    /// What stands for it in a history, once for each of its places. The same content has the same number.
    pub number: u32,
    /// Those that are still to be evaluated.
    parts: VecDeque<Part>,
    /// Positions of those that were.
    passed: usize,
}

/// What goes through the encoder at once: an image or a tile of it, some seconds of a sound. Or tokens, which need no encoder.
pub struct Part {
    chunks: Arc<MtmdInputChunks>,
    index: usize,
    tokens: usize,
    /// Of them, those that were evaluated.
    done: usize,
    stage: Stage,
}

enum Stage {
    Text,
    Raw,
    /// The encoder has it, or it waits for the encoder.
    Asked,
    Encoded(Vec<f32>),
}

impl Medium {
    /// Where it stands is still to be said. `None` when there is nothing of it.
    pub fn new(chunks: MtmdInputChunks, number: u32) -> Option<Self> {
        let (tokens, positions) = (chunks.total_tokens(), usize::try_from(chunks.total_positions()).ok()?);
        let chunks = Arc::new(chunks);
        let part = |index| {
            let chunk = chunks.get(index).filter(|chunk| chunk.n_tokens() > 0)?;
            let text = chunk.chunk_type() == MtmdInputChunkType::Text;
            let stage = if text { Stage::Text } else { Stage::Raw };
            Some(Part { chunks: chunks.clone(), index, tokens: chunk.n_tokens(), done: 0, stage })
        };
        let parts = (0..chunks.len()).filter_map(part).collect();
        let span = Span { at: 0, tokens, positions };
        (tokens > 0 && positions > 0).then_some(Self { span, number, parts, passed: 0 })
    }

    /// Tokens that can be evaluated now: none while the encoder is at work on what comes next.
    pub fn ready(&self) -> usize {
        match self.parts.front() {
            Some(part) if matches!(part.stage, Stage::Text | Stage::Encoded(_)) => part.tokens - part.done,
            _ => 0,
        }
    }

    /// All of it is evaluated.
    pub fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    /// Evaluates `most` of its next tokens at the most, in the sequence of `slot`, where it begins at `position`; of an image whose tokens
    /// all see each other all. Gives how many that were. On failure a part of them may be there.
    ///
    /// # Errors
    /// In llama.cpp's words; when a batch cannot hold the image.
    pub fn evaluate(
        &mut self,
        projector: &Projector,
        context: &mut LlamaContext<'_>,
        slot: usize,
        position: usize,
        most: usize,
    ) -> Result<usize, EngineError> {
        let Some(part) = self.parts.front_mut() else { return Ok(0) };
        let evaluated = part.evaluate(projector, context, slot, position + self.passed, most)?;
        if part.done == part.tokens {
            self.passed += usize::try_from(part.chunk().n_positions()).unwrap_or(0);
            self.parts.pop_front();
        }
        Ok(evaluated)
    }
}

/// The next part that the encoder may begin with, if it is not far ahead already.
pub fn unencoded(media: &mut VecDeque<Medium>) -> Option<&mut Part> {
    let mut ahead = 0;
    for part in media.iter_mut().flat_map(|medium| &mut medium.parts) {
        match part.stage {
            Stage::Raw if ahead < AHEAD => return Some(part),
            Stage::Raw => return None,
            Stage::Asked | Stage::Encoded(_) => ahead += 1,
            Stage::Text => {}
        }
    }
    None
}

/// Takes the encoder's work on the part that was asked for first.
pub fn encoded(media: &mut VecDeque<Medium>, embeddings: Vec<f32>) {
    let mut parts = media.iter_mut().flat_map(|medium| &mut medium.parts);
    if let Some(part) = parts.find(|part| matches!(part.stage, Stage::Asked)) {
        part.stage = Stage::Encoded(embeddings);
    }
}

impl Part {
    fn chunk(&self) -> MtmdInputChunk<'_> {
        self.chunks.get(self.index).expect("a part of its own medium: a bug")
    }

    /// What the encoder has to do for it.
    pub fn ask(&mut self) -> impl FnOnce(&Projector) -> Result<Vec<f32>, EngineError> + Send + use<> {
        self.stage = Stage::Asked;
        let (chunks, index) = (self.chunks.clone(), self.index);
        move |projector| projector.encode(&chunks.get(index).expect("a part of its own medium: a bug"))
    }

    fn evaluate(
        &mut self,
        projector: &Projector,
        context: &mut LlamaContext<'_>,
        slot: usize,
        position: usize,
        most: usize,
    ) -> Result<usize, EngineError> {
        let chunk = self.chunk();
        let (rest, done) = (self.tokens - self.done, self.done);
        let both_ways = !matches!(self.stage, Stage::Text) && projector.sees_both_ways(&chunk);
        let held = context.n_ubatch() as usize;
        if both_ways && rest > held {
            return Err(EngineError::Invalid(format!("the image takes {rest} tokens, a batch holds {held}")));
        }
        let count = if both_ways { rest } else { most.min(rest) };
        let start = i32::try_from(position).map_err(|error| EngineError::Failed(error.to_string()))?;
        let (evaluated, said) = log::errors_of(|| match &self.stage {
            Stage::Text => text(context, &chunk, done..done + count, start, sequence(slot)),
            Stage::Encoded(rows) => {
                let width = rows.len() / self.tokens;
                let places = projector.positions(&chunk, start, done..done + count);
                let rows = &rows[done * width..(done + count) * width];
                raw::decode(context, rows, &places, sequence(slot), both_ways).map_err(|code| code.to_string())
            }
            Stage::Raw | Stage::Asked => Ok(()),
        });
        evaluated.map_err(|code| match said.first() {
            Some(line) => EngineError::Failed(reason(line).to_owned()),
            None => EngineError::Failed(format!("an image or a sound cannot be evaluated: {code}")),
        })?;
        drop(chunk);
        self.done += count;
        Ok(count)
    }
}

/// Evaluates the tokens in `range` of a part that is text.
fn text(
    context: &mut LlamaContext<'_>,
    chunk: &MtmdInputChunk<'_>,
    range: std::ops::Range<usize>,
    start: i32,
    sequence: i32,
) -> Result<(), String> {
    let tokens = chunk.text_tokens().unwrap_or_default();
    let mut batch = LlamaBatch::new(range.len(), 1);
    for (position, token) in (start..).zip(tokens).skip(range.start).take(range.len()) {
        batch.add(*token, position, &[sequence], false).map_err(|error| error.to_string())?;
    }
    context.decode(&mut batch).map_err(|error| error.to_string())
}

impl Projector {
    /// Where the tokens in `range` of a part are that begins at `start`.
    fn positions(&self, chunk: &MtmdInputChunk<'_>, start: i32, range: std::ops::Range<usize>) -> Vec<Position> {
        let image = if self.in_dimensions() { raw::positions(chunk, start) } else { None };
        let place = |at: usize| match &image {
            Some(place) => place(at),
            None => [start.saturating_add(i32::try_from(at).unwrap_or(i32::MAX)); 4],
        };
        range.map(place).collect()
    }
}
