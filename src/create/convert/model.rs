//! A folder of safetensors planned as one GGUF file: every tensor has its place, what describes it stands at the head.

use std::collections::{BTreeMap, BTreeSet};

use super::arch::{Architecture, Place, layer_of};
use super::config::Config;
use super::folder::Folder;
use super::pooling;
use super::tensor::{Float, Planned, Stored};
use super::vocab::Vocabulary;
use crate::create::CreateError;
use crate::create::safetensors::bad;
use crate::gguf::{FileType, GgufWriter};

/// The version of ggml's quantisations that all files of today have.
const QUANTIZATION_VERSION: u32 = 2;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) writer: GgufWriter,
    /// In the writer's order.
    pub(super) tensors: Vec<Planned>,
}

impl Plan {
    pub(super) fn new(mut writer: GgufWriter, tensors: Vec<Planned>) -> Result<Self, CreateError> {
        for tensor in &tensors {
            let described = writer.tensor(&tensor.name, tensor.to.kind(), &tensor.shape);
            described.map_err(|error| CreateError::Files(error.to_string()))?;
        }
        Ok(Self { writer, tensors })
    }

    /// Reads what describes the model. `to` is the type of its matrices; without one they stay what most of them are.
    pub(super) fn of_model(folder: Folder<'_>, to: Option<Float>) -> Result<Self, CreateError> {
        let config = Config::read(folder)?;
        let architecture = Architecture::of_class(config.class()?)?;
        let config = config.with_defaults(architecture.defaults);
        let mut found = find(folder, architecture, &config)?;
        let to = match to {
            Some(to) => to,
            None => most_common(&found)?,
        };

        let embedding = found.get("token_embd.weight").and_then(|(_, parts)| parts[0].shape.first().copied());
        let Some(rows) = embedding.filter(|rows| *rows > 0) else {
            return bad("the model has no embedding of tokens among its tensors".to_owned());
        };
        check_layers(&found, config.layers()?)?;
        let vocabulary = Vocabulary::read(folder, rows)?;

        let mut writer = GgufWriter::default();
        writer.set("general.architecture", architecture.name);
        writer.set("general.type", "model");
        let kind = FileType::parse(to.kind().name()).expect("every float is a file type: a bug");
        writer.set("general.file_type", &kind.id());
        writer.set("general.quantization_version", &QUANTIZATION_VERSION);
        architecture.describe(&config, &mut writer)?;
        if let Some(pooling) = pooling::kind(folder, architecture.name)? {
            writer.set(&format!("{}.pooling_type", architecture.name), &pooling);
        }
        let whole = folder.json("config.json")?.unwrap_or_default();
        if architecture.name == "bert" {
            writer.set("tokenizer.ggml.token_type_count", &config.count_if("type_vocab_size")?.unwrap_or(1));
        }
        vocabulary.write(folder, &whole, &mut writer)?;

        let mut tensors = Vec::new();
        for (name, numbers) in (architecture.made)(&config)? {
            tensors.push(Planned::made(name, numbers));
        }
        // the two that are outside all layers and needed first, then layer by layer
        let outside = |name: &str| layer_of(name).map(|(layer, _)| layer);
        let mut names: Vec<String> = found.keys().cloned().collect();
        names.sort_by_key(|name| (outside(name), name.clone()));
        for name in names {
            let (from, parts) = found.remove(&name).expect("the name is one of its keys: a bug");
            tensors.push(planned(architecture, &config, &name, &from, parts, to)?);
        }
        Self::new(writer, tensors)
    }
}

/// Tensors by their names in GGUF, each with its name in safetensors and its parts.
type Found = BTreeMap<String, (String, Vec<Stored>)>;

fn find(folder: Folder<'_>, architecture: &Architecture, config: &Config) -> Result<Found, CreateError> {
    let mut found = Found::new();
    let mut experts: BTreeMap<String, BTreeMap<u32, (String, Stored)>> = BTreeMap::new();
    let tied = config.flag("tie_word_embeddings");
    for (name, stored) in folder.tensors("model")? {
        match architecture.place(&name) {
            Some(Place::Nowhere) => {}
            // the embedding once more
            Some(Place::Tensor(ours)) if ours == "output.weight" && tied => {}
            Some(Place::Tensor(ours)) => {
                if let Some((other, _)) = found.insert(ours, (name.clone(), vec![stored])) {
                    return bad(format!("tensors `{other}` and `{name}` are the same to the model"));
                }
            }
            Some(Place::Expert { name: ours, number }) => {
                experts.entry(ours).or_default().insert(number, (name, stored));
            }
            None => return bad(format!("tensor `{name}` has no place in a model of the kind {}", architecture.name)),
        }
    }
    for (ours, parts) in experts {
        let count = config.count_if("num_local_experts")?.map_or_else(|| config.count("num_experts"), Ok)?;
        if parts.len() as u64 != u64::from(count) || !parts.keys().copied().eq(0..count) {
            return bad(format!("of {count} experts {} have the tensor `{ours}`", parts.len()));
        }
        let (names, parts): (Vec<String>, Vec<Stored>) = parts.into_values().unzip();
        if let Some(other) = parts.iter().position(|part| part.shape != parts[0].shape || part.dtype != parts[0].dtype)
        {
            return bad(format!("tensors `{}` and `{}` do not go together", names[0], names[other]));
        }
        found.insert(ours, (names[0].clone(), parts));
    }
    Ok(found)
}

/// The type of most numbers in matrices.
fn most_common(found: &Found) -> Result<Float, CreateError> {
    let mut counts: BTreeMap<Float, u64> = BTreeMap::new();
    for (from, parts) in found.values().filter(|(_, parts)| parts[0].shape.len() > 1) {
        let count: u64 = parts.iter().map(|part| part.shape.iter().product::<u64>()).sum();
        let counted = counts.entry(parts[0].float(from)?).or_default();
        *counted = counted.saturating_add(count);
    }
    Ok(counts.into_iter().max_by_key(|(_, count)| *count).map_or(Float::F16, |(float, _)| float))
}

/// There must be as many layers as the config says, and each must have what the first has.
fn check_layers(found: &Found, count: u32) -> Result<(), CreateError> {
    let mut layers: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
    for (layer, name) in found.keys().filter_map(|name| layer_of(name)) {
        layers.entry(layer).or_default().insert(name);
    }
    if layers.len() as u64 != u64::from(count) || !layers.keys().copied().eq(0..count) {
        return bad(format!("the model has {count} layers, but there are tensors for {}", layers.len()));
    }
    let first = layers.values().next().cloned().unwrap_or_default();
    for (layer, names) in &layers {
        if let Some(name) = first.symmetric_difference(names).next() {
            return bad(format!("layers 0 and {layer} differ: only one of them has `{name}`"));
        }
    }
    for part in ["attn_output.weight", "ffn_down"] {
        if !first.iter().any(|name| name.starts_with(part)) {
            return bad(format!("the layers of the model have no `{part}`"));
        }
    }
    Ok(())
}

fn planned(
    architecture: &Architecture,
    config: &Config,
    name: &str,
    from: &str,
    parts: Vec<Stored>,
    to: Float,
) -> Result<Planned, CreateError> {
    // what is added or looked up rather than multiplied with is small and stays whole
    let whole = parts[0].shape.len() < 2
        || ["ffn_gate_inp.weight", "position_embd.weight", "token_types.weight"].iter().any(|end| name.ends_with(end));
    let planned = Planned::stored(name, from, parts, if whole { Float::F32 } else { to })?;
    let inner = layer_of(name).map_or(name, |(_, inner)| inner);
    if inner.ends_with("norm.weight") && architecture.norm_plus != 0.0 {
        return Ok(planned.plus(architecture.norm_plus));
    }
    match inner.split('.').next() {
        Some("attn_q") if architecture.pairs => planned.paired(config.heads()?.into()),
        Some("attn_k") if architecture.pairs => planned.paired(config.kv_heads()?.into()),
        _ => Ok(planned),
    }
}
