//! BERT, which makes vectors of texts.

use super::{Architecture, DECODER, Keys, Names};
use crate::create::CreateError;
use crate::create::convert::config::Config;

const OUTSIDE: Names = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
];
const INSIDE: Names = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

pub(super) const BERT: Architecture = Architecture {
    classes: &["BertModel", "BertForMaskedLM"],
    name: "bert",
    prefixes: &["bert."],
    layers: "encoder.layer.",
    outside: OUTSIDE,
    inside: &[INSIDE],
    // positions are counted, and what is pooled is told elsewhere
    left_out: &["embeddings.position_ids", "pooler.", "cls."],
    describe: bert,
    ..DECODER
};

fn bert(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    keys.set("block_count", &config.layers()?);
    keys.set("context_length", &config.count("max_position_embeddings")?);
    keys.set("embedding_length", &config.count("hidden_size")?);
    keys.set("feed_forward_length", &config.count("intermediate_size")?);
    keys.set("attention.head_count", &config.heads()?);
    keys.set("attention.layer_norm_epsilon", &config.float_or("layer_norm_eps", 1e-12)?);
    keys.set("attention.causal", &false);
    Ok(())
}
