//! Floor 0: other people's words. The shapes of the three dialects and their quirks, and nothing else.

pub mod anthropic;
pub mod go_json;
pub mod hanzod;
pub mod ollama;
pub mod openai;
pub mod registry;
pub mod time;
