//! `hanzod run`: one prompt, or a conversation.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use super::client::{Client, Refused, set};
use super::session::{Session, Shown, attachments, timings};
use super::{models, repl, say, tell};
use crate::config::Config;

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
    session.apply(&mut request);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_texts() {
        assert_eq!((number_or_text("-1"), number_or_text("5m")), (json!(-1.0), json!("5m")));
    }
}
