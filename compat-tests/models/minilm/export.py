"""Writes the folder of all-MiniLM-L6-v2 as a GGUF file for llama.cpp: F16 matrices, the rest F32.

    pip install gguf numpy safetensors
    python export.py MODEL_DIR OUT.gguf
"""
import json
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

NAMES = {
    "embeddings.LayerNorm": "token_embd_norm", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.word_embeddings": "token_embd",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}
UNUSED = ("embeddings.position_ids", "pooler.")  # positions are counted, and the mean of all tokens is taken, not the pooler's first
WHOLE = ("position_embd", "token_types")  # added up, not multiplied with: they stay F32
WORD_START, CONTINUES = "\u2581", "##"


def tensor_name(name):
    """`encoder.layer.0.output.dense.bias` → `blk.0.ffn_down.bias`"""
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("encoder.layer."):
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def marked(piece, special):
    """A WordPiece entry as llama.cpp spells it: what begins a word is marked, what continues one is not."""
    if special:
        return piece
    return piece.removeprefix(CONTINUES) if piece.startswith(CONTINUES) else WORD_START + piece


def add_hyperparameters(writer, config, pooling):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_causal_attention(False)
    if not pooling["pooling_mode_mean_tokens"]:
        raise SystemExit("the model pools otherwise than by the mean")
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_tokenizer(writer, tokenizer, config):
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"] if token["special"]}
    pieces = sorted(vocabulary, key=vocabulary.get)
    if [vocabulary[piece] for piece in pieces] != list(range(config["vocab_size"])):
        raise SystemExit("the vocabulary has gaps")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")  # llama.cpp's name for BERT's way to cut text into words
    writer.add_token_list([marked(piece, piece in special) for piece in pieces])
    writer.add_token_types([gguf.TokenType.CONTROL if piece in special else gguf.TokenType.NORMAL for piece in pieces])
    writer.add_bos_token_id(special["[CLS]"])
    writer.add_eos_token_id(special["[SEP]"])
    writer.add_unk_token_id(special["[UNK]"])
    writer.add_sep_token_id(special["[SEP]"])
    writer.add_pad_token_id(special["[PAD]"])
    writer.add_mask_token_id(special["[MASK]"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", tokenizer["normalizer"]["lowercase"])


def main(folder, out):
    folder = pathlib.Path(folder)
    read = lambda name: json.loads((folder / name).read_text())
    config = read("config.json")
    tensors = {tensor_name(name): array for name, array in load_file(folder / "model.safetensors").items()
               if not name.startswith(UNUSED)}
    writer = gguf.GGUFWriter(out, "bert")
    writer.add_type(gguf.GGUFType.MODEL)
    total = sum(array.size for array in tensors.values())
    metadata = gguf.Metadata.load(None, folder, None, total)  # name, licence and data sets, from the model's card
    metadata.size_label = gguf.size_label(total, 0, 0, 0)
    metadata.set_gguf_meta_model(writer)
    add_hyperparameters(writer, config, read("1_Pooling/config.json"))
    add_tokenizer(writer, read("tokenizer.json"), config)
    for name, array in tensors.items():
        half = array.ndim == 2 and not name.startswith(WHOLE)
        writer.add_tensor(name, array.astype(np.float16 if half else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
