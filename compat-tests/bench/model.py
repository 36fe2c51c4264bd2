"""Makes a GGUF file of the shape of Qwen3-0.6B with random weights: what it says is noise, how fast it says it is not.

    pip install gguf numpy
    python model.py OUT.gguf [Q8_0 | Q4_0 | F16]
"""
import itertools
import string
import sys

import gguf
import numpy as np

LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD, VOCABULARY, CONTEXT = 28, 1024, 3072, 16, 8, 128, 151_936, 40_960
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def byte_symbols():
    """The letter that byte-level BPE writes for each of the 256 bytes."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = itertools.count(256)
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def vocabulary():
    """(tokens, merges): bytes, then pairs of letters, then pairs after a space, then pairs of pairs until it is full."""
    tokens, merges = byte_symbols(), []
    space = tokens[ord(" ")]
    pairs = ["".join(pair) for pair in itertools.product(string.ascii_lowercase, repeat=2)]
    joins = itertools.chain(((pair[0], pair[1]) for pair in pairs), ((space, pair) for pair in pairs),
                            ((space + one, two) for one, two in itertools.product(pairs[:200], pairs)),
                            itertools.product(pairs, pairs))
    room = VOCABULARY - len(SPECIAL) - len(tokens)
    seen = set(tokens)
    for one, two in joins:
        if room == 0:
            break
        if one + two not in seen:
            seen.add(one + two)
            tokens.append(one + two)
            merges.append(f"{one} {two}")
            room -= 1
    return tokens + SPECIAL, merges


def tensors():
    """Names and shapes, rows first."""
    yield "token_embd.weight", (VOCABULARY, WIDTH)
    yield "output_norm.weight", (WIDTH,)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (WIDTH,), "attn_q": (HEADS * HEAD, WIDTH), "attn_k": (KV_HEADS * HEAD, WIDTH), "attn_v": (KV_HEADS * HEAD, WIDTH),
            "attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,), "attn_output": (WIDTH, HEADS * HEAD), "ffn_norm": (WIDTH,),
            "ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN),
        }.items():
            yield f"blk.{layer}.{name}.weight", shape


def main(out, kind="Q8_0"):
    quantised = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(out, "qwen3", use_temp_file=True)
    writer.add_name("Random weights in the shape of Qwen3 0.6B")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tokens, merges = vocabulary()
    end = {token: len(tokens) - len(SPECIAL) + index for index, token in enumerate(SPECIAL)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in end else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(end["<|im_end|>"])
    writer.add_pad_token_id(end["<|endoftext|>"])
    writer.add_bos_token_id(end["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    random = np.random.default_rng(0)
    for name, shape in tensors():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            weights = random.standard_normal(shape, np.float32) * np.float32(0.02)
            writer.add_tensor(name, gguf.quants.quantize(weights, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
