//! What Go's standard library writes: JSON, durations, quoted strings, float texts.
//!
//! The Ollama wire is whatever Go's packages print and accept, and so are its manifests and its templates' output.
//! These few files are the only place that knows how; every floor may use them.

pub mod duration;
pub mod json;
