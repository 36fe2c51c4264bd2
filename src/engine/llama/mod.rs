//! llama.cpp as a backend: GGUF models, many sequences in one batch.
//!
//! llama.cpp makes logits of tokens; what is made of the logits is the engine's own, the same for every backend.
//! One thread owns the model's context and all sequences. What must be made for an answer first, a constraint, what there is to
//! see in an image or the tokens of a long text, is made beside it.

mod ahead;
mod cache;
mod decode;
mod device;
mod draft;
mod embed;
mod guess;
mod load;
mod log;
mod lookup;
#[cfg(feature = "portable")]
mod modules;
mod pace;
mod padding;
mod piece;
mod policy;
mod prompt;
mod quantize;
mod reader;
mod saver;
mod turns;
mod unnamed;
mod vision;
mod vocab;

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use llama_cpp_2::llama_backend::LlamaBackend;

use super::backend::{Backend, Events};
use super::event::EngineError;
use super::protocol::Command;
use super::request::LoadSpec;
use crate::types::Guessing;

pub use quantize::quantize;
use vocab::Vocab;

/// llama.cpp.
pub struct Llama;

/// llama.cpp, ready for this machine's processor.
///
/// # Errors
/// When it was begun already.
fn backend() -> Result<LlamaBackend, EngineError> {
    #[cfg(feature = "portable")]
    modules::load();
    LlamaBackend::init().map_err(|error| EngineError::Load(error.to_string()))
}

impl Backend for Llama {
    fn serve(&self, spec: &LoadSpec, commands: &Receiver<Command>, events: &Events) -> Result<(), EngineError> {
        log::listen();
        let backend = backend()?;
        let mut model = load::model(&backend, spec)?;
        let adapter = load::adapter(&mut model, spec)?;
        let model = Arc::new(model);
        let vocab = Vocab::new(&model);
        let mut limits = load::Limits::of(&model, spec);
        let projector = vision::projector(&model, spec)?;
        if let Some(projector) = &projector {
            limits.batch = limits.batch.max(projector.least_batch());
        }
        let mut context = if spec.embedding {
            load::embedding(&backend, &model, spec, limits)?
        } else {
            load::text(&backend, &model, spec, limits)?
        };
        if let Some(mut adapter) = adapter {
            context.lora_adapter_set(&mut adapter, 1.0).map_err(|error| EngineError::Load(error.to_string()))?;
        }
        // What the log says of the draft's memory is said by then of the model's.
        let traits = cache::Traits::of(&model, limits);
        let guessing = if traits.rolls_back() { spec.guessing } else { Guessing::Off };
        let draft_model = (guessing != Guessing::Off).then(|| draft::model(&backend, spec, &vocab.tokens)).flatten();
        let draft = draft_model.as_ref().and_then(|model| draft::Draft::new(&backend, model, spec, limits));
        let mut report = load::report(&model, &vocab, limits);
        if let Some(projector) = &projector {
            report.size += projector.size;
            report.size_vram += if report.size_vram > 0 { projector.size } else { 0 };
        }
        if spec.embedding {
            let embedder = embed::Embedder::new(context, &vocab, limits, events.clone());
            events.loaded(report);
            embedder.run(commands);
        } else {
            let ahead = ahead::Ahead::new(guessing, draft);
            let saver = saver::Saver::new(spec, limits, traits, &report.device);
            let reader = reader::Reader::new(&vocab, projector);
            let decoder = decode::Decoder::new(context, reader, traits, limits, ahead, events.clone());
            events.loaded(report);
            decoder.saving(saver).run(commands);
        }
        Ok(())
    }
}

/// The commands that need no more than the vocabulary.
fn common(vocab: &Vocab, command: Command, events: &Events) {
    match command {
        Command::Tokenize { sequence, text, add_special } => {
            events.tokens(sequence, vocab.tokenize(&text, add_special));
        }
        Command::Detokenize { sequence, tokens } => match vocab.detokenize(&tokens) {
            Ok(text) => events.text(sequence, text),
            Err(error) => events.failed(sequence, error),
        },
        Command::Load(_) | Command::Quantize(_) => tracing::warn!("a runner has one task: a second one is passed over"),
        Command::Generate { .. } | Command::Embed { .. } | Command::Cancel { .. } | Command::Leave => {}
    }
}
