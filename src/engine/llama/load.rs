//! From a [`LoadSpec`] to a model and a context of llama.cpp.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::params::{LlamaModelParams, LlamaSplitMode};
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use tempfile::TempDir;

use super::device;
use super::log;
use super::vocab::Vocab;
use crate::engine::event::{EngineError, RunnerReport};
use crate::engine::request::LoadSpec;
use crate::engine::{memory, route};
use crate::types::LoadOptions;

/// Sequences of one batch of texts to embed.
pub const EMBED_SEQUENCES: u32 = 64;
/// llama.cpp's own bounds.
const MOST_SEQUENCES: u32 = 256;
const MOST_THREADS: i64 = 512;

fn failed(what: &str, error: impl std::fmt::Display) -> EngineError {
    EngineError::Load(match log::last_error() {
        Some(said) => format!("{what}: {said}"),
        None => format!("{what}: {error}"),
    })
}

/// # Errors
/// When a file is missing, broken, or of a kind that llama.cpp does not run.
pub fn model(backend: &LlamaBackend, spec: &LoadSpec) -> Result<LlamaModel, EngineError> {
    for path in spec.weights.iter().chain(&spec.adapters).chain(&spec.projectors) {
        std::fs::metadata(path).map_err(|error| EngineError::Load(format!("{}: {error}", path.display())))?;
    }
    let LoadOptions { num_gpu, main_gpu, use_mmap, .. } = spec.options;
    let mut params = LlamaModelParams::default();
    if let Ok(layers) = u32::try_from(num_gpu) {
        params = params.with_n_gpu_layers(layers);
    }
    if let Some(gpu) = main_gpu.and_then(|gpu| i32::try_from(gpu).ok()) {
        params = params.with_split_mode(LlamaSplitMode::None).with_main_gpu(gpu);
    }
    if let Some(mmap) = use_mmap {
        params = params.with_use_mmap(mmap);
    }
    let (first, _folder) = first_part(&spec.weights)?;
    let model = LlamaModel::load_from_file(backend, &first, &params);
    let model = model.map_err(|error| failed("unable to load model", error))?;
    if architecture(&model) == "t5" {
        return Err(EngineError::Load("models with an encoder and a decoder are not supported".into()));
    }
    if !spec.embedding && !is_causal(&model) {
        return Err(EngineError::Load("this model does not write text from left to right".into()));
    }
    Ok(model)
}

/// The file by which llama.cpp finds all parts of a model, and the folder it is in, to be held while they are read.
///
/// # Errors
/// When there are no parts, or a folder of links cannot be made.
pub fn first_part(parts: &[PathBuf]) -> Result<(PathBuf, Option<TempDir>), EngineError> {
    match parts {
        [] => Err(EngineError::Load("no weights are given".into())),
        [path] => Ok((path.clone(), None)),
        parts => {
            // llama.cpp finds the parts of a model by their names, which ours have lost.
            let folder = tempfile::tempdir().map_err(|error| EngineError::Load(error.to_string()))?;
            let name = |part: usize| folder.path().join(format!("model-{:05}-of-{:05}.gguf", part + 1, parts.len()));
            for (index, part) in parts.iter().enumerate() {
                link(part, &name(index)).map_err(|error| EngineError::Load(format!("{}: {error}", part.display())))?;
            }
            Ok((name(0), Some(folder)))
        }
    }
}

#[cfg(unix)]
fn link(file: &Path, name: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(std::path::absolute(file)?, name)
}

#[cfg(not(unix))]
fn link(file: &Path, name: &Path) -> std::io::Result<()> {
    std::fs::hard_link(file, name)
}

/// # Errors
/// When there is more than one adapter, or it does not fit the model.
pub fn adapter(model: &mut LlamaModel, spec: &LoadSpec) -> Result<Option<LlamaLoraAdapter>, EngineError> {
    match &spec.adapters[..] {
        [] => Ok(None),
        [path] => model.lora_adapter_init(path).map(Some).map_err(|error| failed("unable to load the adapter", error)),
        _ => Err(EngineError::Load("only one adapter is supported".into())),
    }
}

/// Sizes that the whole backend keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens of one sequence.
    pub context: usize,
    /// Sequences at once.
    pub parallel: u32,
    /// Tokens of one batch, unless a text to embed is longer.
    pub batch: usize,
}

impl Limits {
    /// The options, bounded by what the model was trained for.
    pub fn of(model: &LlamaModel, spec: &LoadSpec) -> Self {
        let asked = u32::try_from(spec.options.num_ctx).unwrap_or(u32::MAX).max(1);
        let trained = if model.n_ctx_train() == 0 { u32::MAX } else { model.n_ctx_train() };
        let parallel = spec.parallel.clamp(1, MOST_SEQUENCES);
        // The lowest of the bounds keeps the context's size in llama.cpp's 32 bits.
        let context = asked.min(trained).min(i32::MAX as u32 / parallel) as usize;
        let batch = usize::try_from(spec.options.num_batch).unwrap_or(512).clamp(1, 1 << 16);
        Self { context, parallel, batch: batch.max(parallel as usize) }
    }
}

/// A context for text: a buffer of cache cells for each sequence.
///
/// In a common one a batch of any mix of sequences is one pass over the weights, but every step looks through the cells of all
/// of them, those kept for a later turn included: measured, that cost more than the passes into which llama.cpp splits a
/// mixed batch (runs of neighbouring sequences, equal lengths together).
///
/// # Errors
/// When memory is short.
pub fn text<'m>(
    backend: &LlamaBackend,
    model: &'m LlamaModel,
    spec: &LoadSpec,
    limits: Limits,
) -> Result<LlamaContext<'m>, EngineError> {
    check_memory(spec, limits)?;
    let cells = u32::try_from(limits.context).unwrap_or(u32::MAX).saturating_mul(limits.parallel);
    let batch = u32::try_from(limits.batch).unwrap_or(u32::MAX);
    let params = base(spec, cells)
        .with_n_batch(batch)
        .with_n_ubatch(batch)
        .with_n_seq_max(limits.parallel)
        .with_kv_unified(false)
        .with_swa_full(false);
    context(backend, model, params)
}

/// Refuses caches that the machine has no memory for. The system might give llama.cpp the addresses all the same, and end
/// some process when they are used.
fn check_memory(spec: &LoadSpec, limits: Limits) -> Result<(), EngineError> {
    if device::accelerated() {
        // Their memory is their own, and is only given where it is.
        return Ok(());
    }
    let (needed, available) = (route::caches(spec, limits.context as u64), memory::available());
    match needed.zip(available) {
        Some((needed, available)) if needed > available => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let (needed, available) = (gib(needed), gib(available));
            let text = format!(
                "model requires more system memory ({needed:.1} GiB) than is available ({available:.1} GiB) for {} tokens of \
                 context",
                limits.context
            );
            Err(EngineError::Load(text))
        }
        _ => Ok(()),
    }
}

/// A context for embeddings. Its memory is emptied after each batch, so it holds one batch.
///
/// # Errors
/// When memory is short.
pub fn embedding<'m>(
    backend: &LlamaBackend,
    model: &'m LlamaModel,
    spec: &LoadSpec,
    limits: Limits,
) -> Result<LlamaContext<'m>, EngineError> {
    let whole = u32::try_from(limits.context.max(limits.batch)).unwrap_or(u32::MAX);
    let causal = is_causal(model);
    let pooling = metadata(model, "pooling_type").and_then(|kind| kind.parse::<i32>().ok()).unwrap_or(0);
    // A model that names no pooling was made for text: its last token has seen all others.
    let named = match pooling {
        0 if causal => LlamaPoolingType::Last,
        0 => LlamaPoolingType::Mean,
        _ => LlamaPoolingType::Unspecified,
    };
    // Only the last token's vector can be had when a text goes through in several passes.
    let in_passes =
        causal && matches!(LlamaPoolingType::from(pooling), LlamaPoolingType::None | LlamaPoolingType::Last);
    let pass = if in_passes { u32::try_from(limits.batch).unwrap_or(u32::MAX) } else { whole };
    let params = base(spec, whole)
        .with_n_batch(whole)
        .with_n_ubatch(pass)
        .with_n_seq_max(EMBED_SEQUENCES)
        .with_kv_unified(true)
        .with_embeddings(true)
        .with_pooling_type(named);
    context(backend, model, params)
}

pub fn threads(spec: &LoadSpec) -> i32 {
    let asked = spec.options.num_thread;
    if asked > 0 { asked.min(MOST_THREADS) as i32 } else { device::cores() }
}

fn base(spec: &LoadSpec, cells: u32) -> LlamaContextParams {
    let threads = threads(spec);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cells))
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
}

fn context<'m>(
    backend: &LlamaBackend,
    model: &'m LlamaModel,
    params: LlamaContextParams,
) -> Result<LlamaContext<'m>, EngineError> {
    model.new_context(backend, params).map_err(|error| failed("unable to make a context", error))
}

fn is_causal(model: &LlamaModel) -> bool {
    metadata(model, "attention.causal").is_none_or(|causal| causal != "false")
}

pub fn architecture(model: &LlamaModel) -> String {
    model.meta_val_str("general.architecture").unwrap_or_default()
}

/// The value of `<architecture>.<key>`.
pub fn metadata(model: &LlamaModel, key: &str) -> Option<String> {
    model.meta_val_str(&format!("{}.{key}", architecture(model))).ok()
}

/// What there is to say about a model whose context is made.
pub fn report(model: &LlamaModel, vocab: &Vocab, limits: Limits) -> RunnerReport {
    let buffers = log::buffers();
    let size_vram = buffers.on_accelerators();
    let bos = vocab.bos().map(|bos| vocab.tokens.text(&[bos]));
    RunnerReport {
        context_length: limits.context as u64,
        train_context_length: model.n_ctx_train().into(),
        embedding_length: u64::try_from(model.n_embd_out()).unwrap_or(0),
        parallel: limits.parallel,
        size: buffers.total().max(model.size()),
        size_vram,
        device: device::words(size_vram > 0),
        bos,
    }
}
