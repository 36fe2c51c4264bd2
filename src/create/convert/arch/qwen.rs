//! Qwen2 (whose queries, keys and values have biases), Qwen3 (which norms queries and keys), and Qwen3 with experts.

use super::{ATTENTION, Architecture, DECODER, FEED_FORWARD, FFN_NORM, Keys, Names, QK_NORM, decoder};
use crate::create::CreateError;
use crate::create::convert::config::Config;
use crate::create::safetensors::bad;

pub(super) const QWEN2: Architecture = Architecture {
    classes: &["Qwen2ForCausalLM", "Qwen2Model"],
    name: "qwen2",
    inside: &[ATTENTION, FFN_NORM, FEED_FORWARD],
    ..DECODER
};

pub(super) const QWEN3: Architecture = Architecture {
    classes: &["Qwen3ForCausalLM", "Qwen3Model"],
    name: "qwen3",
    inside: &[ATTENTION, QK_NORM, FFN_NORM, FEED_FORWARD],
    ..DECODER
};

const ROUTER: Names = &[("mlp.gate", "ffn_gate_inp")];
const EXPERT: Names = &[("gate_proj", "ffn_gate_exps"), ("down_proj", "ffn_down_exps"), ("up_proj", "ffn_up_exps")];

pub(super) const QWEN3_MOE: Architecture = Architecture {
    classes: &["Qwen3MoeForCausalLM"],
    name: "qwen3moe",
    inside: &[ATTENTION, QK_NORM, FFN_NORM, ROUTER],
    experts: Some(("mlp.experts.", EXPERT)),
    describe: qwen3_moe,
    ..DECODER
};

fn qwen3_moe(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    let layers = config.get("mlp_only_layers").and_then(|layers| layers.as_array());
    if config.count_if("decoder_sparse_step")?.is_some_and(|step| step != 1) || layers.is_some_and(|it| !it.is_empty())
    {
        return bad("a model of which only some layers have experts cannot be converted to GGUF".to_owned());
    }
    keys.set("expert_count", &config.count("num_experts")?);
    keys.set("expert_used_count", &config.count("num_experts_per_tok")?);
    keys.set("expert_feed_forward_length", &config.count("moe_intermediate_size")?);
    decoder(config, keys)
}
