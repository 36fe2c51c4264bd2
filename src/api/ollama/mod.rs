//! Ollama's native API: how its requests become a turn, and a turn's pieces its lines.

pub mod blobs;
pub mod chat;
pub mod convert;
pub mod create;
pub mod embed;
pub mod generate;
pub mod models;
pub mod ops;
pub mod pull;
mod quantize;
pub mod show;
