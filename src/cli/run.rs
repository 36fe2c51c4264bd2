//! `hanzod run`: one prompt, or a conversation.

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use base64::Engine as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::client::{Client, Refused};
use super::{models, repl, say, tell};
use crate::config::Config;

/// A file larger than this is not attached.
const LARGEST_FILE: u64 = 100 << 20;

#[derive(Debug, Args)]
pub(crate) struct Run {
    model: String,
    /// The prompt; without one, a conversation begins
    prompt: Vec<String>,
    /// How long the model stays loaded (5m, 1h30m, -1 for ever)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    keepalive: Option<String>,
    /// Print timings at the end
    #[arg(long)]
    verbose: bool,
    /// Speak plain http to the registry
    #[arg(long)]
    insecure: bool,
    /// `json`, or a JSON schema
    #[arg(long)]
    format: Option<String>,
    /// Let the model think before it answers: true, false, low, medium, high, max
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    think: Option<String>,
    /// Do not show what it thinks
    #[arg(long)]
    hidethinking: bool,
    /// Taken for the sake of Ollama's scripts: hanzod leaves wrapping to the terminal
    #[arg(long)]
    nowordwrap: bool,
    /// Of an embedding model: cut inputs that are too long (true) or refuse them (false)
    #[arg(long)]
    truncate: Option<bool>,
    /// Of an embedding model: length of the vector
    #[arg(long)]
    dimensions: Option<u32>,
}

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

impl Run {
    pub(super) async fn execute(self, client: &Client, config: &Config) -> anyhow::Result<()> {
        let piped = piped_input()?;
        let prompt: Vec<String> = piped.into_iter().chain(self.prompt.iter().cloned()).collect();
        let prompt = prompt.join(" ");
        let about = self.find(client).await?;
        let capabilities: Vec<&str> =
            about["capabilities"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let session = Session {
            model: self.model.clone(),
            keep_alive: self.keepalive.as_deref().map(number_or_text),
            format: self.format.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
            think: match &self.think {
                Some(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| json!(text))),
                None => capabilities.contains(&"thinking").then_some(Value::Bool(true)),
            },
            options: Map::new(),
            system: None,
            verbose: self.verbose,
            hide_thinking: self.hidethinking,
            media: capabilities.iter().any(|name| matches!(*name, "vision" | "audio")),
        };
        if capabilities.contains(&"embedding") {
            anyhow::ensure!(!prompt.is_empty(), "embedding models require input text");
            return self.embed(client, &prompt).await;
        }
        if prompt.is_empty() && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            return repl::converse(client, config, session, &about).await;
        }
        generate(client, &session, &prompt).await
    }

    /// What the model is; it is pulled when it is not there.
    async fn find(&self, client: &Client) -> anyhow::Result<Value> {
        let request = json!({"model": self.model});
        match client.call("POST", "/api/show", Some(&request)).await {
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {
                models::pull(client, &self.model, self.insecure, false).await?;
                client.call("POST", "/api/show", Some(&request)).await
            }
            other => other,
        }
    }

    async fn embed(&self, client: &Client, prompt: &str) -> anyhow::Result<()> {
        let mut request = json!({"model": self.model, "input": prompt});
        set(&mut request, "truncate", self.truncate.map(Value::Bool));
        set(&mut request, "dimensions", self.dimensions.map(|length| json!(length)));
        set(&mut request, "keep_alive", self.keepalive.as_deref().map(number_or_text));
        let answer = client.call("POST", "/api/embed", Some(&request)).await?;
        say(&format!("{}\n", answer["embeddings"][0]));
        Ok(())
    }
}

/// Sets a member when there is a value.
pub(super) fn set(request: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        request[key] = value;
    }
}

/// `-1` and `0` are numbers to the API, `5m` is a text.
fn number_or_text(text: &str) -> Value {
    text.parse::<f64>().map_or_else(|_| json!(text), |number| json!(number))
}

/// All of standard input, when it is no terminal and holds something.
fn piped_input() -> anyhow::Result<Option<String>> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    input.read_to_string(&mut text).context("cannot read standard input")?;
    Ok(Some(text.trim_end().to_owned()).filter(|text| !text.is_empty()))
}

async fn generate(client: &Client, session: &Session, prompt: &str) -> anyhow::Result<()> {
    let (prompt, images) = if session.media { attachments(prompt)? } else { (prompt.to_owned(), Vec::new()) };
    let mut request = json!({"model": session.model, "prompt": prompt});
    if !images.is_empty() {
        request["images"] = Value::Array(images);
    }
    common(&mut request, session);
    let mut shown = Shown::new(session.hide_thinking);
    client
        .lines("/api/generate", &request, |line| {
            shown.thinking(line["thinking"].as_str().unwrap_or_default());
            shown.content(line["response"].as_str().unwrap_or_default());
            if session.verbose && line["done"] == true {
                tell(&format!("\n\n{}", timings(&line)));
            }
            Ok(())
        })
        .await?;
    say("\n\n");
    Ok(())
}

/// The members that every request of a session carries.
pub(super) fn common(request: &mut Value, session: &Session) {
    set(request, "keep_alive", session.keep_alive.clone());
    set(request, "format", session.format.clone());
    set(request, "think", session.think.clone());
    if !session.options.is_empty() {
        request["options"] = Value::Object(session.options.clone());
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

    #[test]
    fn keep_alive_texts() {
        assert_eq!((number_or_text("-1"), number_or_text("5m")), (json!(-1.0), json!("5m")));
    }
}
