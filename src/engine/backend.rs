//! What a library must do to be a backend: load one model, then serve the sequences it is sent.

use std::sync::mpsc;

use super::event::{EngineError, RunnerReport, StepEvent};
use super::protocol::{Command, Event, SequenceId};
use super::request::{EmbedReply, LoadSpec};

/// A library that runs models. Lives in the child process.
pub trait Backend {
    /// Loads `spec`, says so with [`Events::loaded`], then serves `commands` until their channel closes or it is told to leave.
    /// The calling thread is unparked when a command has come.
    ///
    /// # Errors
    /// When the model cannot be loaded. After that, errors belong to sequences and go out as events.
    fn serve(&self, spec: &LoadSpec, commands: &mpsc::Receiver<Command>, events: &Events) -> Result<(), EngineError>;
}

/// Where a backend says what happens. Never blocks: the pipe has a thread of its own.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Event>);

impl Events {
    pub fn new(sender: mpsc::Sender<Event>) -> Self {
        Self(sender)
    }

    pub fn loaded(&self, report: RunnerReport) {
        self.send(Event::Loaded(Box::new(report)));
    }

    pub fn tensor_quantized(&self, name: &str) {
        self.send(Event::TensorQuantized(name.to_owned()));
    }

    pub fn step(&self, sequence: SequenceId, step: StepEvent) {
        self.send(Event::Step { sequence, step });
    }

    pub fn embedded(&self, sequence: SequenceId, reply: EmbedReply) {
        self.send(Event::Embedded { sequence, reply });
    }

    pub fn tokens(&self, sequence: SequenceId, tokens: Vec<u32>) {
        self.send(Event::Tokens { sequence, tokens });
    }

    pub fn text(&self, sequence: SequenceId, text: String) {
        self.send(Event::Text { sequence, text });
    }

    pub fn failed(&self, sequence: SequenceId, error: EngineError) {
        self.send(Event::Failed { sequence, error });
    }

    /// When the pipe's thread is gone so is the server, and this process is about to end.
    pub(super) fn send(&self, event: Event) {
        self.0.send(event).ok();
    }
}
