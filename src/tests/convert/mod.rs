//! Safetensors made into GGUF: what is in the files, and that both engines answer alike, the one with the folder, the
//! other with what was made of it.

#[cfg(all(feature = "llama", feature = "mistral"))]
mod alike;
pub mod folders;
mod written;
