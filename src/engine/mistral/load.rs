//! Loads a folder into mistral.rs: from local paths only, without its hub client, its caches and its templates.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mistralrs::core::{
    AdapterPaths, EmbeddingLoaderBuilder, EmbeddingModelPaths, EmbeddingSpecificConfig, Loader, LocalModelPaths,
    MistralRsBuilder, ModelPaths, NormalLoaderBuilder, NormalSpecificConfig, Pipeline,
};
use mistralrs::{
    DefaultSchedulerMethod, Device, DeviceMapSetting, MemoryGpuConfig, MistralRs, ModelDType, PagedAttentionConfig,
    PagedCacheType, SchedulerConfig, paged_attn_supported,
};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::folder::{Family, Folder};
use super::json::{read_json, refuse};
use super::model::Model;
use super::panics::caught;
use super::tokenizer::Tokenizer;
use crate::engine::backend::Events;
use crate::engine::constraint::Vocabulary;
use crate::engine::event::{EngineError, RunnerReport};
use crate::engine::request::LoadSpec;

/// Times the engine's thread may win its race for the pipeline's lock; it is lost by chance and rarely.
const TRIES: usize = 5;

/// A model at work, and what it turned out to be.
pub struct Loaded {
    pub model: Model,
    pub report: RunnerReport,
}

/// # Errors
/// When the folder is no model that can be loaded here.
pub fn load(spec: &LoadSpec, events: &Events) -> Result<Loaded, EngineError> {
    let folder = Folder::open(spec)?;
    let embedding = matches!(folder.family, Family::Embedding(_));
    let (tokenizer, tokens) = Tokenizer::open(&folder, embedding)?;
    let tokens = Arc::new(tokens);
    let device = device(spec)?;
    if device.is_cpu()
        && let Some(method @ ("gptq" | "awq" | "mxfp4")) = folder.quantisation()
    {
        return Err(refuse(format!("`{method}` weights need a GPU")));
    }
    let parallel = if device.is_cpu() { 1 } else { spec.parallel.max(1) };
    let trained = folder.number("max_position_embeddings");
    let wanted = u64::try_from(spec.options.num_ctx).unwrap_or(0).max(1);
    let context = trained.map_or(wanted, |trained| trained.min(wanted)) as usize;

    let pipeline = pipeline(&folder, &device, context * parallel as usize)?;
    let metadata = pipeline.try_lock().map_err(|_| refuse("the model is in use"))?.get_metadata();
    let context = context.min(metadata.max_seq_len);
    let (float, cache) = (metadata.activation_dtype.size_in_bytes() as u64, metadata.model_metadata.as_ref());
    let cache = cache.map_or(0, |model| model.num_layers() * model.kv_cache_elements_per_token()) as u64 * float;
    let size = folder.weights.floats * float + folder.weights.others + cache * context as u64 * u64::from(parallel);

    let slots = NonZeroUsize::new(parallel as usize).unwrap_or(NonZeroUsize::MIN);
    let scheduler = match metadata.cache_config.clone() {
        Some(config) => SchedulerConfig::PagedAttentionMeta { max_num_seqs: slots.get(), config },
        None => SchedulerConfig::DefaultScheduler { method: DefaultSchedulerMethod::Fixed(slots) },
    };
    let engine = start(&pipeline, &scheduler)?;
    let requests = engine.get_sender(None).map_err(|error| refuse(format!("mistral.rs does not start: {error}")))?;

    let special = |end: &&u32| tokens.is_special(**end);
    let end = tokens.ends().iter().find(special).or(tokens.ends().first()).copied().unwrap_or(0);
    let bos = tokenizer.prefix();
    let report = RunnerReport {
        context_length: context as u64,
        train_context_length: trained.unwrap_or(metadata.max_seq_len as u64),
        embedding_length: folder.number("hidden_size").unwrap_or(0),
        parallel,
        size,
        size_vram: if device.is_cpu() { 0 } else { size },
        device: describe(&device),
        bos: (!bos.is_empty()).then(|| tokens.text(bos)),
    };
    let model = Model {
        _engine: engine,
        requests,
        numbers: AtomicUsize::new(1),
        events: events.clone(),
        tokenizer,
        constraints: Vocabulary::new(tokens.clone()),
        tokens,
        context,
        end,
        embedding,
    };
    Ok(Loaded { model, report })
}

/// The accelerator this build has a door to, else the CPU.
fn device(spec: &LoadSpec) -> Result<Device, EngineError> {
    if spec.options.num_gpu == 0 {
        return Ok(Device::Cpu);
    }
    let ordinal = spec.options.main_gpu.and_then(|gpu| usize::try_from(gpu).ok()).unwrap_or(0);
    caught(|| match Device::cuda_if_available(ordinal)? {
        Device::Cpu => Ok(Device::metal_if_available(ordinal)?),
        device => Ok(device),
    })
}

fn describe(device: &Device) -> String {
    match device {
        // The kernels of candle are chosen when they are compiled, not when they run.
        Device::Cpu => {
            let kernels = [
                ("AVX2", cfg!(target_feature = "avx2")),
                ("FMA", cfg!(target_feature = "fma")),
                ("AVX512", cfg!(target_feature = "avx512f")),
                ("NEON", cfg!(target_feature = "neon")),
            ];
            let kernels: Vec<&str> = kernels.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
            if kernels.is_empty() { "CPU".into() } else { format!("CPU ({})", kernels.join(", ")) }
        }
        device => format!("{:?}", device.location()),
    }
}

type SharedPipeline = Arc<Mutex<dyn Pipeline + Send + Sync>>;

/// `room` is the tokens of all sequences together, for which a paged cache is laid out.
fn pipeline(folder: &Folder, device: &Device, room: usize) -> Result<SharedPipeline, EngineError> {
    // On a CPU "auto" would come to F16, which candle's kernels turn into F32 value by value: slower, and with less range.
    let dtype = if device.is_cpu() { ModelDType::F32 } else { ModelDType::Auto };
    let name = folder.path.display().to_string();
    caught(|| {
        let (loader, paths, paged): (Box<dyn Loader>, Box<dyn ModelPaths>, _) = match &folder.family {
            Family::Text(kind) => {
                let builder =
                    NormalLoaderBuilder::new(NormalSpecificConfig::default(), None, None, Some(name), false, None);
                let paged = (paged_attn_supported() && !device.is_cpu())
                    .then(|| PagedAttentionConfig::new(None, MemoryGpuConfig::ContextSize(room), PagedCacheType::Auto))
                    .transpose()?;
                (builder.build(Some(kind.clone()))?, Box::new(text_paths(folder)), paged)
            }
            Family::Embedding(kind) => {
                let builder = EmbeddingLoaderBuilder::new(EmbeddingSpecificConfig::default(), None, Some(name));
                (builder.build(Some(kind.clone())), Box::new(embedding_paths(folder)?), None)
            }
        };
        // In-situ quantisation, when it comes, is the argument before the last: `mistralrs::parse_isq_value` reads its name.
        loader.load_model_from_path(&paths, &dtype, device, true, DeviceMapSetting::dummy(), None, paged)
    })
}

/// No template and no generation config: hanzod renders prompts and knows the ends itself, and some templates make
/// mistral.rs look for a vocabulary in the network.
fn text_paths(folder: &Folder) -> LocalModelPaths<PathBuf> {
    LocalModelPaths {
        tokenizer_filename: folder.path.join("tokenizer.json"),
        config_filename: folder.path.join("config.json"),
        template_filename: None,
        filenames: folder.weights.files.clone(),
        adapter_paths: AdapterPaths::None,
        gen_conf: None,
        preprocessor_config: None,
        processor_config: None,
        chat_template_json_filename: None,
    }
}

fn embedding_paths(folder: &Folder) -> anyhow::Result<EmbeddingModelPaths<PathBuf>> {
    Ok(EmbeddingModelPaths {
        tokenizer_filename: folder.path.join("tokenizer.json"),
        config_filename: folder.path.join("config.json"),
        filenames: folder.weights.files.clone(),
        adapter_paths: AdapterPaths::None,
        // mistral.rs does not export the type of a module, but it can be read.
        modules: serde_json::from_value(modules(&folder.path)?)?,
    })
}

/// The steps from the last layer to the vector, from `modules.json`, with their files.
fn modules(folder: &Path) -> anyhow::Result<Value> {
    let list: Value = serde_json::from_reader(std::fs::File::open(folder.join("modules.json"))?)?;
    let mut modules = Vec::new();
    for module in list.as_array().into_iter().flatten() {
        let path = module["path"].as_str().unwrap_or_default();
        let file = |name: &str| folder.join(path).join(name);
        let kind = module["type"].as_str().unwrap_or_default();
        modules.push(match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => json!({ "Transformer": { "path": path } }),
            "Normalize" => json!({ "Normalize": { "path": path } }),
            "Dense" => json!({ "Dense": { "path": path, "config": file("config.json"),
                "model": file("model.safetensors") } }),
            "Pooling" => {
                let config = read_json(&folder.join(path), "config.json")?;
                let unknown = ["cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens"]
                    .into_iter()
                    .find(|mode| config[format!("pooling_mode_{mode}")] == true);
                if let Some(mode) = unknown {
                    anyhow::bail!("pooling by `{mode}` is not supported");
                }
                json!({ "Pooling": { "path": path, "config": file("config.json") } })
            }
            other => anyhow::bail!("a module `{other}` is not supported"),
        });
    }
    anyhow::ensure!(
        modules.first().is_some_and(|first| first.get("Transformer").is_some()),
        "`modules.json` is broken"
    );
    Ok(Value::Array(modules))
}

/// Starts mistral.rs's thread.
fn start(pipeline: &SharedPipeline, scheduler: &SchedulerConfig) -> Result<Arc<MistralRs>, EngineError> {
    let runtime = caught(|| Ok(tokio::runtime::Builder::new_current_thread().build()?))?;
    let paged = matches!(scheduler, SchedulerConfig::PagedAttentionMeta { .. });
    let mut started = Err(refuse("mistral.rs does not start"));
    for _ in 0..TRIES {
        // It wants the pipeline's lock at once, while its new thread may hold it already, and panics then.
        started = caught(|| {
            let builder = MistralRsBuilder::new(pipeline.clone(), scheduler.clone(), false, None)
                // Outside a paged cache what is remembered is never forgotten, and slightly wrong.
                .with_no_prefix_cache(!paged)
                .with_disable_eos_stop(true);
            Ok(runtime.block_on(builder.build()))
        });
        if started.is_ok() {
            break;
        }
    }
    started
}
