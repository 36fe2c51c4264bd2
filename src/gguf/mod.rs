//! Floor 1: the GGUF file format, read as if the file were hostile.
