//! Real engines with the tiny model, through the real runner process.

#[cfg(feature = "llama")]
mod embeddings;
#[cfg(feature = "llama")]
mod fairness;
#[cfg(feature = "llama")]
mod guesses;
#[cfg(feature = "llama")]
mod llama;
#[cfg(feature = "mistral")]
mod mistral;
#[cfg(feature = "llama")]
mod prefixes;
#[cfg(feature = "llama")]
mod quantize;
#[cfg(feature = "llama")]
mod saved;
#[cfg(feature = "llama")]
mod vision;
