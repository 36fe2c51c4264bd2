//! The mistral.rs backend: safetensors and MLX folders. Nothing outside this folder names `mistralrs`.
//!
//! mistral.rs turns tokens into logits and does nothing else for us: prompts come to it as tokens, every token is chosen
//! by hanzod's sampler ([`generate`]), and what it would make of text, stop strings or templates is not used.
//!
//! Invariant: on a CPU one request is under way at a time, because there mistral.rs mixes up sequences of equal length;
//! the others wait in the order they came.

mod embed;
mod folder;
mod generate;
mod json;
mod load;
mod model;
mod panics;
mod tokenizer;
mod weights;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;

use self::load::Loaded;
use self::model::Model;
use super::backend::{Backend, Events};
use super::event::EngineError;
use super::protocol::{Command, SequenceId};
use super::request::{EmbedRequest, GenerateRequest, LoadSpec};

/// Runs safetensors models.
pub struct Mistral;

/// A request that waits for its turn.
struct Job {
    sequence: SequenceId,
    ask: Ask,
    /// Set from outside; looked at before each token.
    cancelled: Arc<AtomicBool>,
}

enum Ask {
    Generate(Box<GenerateRequest>),
    Embed(EmbedRequest),
}

impl Backend for Mistral {
    fn serve(&self, spec: &LoadSpec, commands: &mpsc::Receiver<Command>, events: &Events) -> Result<(), EngineError> {
        let panics = panics::Watch::new();
        let Loaded { model, report } = load::load(spec, events)?;
        panics.make_fatal();
        let slots = report.parallel;
        events.loaded(report);

        let (jobs, queue) = mpsc::channel();
        let queue = Mutex::new(queue);
        thread::scope(|scope| {
            for slot in 0..slots {
                let worker = thread::Builder::new().name(format!("slot {slot}"));
                if let Err(error) = worker.spawn_scoped(scope, || work(&model, &queue)) {
                    panics::end(&format!("cannot start a thread: {error}"));
                }
            }
            dispatch(&model, commands, jobs);
        });
        Ok(())
    }
}

/// Answers at once what needs no engine and queues the rest. Ends with the commands, and the workers with it.
fn dispatch(model: &Model, commands: &mpsc::Receiver<Command>, jobs: mpsc::Sender<Job>) {
    let mut cancels: HashMap<SequenceId, Weak<AtomicBool>> = HashMap::new();
    while let Ok(command) = commands.recv() {
        let (sequence, ask) = match command {
            Command::Generate { sequence, request } => (sequence, Ask::Generate(request)),
            Command::Embed { sequence, request } => (sequence, Ask::Embed(request)),
            Command::Tokenize { sequence, text, add_special } => {
                model.tokenize(sequence, &text, add_special);
                continue;
            }
            Command::Detokenize { sequence, tokens } => {
                model.detokenize(sequence, &tokens);
                continue;
            }
            Command::Cancel { sequence } => {
                if let Some(cancel) = cancels.remove(&sequence).and_then(|cancel| cancel.upgrade()) {
                    cancel.store(true, Ordering::Release);
                }
                continue;
            }
            Command::Load(_) | Command::Quantize(_) | Command::Leave => continue,
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        cancels.retain(|_, cancel| cancel.strong_count() > 0);
        cancels.insert(sequence, Arc::downgrade(&cancelled));
        // Workers take jobs for as long as this sender lives.
        jobs.send(Job { sequence, ask, cancelled }).ok();
    }
}

/// Takes one job after another, first come first served.
fn work(model: &Model, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { sequence, ask, cancelled }) = job else {
            return;
        };
        if cancelled.load(Ordering::Acquire) {
            continue;
        }
        match ask {
            Ask::Generate(request) => model.generate(sequence, &request, cancelled),
            Ask::Embed(request) => model.embed(sequence, &request, &cancelled),
        }
    }
}
