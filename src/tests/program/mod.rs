//! The program itself, started as people start it: its addresses, its end, its children, its command line, its store.

mod addresses;
#[cfg(feature = "llama")]
mod asking;
#[cfg(target_os = "linux")]
mod ending;
#[cfg(feature = "llama")]
mod guesses;
mod harness;
mod hostile;
mod models;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod readers;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod runners;
mod safetensors;
mod store;
