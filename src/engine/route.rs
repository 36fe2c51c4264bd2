//! Which engine runs a model, with how much context and how many sequences at once, and how much memory that takes.

use super::request::{EngineKind, LoadSpec, Saving};
use crate::gguf::{Gguf, Metadata};
use crate::store::{Capability, MediaType, Model, ModelFormat, StoreError};
use crate::types::{Guessing, LoadOptions};

/// Context of one sequence when nobody says.
const CONTEXT: i64 = 4096;
/// Ollama's own lower bounds; an image alone takes hundreds of tokens.
const LEAST_CONTEXT: i64 = 4;
const LEAST_CONTEXT_WITH_IMAGES: i64 = 2048;
/// Sequences at once when nobody says, as far as memory goes.
const PARALLEL: u32 = 4;
/// Part of the free memory that a model may take with more than one sequence.
const SHARE: f64 = 0.5;
/// Buffers for one batch, or for one image, by experience.
const COMPUTE: u64 = 128 << 20;
/// Bytes of an element of the cache (F16).
const CACHE_ELEMENT: u64 = 2;

/// What the server gives when a request does not say.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Context of one sequence; zero is ours.
    pub context: u32,
    /// Sequences at once; zero is what fits.
    pub parallel: u32,
    /// Free memory in bytes, when that is known.
    pub available: Option<u64>,
    pub guessing: Guessing,
    /// Where prompts are saved, if they are.
    pub saving: Option<Saving>,
}

/// How a model is to be loaded.
#[derive(Clone, Debug)]
pub struct Plan {
    pub spec: LoadSpec,
    /// Bytes it will take, about.
    pub estimate: u64,
}

/// # Errors
/// When blobs of the model are missing, or no engine of this program runs it.
pub fn plan(model: &Model, options: &LoadOptions, defaults: Defaults) -> Result<Plan, StoreError> {
    let weights = model.weights()?;
    let head = model.head();
    let capabilities = model.base_capabilities();
    let embedding = capabilities.contains(&Capability::Embedding);
    let sees = capabilities.iter().any(|kind| matches!(kind, Capability::Vision | Capability::Audio));
    let engine = match model.format() {
        Some(ModelFormat::Gguf) => EngineKind::Llama,
        _ => EngineKind::Mistral,
    };

    let mut options = options.clone();
    if options.num_ctx == 0 {
        options.num_ctx = if defaults.context == 0 { CONTEXT } else { i64::from(defaults.context) };
    }
    options.num_ctx = bounded(options.num_ctx, sees, model.details().context_length);

    let guesses = defaults.guessing != Guessing::Off && options.draft_num_predict > 0 && !embedding;

    let context = u64::try_from(options.num_ctx).unwrap_or(0);
    let drafts = model.draft_head().filter(|_| guesses);
    let sequence = head.iter().chain(&drafts).map(|head| cache_bytes(head, context)).sum::<u64>();
    // A draft that is not loaded takes nothing.
    let left_out: u64 = match guesses {
        true => 0,
        false => model.manifest.layers_of(MediaType::Draft).map(|layer| layer.size).sum(),
    };
    let weights_bytes = model.size() - left_out;
    let projectors = model.projectors();
    let compute = COMPUTE * (1 + projectors.len() as u64 + u64::from(drafts.is_some()));
    let estimate = |parallel: u32| {
        let caches = if embedding { 0 } else { sequence.saturating_mul(parallel.into()) };
        weights_bytes.saturating_add(caches).saturating_add(compute)
    };
    let fits = |parallel: u32| {
        defaults.available.is_none_or(|available| estimate(parallel) as f64 <= available as f64 * SHARE)
    };
    let parallel = match defaults.parallel {
        // Texts to embed are packed by tokens, not by sequences.
        _ if embedding => 1,
        0 => (1..=PARALLEL).rev().find(|count| fits(*count)).unwrap_or(1),
        asked => asked,
    };
    // Only llama.cpp gives its state away.
    let saving = defaults.saving.filter(|_| engine == EngineKind::Llama && !embedding);
    let spec = LoadSpec {
        engine,
        weights,
        adapters: model.adapters(),
        projectors,
        drafts: if guesses { model.drafts() } else { Vec::new() },
        guessing: if guesses { defaults.guessing } else { Guessing::Off },
        options,
        parallel,
        embedding,
        saving,
    };
    Ok(Plan { spec, estimate: estimate(parallel) })
}

/// A context that a model can have: neither too small for an answer nor larger than what it was `trained` for.
fn bounded(asked: i64, sees: bool, trained: Option<u64>) -> i64 {
    let context = asked.max(if sees { LEAST_CONTEXT_WITH_IMAGES } else { LEAST_CONTEXT });
    let trained = trained.and_then(|length| i64::try_from(length).ok());
    trained.map_or(context, |trained| context.min(trained.max(LEAST_CONTEXT)))
}

/// Bytes of all caches of a model whose layers remember every token alike; `None` for others, which take less.
pub fn caches(spec: &LoadSpec, context: u64) -> Option<u64> {
    let head = Gguf::peek(spec.weights.first()?).ok()?;
    let differs = ["attention.sliding_window", "attention.kv_lora_rank", "ssm.conv_kernel"];
    let alike = differs.iter().all(|key| head.arch_u64(key).is_none_or(|value| value == 0));
    alike.then(|| cache_bytes(&head, context).saturating_mul(spec.parallel.max(1).into()))
}

/// Bytes of the key-value cache of one sequence.
fn cache_bytes(head: &Metadata, context: u64) -> u64 {
    let number = |key: &str| head.arch_u64(key);
    let layers = number("block_count").unwrap_or(0);
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    // An array of it means that layers differ: the most there can be is reckoned with.
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let width = number("embedding_length").unwrap_or(0) / heads;
    let key = number("attention.key_length").unwrap_or(width);
    let value = number("attention.value_length").unwrap_or(width);
    let token = layers.saturating_mul(kv_heads).saturating_mul(key.saturating_add(value));
    token.saturating_mul(CACHE_ELEMENT).saturating_mul(context)
}

/// Looks at the files before an engine does: a library's reader may crash where ours says what is wrong.
///
/// # Errors
/// What is wrong with the first file that is not sound, in words.
pub(super) fn check(spec: &LoadSpec) -> Result<(), String> {
    if spec.engine != EngineKind::Llama {
        return Ok(());
    }
    for path in spec.weights.iter().chain(&spec.adapters).chain(&spec.projectors) {
        Gguf::open(path).map_err(|error| format!("unable to load model: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::store::testing;

    fn tiny(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny").join(file)
    }

    #[test]
    fn the_tiny_model_s_cache() {
        let head = Gguf::peek(&tiny("tiny-f16.gguf")).unwrap();
        let number = |key: &str| head.arch_u64(key).unwrap();
        let token = number("block_count") * number("attention.head_count_kv") * 2 * number("attention.key_length") * 2;
        assert!(token > 0);
        assert_eq!(cache_bytes(&head, 100), token * 100);
    }

    /// Its weights, a cache of its own for each sequence, and buffers.
    #[test]
    fn a_draft_takes_memory_beside_its_model() {
        let (_folder, store) = testing::store();
        let layer = |kind, file| testing::layer(&store, kind, &std::fs::read(tiny(file)).unwrap());
        let (weights, draft) = (layer(MediaType::Model, "tiny-q8_0.gguf"), layer(MediaType::Draft, "tiny-q4_k_m.gguf"));
        let plain = testing::model(&store, "plain", vec![weights.clone()]);
        let drafted = testing::model(&store, "drafted", vec![weights, draft.clone()]);
        let planned = |name, guessing, defaults: Defaults| {
            let options = LoadOptions { num_ctx: 1000, ..LoadOptions::default() };
            plan(&store.model(name).unwrap(), &options, Defaults { guessing, ..defaults }).unwrap()
        };
        let estimate =
            |name, guessing, parallel| planned(name, guessing, Defaults { parallel, ..Defaults::default() }).estimate;
        let cache = cache_bytes(&Gguf::peek(&tiny("tiny-q4_k_m.gguf")).unwrap(), 1000);
        for parallel in [1, 4] {
            let [alone, with] = [&plain, &drafted].map(|name| estimate(name, Guessing::WherePays, parallel));
            assert_eq!(with - alone, draft.size + cache * u64::from(parallel) + COMPUTE, "{parallel}");
            assert_eq!(estimate(&drafted, Guessing::Off, parallel), alone, "it is not loaded");
        }
        // What has just room for four sequences has it for fewer beside a draft.
        let available = Some((estimate(&plain, Guessing::WherePays, 4) as f64 / SHARE) as u64);
        let parallel =
            |name| planned(name, Guessing::WherePays, Defaults { available, ..Defaults::default() }).spec.parallel;
        assert_eq!((parallel(&plain), parallel(&drafted)), (4, 1));
    }

    #[test]
    fn a_context_has_bounds() {
        assert_eq!(
            [i64::MIN, -1, 1, 4, 100, i64::MAX].map(|asked| bounded(asked, false, Some(4096))),
            [4, 4, 4, 4, 100, 4096]
        );
        assert_eq!((bounded(8, true, Some(4096)), bounded(8, false, Some(0)), bounded(8, false, None)), (2048, 4, 8));
    }

    #[test]
    fn a_file_that_is_no_model_is_said_to_be_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spec = LoadSpec {
            engine: EngineKind::Llama,
            weights: vec![file.path().to_owned()],
            adapters: Vec::new(),
            projectors: Vec::new(),
            drafts: Vec::new(),
            guessing: Guessing::default(),
            options: LoadOptions::default(),
            parallel: 1,
            embedding: false,
            saving: None,
        };
        assert!(check(&spec).unwrap_err().starts_with("unable to load model: "));
    }
}
