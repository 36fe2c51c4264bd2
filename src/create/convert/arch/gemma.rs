//! Gemma, Gemma 2, and the text side of Gemma 3. Their norms keep what is to be added to one.

use super::{ATTENTION, Architecture, DECODER, FEED_FORWARD, FFN_NORM, Keys, Names, QK_NORM, decoder};
use crate::create::CreateError;
use crate::create::convert::config::Config;

pub(super) const GEMMA: Architecture = Architecture {
    classes: &["GemmaForCausalLM"],
    name: "gemma",
    inside: &[ATTENTION, FFN_NORM, FEED_FORWARD],
    norm_plus: 1.0,
    left_out: &["lm_head."],
    defaults: &[("head_dim", 256.0), ("max_position_embeddings", 8192.0)],
    ..DECODER
};

const FOUR_NORMS: Names = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

pub(super) const GEMMA2: Architecture = Architecture {
    classes: &["Gemma2ForCausalLM"],
    name: "gemma2",
    inside: &[ATTENTION, FOUR_NORMS, FEED_FORWARD],
    defaults: &[
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 8192.0),
        ("sliding_window", 4096.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
    ],
    describe: gemma2,
    ..GEMMA
};

fn gemma2(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(cap) = config.float(key)? {
            keys.set(key, &cap);
        }
    }
    keys.set("attention.sliding_window", &config.count("sliding_window")?);
    decoder(config, keys)
}

pub(super) const GEMMA3: Architecture = Architecture {
    classes: &["Gemma3ForCausalLM", "Gemma3TextModel", "Gemma3ForConditionalGeneration"],
    name: "gemma3",
    prefixes: &["language_model.model.", "model.language_model.", "model."],
    inside: &[ATTENTION, QK_NORM, FOUR_NORMS, FEED_FORWARD],
    left_out: &[
        "lm_head.",
        "language_model.lm_head.",
        "vision_tower.",
        "multi_modal_projector.",
        "model.vision_tower.",
        "model.multi_modal_projector.",
    ],
    // what the files of the larger ones leave out
    defaults: &[
        ("num_attention_heads", 8.0),
        ("num_key_value_heads", 4.0),
        ("head_dim", 256.0),
        ("max_position_embeddings", 131_072.0),
        ("sliding_window", 4096.0),
        ("rope_theta", 1_000_000.0),
        ("rope_local_base_freq", 10_000.0),
    ],
    describe: gemma3,
    ..GEMMA
};

fn gemma3(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    if let Some(cap) = config.float("final_logit_softcapping")? {
        keys.set("final_logit_softcapping", &cap);
    }
    keys.set("attention.sliding_window", &config.count("sliding_window")?);
    // layers that look only so far back turn faster
    let local = config.get("rope_parameters").and_then(|it| it.pointer("/sliding_attention/rope_theta")?.as_f64());
    let local = local.filter(|base| *base > 0.0 && base.is_finite()).map(|base| base as f32);
    keys.set("rope.freq_base_swa", &local.map_or_else(|| config.float_or("rope_local_base_freq", 10_000.0), Ok)?);
    decoder(config, keys)
}
