"""Writes small projectors with random weights for the tiny model, and a picture to be seen with them.

    pip install gguf==0.19.0 numpy==2.4.6 pillow==13.0.0
    python make.py FOLDER

A projector of random weights shows nothing, but shows it always in the same way: the same image gives the same embeddings and another
image gives others, which is all that a test of the way to the model needs.
"""
import pathlib
import sys

import gguf
import numpy as np
from PIL import Image, ImageDraw

WIDTH = 256  # of the tiny model's embeddings
EMBEDDING, HEADS, FORWARD, PATCH = 32, 2, 48, 8
HIDDEN = 32  # of what follows the tower


class Projector:
    def __init__(self, path, kind, image_size, width, seed, blocks=1):
        self.random = np.random.default_rng(seed)
        self.writer = writer = gguf.GGUFWriter(path, "clip")
        writer.add_type("mmproj")
        writer.add_name(f"Random {kind} projector")
        writer.add_license("apache-2.0")
        writer.add_string("clip.projector_type", kind)
        writer.add_bool("clip.has_vision_encoder", True)
        writer.add_bool("clip.use_gelu", True)
        writer.add_uint32("clip.vision.image_size", image_size)
        writer.add_uint32("clip.vision.patch_size", PATCH)
        writer.add_uint32("clip.vision.embedding_length", EMBEDDING)
        writer.add_uint32("clip.vision.feed_forward_length", FORWARD)
        writer.add_uint32("clip.vision.block_count", blocks)
        self.blocks = blocks
        writer.add_uint32("clip.vision.projection_dim", width)
        writer.add_uint32("clip.vision.attention.head_count", HEADS)
        writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
        writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
        writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
        self.patches = (image_size // PATCH) ** 2

    def weight(self, name, *shape, scale=None):
        scale = scale if scale is not None else shape[-1] ** -0.5
        self.writer.add_tensor(name, (self.random.standard_normal(shape) * scale).astype(np.float16))

    def vector(self, name, length, around=0.0):
        self.writer.add_tensor(name, (around + self.random.standard_normal(length) * 0.1).astype(np.float32))

    def linear(self, name, rows, columns):
        self.weight(f"{name}.weight", rows, columns)
        self.vector(f"{name}.bias", rows)

    def norm(self, name):
        self.vector(f"{name}.weight", EMBEDDING, around=1.0)
        self.vector(f"{name}.bias", EMBEDDING)

    def tower(self, joined=False):
        self.weight("v.patch_embd.weight", EMBEDDING, 3, PATCH, PATCH, scale=0.15)
        self.writer.add_tensor("v.position_embd.weight",
                               (self.random.standard_normal((self.patches, EMBEDDING)) * 0.2).astype(np.float32))
        for block in range(self.blocks):
            name = f"v.blk.{block}"
            if joined:
                self.linear(f"{name}.attn_qkv", 3 * EMBEDDING, EMBEDDING)
            else:
                for part in "qkv":
                    self.linear(f"{name}.attn_{part}", EMBEDDING, EMBEDDING)
            self.linear(f"{name}.attn_out", EMBEDDING, EMBEDDING)
            self.linear(f"{name}.ffn_up", FORWARD, EMBEDDING)
            self.linear(f"{name}.ffn_down", EMBEDDING, FORWARD)
            self.norm(f"{name}.ln1")
            self.norm(f"{name}.ln2")
        self.norm("v.post_ln")

    def write(self):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def llava(path, width=WIDTH):
    """LLaVA's: an image of any size is 16 tokens. The last block of its tower is not used."""
    projector = Projector(path, "mlp", 32, width, seed=1, blocks=2)
    projector.writer.add_bool("clip.has_llava_projector", True)
    projector.tower()
    projector.linear("mm.0", HIDDEN, EMBEDDING)
    projector.linear("mm.2", width, HIDDEN)
    projector.write()


def gemma3(path):
    """Gemma 3's: 16 tokens that all see each other."""
    projector = Projector(path, "gemma3", 64, WIDTH, seed=2)
    projector.writer.add_uint32("clip.vision.projector.scale_factor", 2)
    projector.tower()
    projector.vector("v.patch_embd.bias", EMBEDDING)
    projector.vector("mm.soft_emb_norm.weight", EMBEDDING, around=1.0)
    projector.weight("mm.input_projection.weight", EMBEDDING, WIDTH, scale=EMBEDDING ** -0.5)
    projector.write()


def qwen3vl(path):
    """Qwen3-VL's: as many tokens as the image is large, with positions in two dimensions."""
    projector = Projector(path, "qwen3vl_merger", 64, WIDTH, seed=3)
    projector.writer.add_uint32("clip.vision.spatial_merge_size", 2)
    projector.tower(joined=True)
    projector.weight("v.patch_embd.weight.1", EMBEDDING, 3, PATCH, PATCH, scale=0.15)
    projector.vector("v.patch_embd.bias", EMBEDDING)
    projector.linear("mm.0", HIDDEN, 4 * EMBEDDING)
    projector.linear("mm.2", WIDTH, HIDDEN)
    projector.write()


def ultravox(path):
    """Ultravox's, for sounds: 75 tokens for half a minute or a part of it."""
    width, hidden, stack, mels, frames = 8, 32, 20, 80, 1500
    random = np.random.default_rng(4)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("Random ultravox projector")
    writer.add_license("apache-2.0")
    writer.add_string("clip.projector_type", "ultravox")
    writer.add_bool("clip.has_audio_encoder", True)
    for key, value in {"num_mel_bins": mels, "embedding_length": width, "feed_forward_length": 16, "block_count": 1,
                       "projection_dim": WIDTH, "attention.head_count": 1, "projector.stack_factor": stack}.items():
        writer.add_uint32(f"clip.audio.{key}", value)
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)

    def add(name, *shape, kind=np.float32, scale=0.1, around=0.0):
        writer.add_tensor(name, (around + random.standard_normal(shape) * scale).astype(kind))

    add("a.conv1d.1.weight", width, mels, 3, kind=np.float16)
    add("a.conv1d.1.bias", width, 1)
    add("a.conv1d.2.weight", width, width, 3, kind=np.float16, scale=0.3)
    add("a.conv1d.2.bias", width, 1)
    add("a.position_embd.weight", frames, width)
    for part in ["q", "k", "v", "out"]:
        add(f"a.blk.0.attn_{part}.weight", width, width, kind=np.float16, scale=width ** -0.5)
        if part != "k":
            add(f"a.blk.0.attn_{part}.bias", width)
    for part, rows, columns in [("up", 16, width), ("down", width, 16)]:
        add(f"a.blk.0.ffn_{part}.weight", rows, columns, kind=np.float16, scale=columns ** -0.5)
        add(f"a.blk.0.ffn_{part}.bias", rows)
    for norm in ["a.blk.0.ln1", "a.blk.0.ln2", "a.post_ln"]:
        add(f"{norm}.weight", width, around=1.0)
        add(f"{norm}.bias", width)
    add("mm.a.norm_pre.weight", width * stack, around=1.0)
    add("mm.a.mlp.1.weight", 2 * hidden, width * stack, kind=np.float16)
    add("mm.a.norm_mid.weight", hidden, around=1.0)
    add("mm.a.mlp.2.weight", WIDTH, hidden, kind=np.float16, scale=hidden ** -0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def picture(folder):
    """A sun over the sea, as the usual encoders write it."""
    image = Image.new("RGB", (48, 32), (120, 180, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 20, 48, 32), fill=(20, 60, 120))
    draw.ellipse((28, 4, 40, 16), fill=(250, 220, 60))
    image.save(folder / "sun.png", optimize=True)
    image.save(folder / "sun.jpg", quality=85)
    image.save(folder / "sun-progressive.jpg", quality=85, progressive=True)
    image.save(folder / "sun.gif")
    image.save(folder / "sun.bmp")
    image.save(folder / "sun.webp")


def main(folder):
    folder = pathlib.Path(folder)
    picture(folder)
    llava(folder / "mmproj-llava.gguf")
    llava(folder / "mmproj-narrow.gguf", width=64)
    gemma3(folder / "mmproj-gemma3.gguf")
    qwen3vl(folder / "mmproj-qwen3vl.gguf")
    ultravox(folder / "mmproj-ultravox.gguf")


if __name__ == "__main__":
    main(sys.argv[1])
