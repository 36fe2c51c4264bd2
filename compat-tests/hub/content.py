"""Models for the hub of the tests, made of the tiny one: safetensors in two parts, GGUF whole and in two parts."""
import json
import struct
from pathlib import Path

TINY = Path(__file__).resolve().parent.parent / "models" / "tiny"


def safetensors():
    """The tiny model as a repository would have it, its weights in two parts."""
    folder = TINY / "tiny-safetensors"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".json"}
    whole = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + length]), whole[8 + length:]
    header.pop("__metadata__", None)
    names = sorted(header)
    weight_map = {}
    for number, part in enumerate([names[:len(names) // 2], names[len(names) // 2:]], 1):
        path = f"model-{number:05}-of-00002.safetensors"
        told, bytes_ = {}, b""
        for name in part:
            begin, end = header[name]["data_offsets"]
            told[name] = {**header[name], "data_offsets": [len(bytes_), len(bytes_) + end - begin]}
            bytes_ += data[begin:end]
            weight_map[name] = path
        text = json.dumps(told).encode()
        files[path] = struct.pack("<Q", len(text)) + text + bytes_
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    return {**files, "README.md": b"# Tiny\n", "sub/notes.txt": b"not for the model\n"}


def gguf(name="tiny-q4_k_m.gguf"):
    return (TINY / name).read_bytes()


class Reader:
    WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        value = struct.unpack_from("<" + form, self.data, self.at)[0]
        self.at += struct.calcsize("<" + form)
        return value

    def text(self):
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length:self.at]

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.value(inner)
            return None
        self.at += self.WIDTHS[kind]
        return int.from_bytes(self.data[self.at - self.WIDTHS[kind]:self.at], "little")


def split_gguf(data):
    """The two parts that llama.cpp's splitting tool would make: all metadata in the first, half of the tensors in each."""
    reader = Reader(data)
    version = reader.number("I") and reader.number("I")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    begin, alignment = reader.at, 32
    for _ in range(pairs):
        key = reader.text()
        value = reader.value(reader.number("I"))
        alignment = value if key == b"general.alignment" else alignment
    metadata = data[begin:reader.at]
    infos = []
    for _ in range(tensors):
        name = reader.text()
        shape = [reader.number("Q") for _ in range(reader.number("I"))]
        infos.append((name, shape, reader.number("I"), reader.number("Q")))
    start = -(-reader.at // alignment) * alignment
    ends = sorted([offset for *_, offset in infos] + [len(data) - start])
    parts = []
    for number, mine in enumerate([infos[:tensors // 2], infos[tensors // 2:]]):
        told = {b"split.no": (2, "H", number), b"split.count": (2, "H", 2), b"split.tensors.count": (5, "i", tensors)}
        extra = b"".join(text_of(key) + struct.pack("<I" + form, kind, value) for key, (kind, form, value) in told.items())
        count = len(told) + (0 if number else pairs)
        head = b"GGUF" + struct.pack("<IQQ", version, len(mine), count) + (b"" if number else metadata) + extra
        body = b""
        for name, shape, kind, offset in mine:
            head += text_of(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(body))
            bytes_ = data[start + offset:start + ends[ends.index(offset) + 1]]
            body += bytes_ + bytes(-len(bytes_) % alignment)
        parts.append(head + bytes(-len(head) % alignment) + body)
    return parts


def text_of(text):
    return struct.pack("<Q", len(text)) + text
