//! hanzod: a model server with Ollama's API, and OpenAI's and Anthropic's beside it.

pub mod config;
pub mod go;
pub mod server;
pub mod types;
pub mod wire;

pub mod gguf;
pub mod store;

pub mod create;
pub mod prompt;
pub mod pull;

pub mod engine;
pub mod scheduler;

pub mod api;
pub mod cli;
