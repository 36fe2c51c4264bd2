//! The families of models that can be converted: what their tensors and their numbers are called in GGUF.

mod bert;
mod gemma;
mod llama;
mod phi3;
mod qwen;
mod rope;

use std::fmt;

use super::config::Config;
use crate::create::CreateError;
use crate::create::safetensors::bad;
use crate::gguf::{Field, GgufWriter};

/// Names in safetensors and in GGUF.
type Names = &'static [(&'static str, &'static str)];

/// Tensors by their names that are made of numbers in `config.json`.
pub(super) type Made = Vec<(&'static str, Vec<f32>)>;

pub(super) struct Architecture {
    /// Names of classes in transformers.
    classes: &'static [&'static str],
    /// `general.architecture`
    pub(super) name: &'static str,
    /// What may stand before a tensor's name, longest first.
    prefixes: &'static [&'static str],
    /// What stands before a layer's number.
    layers: &'static str,
    outside: Names,
    /// The tables of names within a layer.
    inside: &'static [Names],
    /// Where the experts of a layer stand, and the names within each.
    experts: Option<(&'static str, Names)>,
    /// Beginnings of the names of tensors that the text of the model does without.
    left_out: &'static [&'static str],
    /// The rows of queries and keys are put in pairs.
    pub(super) pairs: bool,
    /// Is added to the weights of norms.
    pub(super) norm_plus: f32,
    pub(super) defaults: &'static [(&'static str, f64)],
    describe: fn(&Config, &mut Keys<'_>) -> Result<(), CreateError>,
    /// Tensors that are in no file.
    pub(super) made: fn(&Config) -> Result<Made, CreateError>,
}

const ALL: [&Architecture; 10] = [
    &llama::LLAMA,
    &llama::MIXTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3_MOE,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi3::PHI3,
    &bert::BERT,
];

/// Where a tensor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: the model does without it.
    Nowhere,
    Tensor(String),
    /// On top of those of the experts before it.
    Expert {
        name: String,
        number: u32,
    },
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Architecture {
    /// # Errors
    /// When it is none of ours.
    pub(super) fn of_class(class: &str) -> Result<&'static Self, CreateError> {
        let known = ALL.into_iter().find(|architecture| architecture.classes.contains(&class));
        known.map_or_else(|| bad(format!("the architecture {class:?} cannot be converted to GGUF")), Ok)
    }

    /// The first of this name in GGUF, for adapters: those of one name have the same names for their tensors.
    pub(super) fn of_name(name: &str) -> Result<&'static Self, CreateError> {
        let known = ALL.into_iter().find(|architecture| architecture.name == name);
        known.map_or_else(|| bad(format!("an adapter for the architecture {name:?} cannot be converted to GGUF")), Ok)
    }

    pub(super) fn describe(&self, config: &Config, writer: &mut GgufWriter) -> Result<(), CreateError> {
        let mut keys = Keys { architecture: self.name, writer };
        (self.describe)(config, &mut keys)
    }

    /// Where the tensor of this name goes; `None` when the architecture has no such tensor.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        if self.left_out.iter().any(|beginning| name.starts_with(beginning)) {
            return Some(Place::Nowhere);
        }
        let short = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        // counted from the positions anew
        if short.ends_with("rotary_emb.inv_freq") || self.left_out.iter().any(|beginning| short.starts_with(beginning))
        {
            return Some(Place::Nowhere);
        }
        let (stem, kind) = short.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
        let find = |names: Names, stem: &str| names.iter().find(|(theirs, _)| *theirs == stem).map(|(_, ours)| *ours);
        let Some(rest) = stem.strip_prefix(self.layers) else {
            return find(self.outside, stem).map(|ours| Place::Tensor(format!("{ours}.{kind}")));
        };
        let (layer, rest) = rest.split_once('.')?;
        let layer = number(layer)?;
        if let Some((experts, names)) = self.experts
            && let Some(rest) = rest.strip_prefix(experts)
        {
            let (number_, rest) = rest.split_once('.')?;
            let name = format!("blk.{layer}.{}.{kind}", find(names, rest)?);
            return Some(Place::Expert { name, number: number(number_)? });
        }
        let ours = self.inside.iter().find_map(|names| find(names, rest))?;
        Some(Place::Tensor(format!("blk.{layer}.{ours}.{kind}")))
    }
}

/// A number as it is written in names: of digits, with no zero before them.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The layer that a tensor of a GGUF file belongs to, and its name there.
pub(super) fn layer_of(name: &str) -> Option<(u32, &str)> {
    let (layer, name) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, name))
}

/// Metadata under an architecture's name.
pub(super) struct Keys<'a> {
    architecture: &'static str,
    writer: &'a mut GgufWriter,
}

impl Keys<'_> {
    pub(super) fn set<F: Field + ?Sized>(&mut self, key: &str, value: &F) {
        self.writer.set(&format!("{}.{key}", self.architecture), value);
    }
}

/// What all models that write text have.
const OUTSIDE: Names = &[("embed_tokens", "token_embd"), ("norm", "output_norm"), ("lm_head", "output")];
const ATTENTION: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
];
const QK_NORM: Names = &[("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];
const FEED_FORWARD: Names = &[("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];
const FFN_NORM: Names = &[("post_attention_layernorm", "ffn_norm")];

/// What the others are taken from.
const DECODER: Architecture = Architecture {
    classes: &[],
    name: "",
    prefixes: &["model."],
    layers: "layers.",
    outside: OUTSIDE,
    inside: &[],
    experts: None,
    left_out: &[],
    pairs: false,
    norm_plus: 0.0,
    defaults: &[],
    describe: decoder,
    made: |_| Ok(Vec::new()),
};

/// The numbers of all models that write text.
fn decoder(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    keys.set("block_count", &config.layers()?);
    keys.set("context_length", &config.count_if("max_position_embeddings")?.unwrap_or(2048));
    keys.set("embedding_length", &config.count("hidden_size")?);
    keys.set("feed_forward_length", &config.count("intermediate_size")?);
    keys.set("attention.head_count", &config.heads()?);
    keys.set("attention.head_count_kv", &config.kv_heads()?);
    keys.set("attention.layer_norm_rms_epsilon", &config.float_or("rms_norm_eps", 1e-6)?);
    let head = config.head()?;
    keys.set("attention.key_length", &head);
    keys.set("attention.value_length", &head);
    rope::describe(config, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_have_their_place() {
        let place = |class, name| Architecture::of_class(class).unwrap().place(name);
        let tensor = |name: &str| Some(Place::Tensor(name.to_owned()));
        for (class, name, expected) in [
            ("LlamaForCausalLM", "model.embed_tokens.weight", tensor("token_embd.weight")),
            ("LlamaForCausalLM", "lm_head.weight", tensor("output.weight")),
            ("LlamaForCausalLM", "model.layers.11.self_attn.q_proj.bias", tensor("blk.11.attn_q.bias")),
            ("LlamaForCausalLM", "model.layers.0.self_attn.rotary_emb.inv_freq", Some(Place::Nowhere)),
            ("LlamaForCausalLM", "model.layers.01.mlp.up_proj.weight", None),
            ("LlamaForCausalLM", "model.layers.1.self_attn.q_norm.weight", None),
            ("LlamaForCausalLM", "model.layers.99999999999.mlp.up_proj.weight", None),
            ("Qwen3ForCausalLM", "layers.2.self_attn.q_norm.weight", tensor("blk.2.attn_q_norm.weight")),
            (
                "Gemma2ForCausalLM",
                "model.layers.2.post_attention_layernorm.weight",
                tensor("blk.2.post_attention_norm.weight"),
            ),
            ("Gemma3ForConditionalGeneration", "language_model.model.norm.weight", tensor("output_norm.weight")),
            ("Gemma3ForConditionalGeneration", "vision_tower.a.weight", Some(Place::Nowhere)),
            ("Phi3ForCausalLM", "model.layers.2.mlp.gate_up_proj.weight", tensor("blk.2.ffn_up.weight")),
            ("BertModel", "bert.encoder.layer.3.attention.self.query.bias", tensor("blk.3.attn_q.bias")),
            ("BertModel", "embeddings.LayerNorm.weight", tensor("token_embd_norm.weight")),
            ("BertModel", "pooler.dense.weight", Some(Place::Nowhere)),
            (
                "MixtralForCausalLM",
                "model.layers.1.block_sparse_moe.experts.7.w2.weight",
                Some(Place::Expert { name: "blk.1.ffn_down_exps.weight".to_owned(), number: 7 }),
            ),
        ] {
            assert_eq!(place(class, name), expected, "{name}");
        }
        let error = Architecture::of_class("OwlForCausalLM").unwrap_err();
        assert_eq!(error.to_string(), "the architecture \"OwlForCausalLM\" cannot be converted to GGUF");
    }
}
