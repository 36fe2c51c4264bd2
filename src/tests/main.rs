//! The integration tests, in one binary: rooms together, the real program, real models.

mod engine;
mod house;
mod ollama;
mod program;
mod registry;
mod spec;
#[cfg(any(feature = "llama", feature = "mistral"))]
mod structured;
mod util;
mod v1;
#[cfg(feature = "llama")]
mod vision;
