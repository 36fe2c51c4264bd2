//! The integration tests, in one binary: rooms together, the real program, real models.

mod convert;
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
#[cfg(feature = "llama")]
mod vision;
mod zstd;
