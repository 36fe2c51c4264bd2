//! The integration tests, in one binary: rooms together, the real program, real models.

mod engine;
mod house;
mod ollama;
mod program;
mod registry;
mod spec;
mod util;
mod v1;
