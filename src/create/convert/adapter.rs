//! A LoRA as PEFT saves it, planned as a GGUF file for the model that it changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::arch::{Architecture, Place, layer_of};
use super::folder::{Folder, word};
use super::model::Plan;
use super::tensor::{Float, Planned, Stored};
use crate::create::CreateError;
use crate::create::safetensors::bad;
use crate::gguf::{GgufWriter, Metadata};

/// What stands before a module's name.
const PREFIX: &str = "base_model.model.";

/// `base` is the metadata of the model that it is for.
pub(super) fn plan(folder: Folder<'_>, base: &Metadata) -> Result<Plan, CreateError> {
    let Some(config) = folder.json("adapter_config.json")? else {
        return bad("`adapter_config.json` is missing".to_owned());
    };
    check(&config)?;
    let architecture = Architecture::of_name(base.architecture())?;
    let mut writer = GgufWriter::default();
    writer.set("general.architecture", architecture.name);
    writer.set("general.type", "adapter");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", &alpha(&config)?);

    let mut pairs: BTreeMap<String, [Option<(String, Stored)>; 2]> = BTreeMap::new();
    for (name, stored) in folder.tensors("adapter_model")? {
        let Some((module, half)) = split(&name) else {
            return bad(format!("tensor `{name}` is not of a LoRA that can be converted to GGUF"));
        };
        let Some(Place::Tensor(ours)) = architecture.place(&format!("{module}.weight")) else {
            return bad(format!("tensor `{name}` has no place in a model of the kind {}", architecture.name));
        };
        if pairs.entry(ours).or_default()[half].replace((name.clone(), stored)).is_some() {
            return bad(format!("tensor `{name}` is there twice"));
        }
    }
    if pairs.is_empty() {
        return bad("the adapter has no tensors".to_owned());
    }
    let mut tensors = Vec::new();
    for (name, pair) in pairs {
        let [Some((from_a, a)), Some((from_b, b))] = pair else {
            return bad(format!("of `{name}` the adapter has only one half"));
        };
        if a.shape.len() != 2 || b.shape.len() != 2 || a.shape[0] != b.shape[1] {
            return bad(format!("tensors `{from_a}` and `{from_b}` do not go together"));
        }
        tensors.push(Planned::stored(&format!("{name}.lora_a"), &from_a, vec![a], Float::F32)?);
        let b = Planned::stored(&format!("{name}.lora_b"), &from_b, vec![b], Float::F32)?;
        tensors.push(match heads(architecture, &name) {
            Some(key) => b.paired(count(base, key)?)?,
            None => b,
        });
    }
    Plan::new(writer, tensors)
}

/// What a GGUF adapter cannot say is refused.
fn check(config: &Value) -> Result<(), CreateError> {
    if config["peft_type"] != "LORA" {
        return bad(format!("adapters of the type {:?} cannot be converted to GGUF", word(&config["peft_type"])));
    }
    let some = |value: &Value| match value {
        Value::Bool(on) => *on,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    };
    let odd = ["use_dora", "modules_to_save", "alpha_pattern", "trainable_token_indices"];
    match odd.into_iter().find(|key| some(&config[*key])) {
        Some(key) => bad(format!("a LoRA with `{key}` cannot be converted to GGUF")),
        None => Ok(()),
    }
}

/// By what llama.cpp scales: it divides by the rank.
fn alpha(config: &Value) -> Result<f32, CreateError> {
    let number = |key: &str| config[key].as_f64().filter(|number| *number > 0.0 && *number <= f32::MAX.into());
    let (Some(alpha), Some(rank)) = (number("lora_alpha"), number("r")) else {
        return bad("`adapter_config.json` has no `r` and `lora_alpha`, positive numbers".to_owned());
    };
    match config["use_rslora"] == true {
        // divided by the root of the rank
        true if config["rank_pattern"].as_object().is_none_or(serde_json::Map::is_empty) => {
            Ok((alpha * rank.sqrt()) as f32)
        }
        true => bad("a LoRA with `use_rslora` and `rank_pattern` cannot be converted to GGUF".to_owned()),
        false => Ok(alpha as f32),
    }
}

/// The module that a tensor changes, and which half it is.
fn split(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name).strip_suffix(".weight")?;
    let name = name.strip_suffix(".default").unwrap_or(name);
    let halves = [".lora_A", ".lora_B"];
    halves.into_iter().enumerate().find_map(|(half, end)| Some((name.strip_suffix(end)?, half)))
}

/// The key of the count of heads whose rows are put in pairs in the model that `name` is a tensor of.
fn heads(architecture: &Architecture, name: &str) -> Option<&'static str> {
    match layer_of(name)?.1 {
        "attn_q.weight" if architecture.pairs => Some("attention.head_count"),
        "attn_k.weight" if architecture.pairs => Some("attention.head_count_kv"),
        _ => None,
    }
}

fn count(base: &Metadata, key: &str) -> Result<u64, CreateError> {
    let count = base.arch_u64(key).or_else(|| base.arch_u64("attention.head_count"));
    count.map_or_else(|| bad(format!("the model has no `{key}`, which its adapter needs")), Ok)
}
