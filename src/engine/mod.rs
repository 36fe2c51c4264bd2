//! Running a loaded model, in a child process of this same binary.
//!
//! An [`Engine`] loads a model and gives a [`Runner`]; a runner takes requests and gives streams of events. The one engine
//! of the program is [`process::ProcessEngine`]: it starts `hanzod runner`, which runs one of two backends behind one
//! trait, [`Backend`](backend::Backend), and talks framed messages over its pipes ([`protocol`]). A [`Quantizer`] starts the
//! same child to make a smaller model of one.
//!
//! Invariant: a runner's death is an error of the requests it was serving, and of nothing else.

#[cfg(any(feature = "llama", feature = "mistral", test))]
mod answer;
pub mod backend;
pub mod child;
#[cfg(any(feature = "llama", feature = "mistral", test))]
mod constraint;
#[cfg(any(feature = "llama", feature = "mistral", test))]
mod detokenize;
pub mod event;
#[cfg(feature = "llama")]
mod llama;
mod memory;
#[cfg(feature = "mistral")]
mod mistral;
#[cfg(any(feature = "llama", test))]
mod picture;
#[cfg(any(feature = "llama", test))]
mod preparing;
pub mod process;
pub mod protocol;
pub mod quantize;
pub mod request;
pub mod route;
#[cfg(any(feature = "llama", feature = "mistral", test))]
mod sampler;
#[cfg(any(feature = "llama", test))]
mod saved;
mod spawn;
#[cfg(any(feature = "llama", feature = "mistral", test))]
mod tokens;

pub use event::{Completion, EngineError, FinishReason, RunnerReport, StepEvent, TokenLogprob, Usage};
pub use memory::available as available_memory;
pub use quantize::Quantizer;
pub use request::{
    Constraint, EmbedReply, EmbedRequest, EngineKind, GenerateRequest, LoadSpec, PromptPart, QuantizeSpec, Saving,
};

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::future::BoxFuture;

/// One answer as it comes. The last item of a good answer is [`StepEvent::Done`]; dropping the stream cancels it.
pub type StepStream = Pin<Box<dyn Stream<Item = Result<StepEvent, EngineError>> + Send>>;

/// Loads models.
pub trait Engine: Send + Sync + 'static {
    /// Loads what `spec` names. Dropping the future ends the load.
    fn load(&self, spec: LoadSpec) -> BoxFuture<'static, Result<Arc<dyn Runner>, EngineError>>;
}

/// A loaded model. Dropping the last handle unloads it.
pub trait Runner: Send + Sync + 'static {
    /// What the model and its device turned out to be.
    fn report(&self) -> &RunnerReport;

    /// False once the runner has died; it will not come back.
    fn is_alive(&self) -> bool;

    /// Resolves when it has given back all that it took, some time after its last handle was dropped.
    fn gone(&self) -> BoxFuture<'static, ()>;

    fn generate(&self, request: GenerateRequest) -> StepStream;

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<EmbedReply, EngineError>>;

    /// The tokens of `text`; `add_special` puts the model's own first and last tokens around it. Text of special tokens
    /// is read as those tokens.
    fn tokenize(&self, text: String, add_special: bool) -> BoxFuture<'static, Result<Vec<u32>, EngineError>>;

    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'static, Result<String, EngineError>>;
}

/// The backend that runs models of `kind`.
///
/// # Errors
/// When this build has none.
fn backend_of(kind: EngineKind) -> Result<Box<dyn backend::Backend>, EngineError> {
    match kind {
        #[cfg(feature = "llama")]
        EngineKind::Llama => Ok(Box::new(llama::Llama)),
        #[cfg(feature = "mistral")]
        EngineKind::Mistral => Ok(Box::new(mistral::Mistral)),
        #[allow(unreachable_patterns, reason = "with every feature there is a backend for every kind")]
        other => Err(EngineError::Load(format!("this build of hanzod has no {other:?} engine"))),
    }
}

/// Quantises in this process, with llama.cpp.
///
/// # Errors
/// When it fails, or this build has no llama.cpp.
fn quantize_here(spec: &QuantizeSpec, events: &backend::Events) -> Result<(), EngineError> {
    #[cfg(feature = "llama")]
    return llama::quantize(spec, events);
    #[cfg(not(feature = "llama"))]
    {
        let _ = (spec, events);
        Err(EngineError::Quantize("this build of hanzod has no llama.cpp".into()))
    }
}
