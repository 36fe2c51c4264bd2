//! Ollama's native API, through the router.

mod chat;
mod generate;
mod models;
mod recorded;
mod replayed;
