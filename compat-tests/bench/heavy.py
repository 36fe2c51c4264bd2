"""Makes of the tiny test model one that says the same and takes as long as a large one: neurons that add nothing are computed like others.

    pip install gguf numpy
    python heavy.py TINY.gguf OUT.gguf MEGABYTES
"""
import sys

import gguf
import numpy as np

BLOCK = 256  # the most weights that any of the tiny model's formats keeps together


def widened(tensor, hidden):
    """The tensor's bytes with as many neurons as are asked for. Zeros are zeros in every format."""
    rows, columns = tensor.data.shape
    if "ffn_gate" in tensor.name or "ffn_up" in tensor.name:
        return np.pad(tensor.data, ((0, hidden - rows), (0, 0)))
    if "ffn_down" in tensor.name:
        return np.pad(tensor.data, ((0, 0), (0, columns * hidden // int(tensor.shape[0]) - columns)))
    return tensor.data


def main(source, out, megabytes):
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    length = f"{architecture}.feed_forward_length"
    hidden = reader.fields[length].contents()
    neurons = sum(tensor.n_bytes for tensor in reader.tensors if ".ffn_" in tensor.name and ".weight" in tensor.name and "norm" not in tensor.name)
    wanted = int(hidden * int(megabytes) * 1e6 / neurons) // BLOCK * BLOCK
    writer = gguf.GGUFWriter(out, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = wanted if name == length else field.contents()
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], inner)
    for tensor in reader.tensors:
        data = widened(tensor, wanted) if tensor.data.ndim == 2 else tensor.data
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
