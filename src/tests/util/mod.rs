//! A server in a test: the real router over a store of its own, with an engine that says what the test wrote.

mod app;
mod engine;

pub use app::{Reply, TestApp};
pub use engine::{Script, ScriptedEngine};
