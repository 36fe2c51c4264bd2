//! What one prompt and a conversation have in common: the settings, the files that go with a prompt, the answer on the terminal.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use base64::Engine as _;
use serde_json::{Map, Value, json};

use super::client::set;
use super::{say, tell};

/// A file larger than this is not attached.
const LARGEST_FILE: u64 = 100 << 20;

/// What holds for every request of a run.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) model: String,
    pub(super) keep_alive: Option<Value>,
    pub(super) format: Option<Value>,
    pub(super) think: Option<Value>,
    pub(super) options: Map<String, Value>,
    pub(super) system: Option<String>,
    pub(super) verbose: bool,
    pub(super) hide_thinking: bool,
    /// The model looks at images or hears sounds.
    pub(super) media: bool,
}

impl Session {
    /// Sets the members that every request of the session carries.
    pub(super) fn apply(&self, request: &mut Value) {
        set(request, "keep_alive", self.keep_alive.clone());
        set(request, "format", self.format.clone());
        set(request, "think", self.think.clone());
        if !self.options.is_empty() {
            request["options"] = Value::Object(self.options.clone());
        }
    }
}

/// Writes an answer as it comes, thinking between two lines of its own.
pub(super) struct Shown {
    hide: bool,
    thinking: bool,
    grey: bool,
}

impl Shown {
    pub(super) fn new(hide: bool) -> Self {
        Self { hide, thinking: false, grey: std::io::stdout().is_terminal() }
    }

    pub(super) fn thinking(&mut self, text: &str) {
        if text.is_empty() || self.hide {
            return;
        }
        if !self.thinking {
            self.thinking = true;
            say(if self.grey { "\x1b[90mThinking...\n" } else { "Thinking...\n" });
        }
        say(text);
    }

    pub(super) fn content(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.thinking {
            self.thinking = false;
            say(if self.grey { "\n...done thinking.\x1b[0m\n\n" } else { "\n...done thinking.\n\n" });
        }
        say(text);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.thinking && self.grey {
            // Nothing is said to a reader that has left.
            std::io::stdout().write_all(b"\x1b[0m").ok();
        }
    }
}

/// The timings of a last line, as Ollama prints them.
pub(super) fn timings(line: &Value) -> String {
    let number = |key: &str| line[key].as_u64().unwrap_or(0);
    let time = |key: &str| format!("{:?}", std::time::Duration::from_nanos(number(key)));
    let rate = |count: &str, key: &str| number(count) as f64 / (number(key).max(1) as f64 / 1e9);
    let mut text = String::new();
    let mut row = |label: &str, value: String| text += &format!("{label:<22}{value}\n");
    row("total duration:", time("total_duration"));
    row("load duration:", time("load_duration"));
    row("prompt eval count:", format!("{} token(s)", number("prompt_eval_count")));
    row("prompt eval duration:", time("prompt_eval_duration"));
    row("prompt eval rate:", format!("{:.2} tokens/s", rate("prompt_eval_count", "prompt_eval_duration")));
    row("eval count:", format!("{} token(s)", number("eval_count")));
    row("eval duration:", time("eval_duration"));
    row("eval rate:", format!("{:.2} tokens/s", rate("eval_count", "eval_duration")));
    text
}

/// Takes paths of images and sounds out of a prompt, and gives their contents as the API wants them.
pub(super) fn attachments(prompt: &str) -> anyhow::Result<(String, Vec<Value>)> {
    const ENDINGS: [&str; 5] = [".jpg", ".jpeg", ".png", ".webp", ".wav"];
    let mut kept = Vec::new();
    let mut files = Vec::new();
    for word in prompt.split(' ') {
        let path = word.trim_matches(['"', '\'']);
        let named = path.contains(['/', '\\']) && ENDINGS.iter().any(|ending| path.to_lowercase().ends_with(ending));
        let Some(size) = named.then(|| std::fs::metadata(path).ok()).flatten().map(|seen| seen.len()) else {
            kept.push(word);
            continue;
        };
        anyhow::ensure!(size <= LARGEST_FILE, "`{path}` is larger than 100 MB");
        let content = std::fs::read(path).with_context(|| format!("cannot read `{path}`"))?;
        files.push(json!(base64::engine::general_purpose::STANDARD.encode(content)));
        let kind = if path.to_lowercase().ends_with(".wav") { "audio" } else { "image" };
        tell(&format!("Added {kind} '{path}'\n"));
    }
    Ok((kept.join(" "), files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_the_prompt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, b"png").unwrap();
        let prompt = format!("what is {} and /no/such.png", path.display());
        let (text, files) = attachments(&prompt).unwrap();
        assert_eq!((text.as_str(), files), ("what is and /no/such.png", vec![json!("cG5n")]));
    }
}
