//! Phi-3 and Phi-4: queries, keys and values in one tensor, and gate and up in one.

use super::{Architecture, DECODER, FFN_NORM, Names, rope};

const FUSED: Names = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

pub(super) const PHI3: Architecture = Architecture {
    classes: &["Phi3ForCausalLM"],
    name: "phi3",
    inside: &[FUSED, FFN_NORM],
    made: rope::long,
    ..DECODER
};
