//! The integration tests, in one binary: rooms together, the real program, real models.

mod engine;
mod house;
mod ollama;
mod own;
mod program;
mod registry;
mod responses;
mod spec;
#[cfg(any(feature = "llama", feature = "mistral"))]
mod structured;
mod util;
mod v1;
mod zstd;
