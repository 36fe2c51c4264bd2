//! The program itself, started as people start it: its addresses, its end, its children, its command line, its store.

mod addresses;
mod ages;
#[cfg(feature = "llama")]
mod asking;
#[cfg(target_os = "linux")]
mod bodies;
#[cfg(target_os = "linux")]
mod calls;
mod certificates;
#[cfg(target_os = "linux")]
mod connections;
mod converted;
mod damaged;
#[cfg(target_os = "linux")]
mod durable;
#[cfg(target_os = "linux")]
mod ending;
#[cfg(target_os = "linux")]
mod failing;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod flood;
#[cfg(target_os = "linux")]
mod gauges;
#[cfg(feature = "llama")]
mod guesses;
mod harness;
mod hostile;
mod killed;
#[cfg(target_os = "linux")]
mod killed_at;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod loads;
mod models;
mod moving;
#[cfg(target_os = "linux")]
mod power;
#[cfg(target_os = "linux")]
mod puller;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod readers;
mod removed;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod runners;
mod safetensors;
#[cfg(all(feature = "llama", target_os = "linux"))]
mod saved;
mod served;
#[cfg(target_os = "linux")]
mod stopped;
mod store;
mod storm;
#[cfg(target_os = "linux")]
mod unwritable;
