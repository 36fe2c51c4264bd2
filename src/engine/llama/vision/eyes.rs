//! Looking and listening beside the thread on which answers are written: files are read on one thread and encoded on another, and
//! what comes of it waits for its turn in the batches.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Projector;
use super::medium::{self, Medium};
use crate::engine::event::EngineError;
use crate::engine::preparing::Preparing;
use crate::engine::protocol::SequenceId;
use crate::engine::request::{GenerateRequest, PromptPart};

/// A request whose images and sounds were read.
type Read = (Box<GenerateRequest>, VecDeque<Medium>);

/// A model's eyes and ears, if it has any.
pub struct Eyes {
    projector: Option<Arc<Projector>>,
    reading: Preparing<SequenceId, Read>,
    encoding: Preparing<SequenceId, Vec<f32>>,
}

impl Eyes {
    pub fn new(projector: Option<Projector>) -> Self {
        Self { projector: projector.map(Arc::new), reading: Preparing::default(), encoding: Preparing::default() }
    }

    /// What media were read with.
    pub fn projector(&self) -> &Arc<Projector> {
        self.projector.as_ref().expect("what was read with a projector has one: a bug")
    }

    /// Begins to read the images and sounds of `request`, or gives it back when there is nothing to read, or nobody who could.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn read(
        &mut self,
        sequence: SequenceId,
        mut request: Box<GenerateRequest>,
    ) -> Result<Option<Box<GenerateRequest>>, EngineError> {
        let sees = request.prompt.iter().any(|part| matches!(part, PromptPart::Media(_)));
        let Some(projector) = self.projector.clone().filter(|_| sees) else { return Ok(Some(request)) };
        let read = move || {
            let mut media = VecDeque::new();
            for part in &mut request.prompt {
                if let PromptPart::Media(file) = part {
                    // The file is not needed any more, and may be large.
                    media.push_back(projector.read(&std::mem::take(file), media.len())?);
                }
            }
            Ok((request, media))
        };
        self.reading.start(sequence, sequence, read).map(|()| None)
    }

    /// The requests that were read since the last time.
    pub fn have_read(&mut self) -> Vec<(SequenceId, Result<Read, EngineError>)> {
        self.reading.done()
    }

    /// Has the encoder begin with what comes next of `media`, which an answer waits for.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn encode(&mut self, sequence: SequenceId, media: &mut VecDeque<Medium>) -> Result<(), EngineError> {
        while let Some(part) = medium::unencoded(media) {
            let (projector, work) = (self.projector().clone(), part.ask());
            self.encoding.start(sequence, sequence, move || work(&projector))?;
        }
        Ok(())
    }

    /// What was encoded since the last time.
    pub fn have_encoded(&mut self) -> Vec<(SequenceId, Result<Vec<f32>, EngineError>)> {
        self.encoding.done()
    }

    pub fn cancel(&mut self, sequence: SequenceId) {
        self.reading.cancel(sequence);
        self.encoding.cancel(sequence);
    }
}
