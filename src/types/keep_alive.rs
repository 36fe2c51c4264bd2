//! How long a model stays loaded after its last request.

use std::time::Duration;

use crate::go::duration::GoDuration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Unloads as soon as it is idle.
    Unload,
    For(Duration),
    Forever,
}

impl KeepAlive {
    /// Ollama's default, five minutes.
    pub const DEFAULT: Self = Self::For(Duration::from_secs(300));

    /// Zero unloads, negative is forever.
    pub fn from_nanos(nanos: i64) -> Self {
        match GoDuration(nanos).to_std() {
            None => Self::Forever,
            Some(Duration::ZERO) => Self::Unload,
            Some(duration) => Self::For(duration),
        }
    }

    /// Seconds as a JSON number gives them: fractions count, negative is forever.
    pub fn from_seconds(seconds: f64) -> Self {
        if seconds < 0.0 { Self::Forever } else { Self::from_nanos((seconds * 1e9) as i64) }
    }
}
