//! Looking and listening beside the thread on which answers are written: images and sounds are encoded on one of its own, and what
//! comes of it waits for its turn in the batches.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Projector;
use super::medium::{self, Medium};
use crate::engine::event::EngineError;
use crate::engine::preparing::Preparing;
use crate::engine::protocol::SequenceId;

/// A model's eyes and ears, if it has any.
pub struct Eyes {
    projector: Option<Arc<Projector>>,
    encoding: Preparing<SequenceId, Vec<f32>>,
}

impl Eyes {
    pub fn new(projector: Option<Arc<Projector>>) -> Self {
        Self { projector, encoding: Preparing::default() }
    }

    /// What media were read with.
    pub fn projector(&self) -> &Arc<Projector> {
        self.projector.as_ref().expect("what was read with a projector has one: a bug")
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
        self.encoding.cancel(sequence);
    }
}
