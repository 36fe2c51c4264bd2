//! Llama and its kin: Mistral is the same, and Mixtral has experts.

use super::{ATTENTION, Architecture, DECODER, FEED_FORWARD, FFN_NORM, Keys, Names, decoder, rope};
use crate::create::CreateError;
use crate::create::convert::config::Config;

pub(super) const LLAMA: Architecture = Architecture {
    classes: &["LlamaForCausalLM", "MistralForCausalLM"],
    name: "llama",
    inside: &[ATTENTION, FFN_NORM, FEED_FORWARD],
    pairs: true,
    made: rope::llama3,
    ..DECODER
};

const ROUTER: Names = &[("block_sparse_moe.gate", "ffn_gate_inp")];
const EXPERT: Names = &[("w1", "ffn_gate_exps"), ("w2", "ffn_down_exps"), ("w3", "ffn_up_exps")];

pub(super) const MIXTRAL: Architecture = Architecture {
    classes: &["MixtralForCausalLM"],
    inside: &[ATTENTION, FFN_NORM, ROUTER],
    experts: Some(("block_sparse_moe.experts.", EXPERT)),
    describe: mixtral,
    ..LLAMA
};

fn mixtral(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    keys.set("expert_count", &config.count("num_local_experts")?);
    keys.set("expert_used_count", &config.count("num_experts_per_tok")?);
    decoder(config, keys)
}
