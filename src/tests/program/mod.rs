//! The program itself, started as people start it: its addresses, its end, its children, its command line, its store.

mod addresses;
#[cfg(feature = "llama")]
mod asking;
mod certificates;
mod converted;
#[cfg(target_os = "linux")]
mod durable;
#[cfg(target_os = "linux")]
mod ending;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(feature = "llama")]
mod guesses;
mod harness;
mod hostile;
mod killed;
mod models;
mod moving;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod readers;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod runners;
mod safetensors;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod saved;
mod store;
