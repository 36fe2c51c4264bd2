//! The commands that move and list models: pull, push, list, ps, stop, rm, cp.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Refused, set};
use super::progress::Progress;
use super::table::table;
use super::{Output, say, say_json, words};

#[derive(Debug, Args)]
struct Transfer {
    /// Speak plain http to the registry
    #[arg(long)]
    insecure: bool,
    /// Bytes in a second at the most: a number, with `k`, `M` or `G`
    #[arg(long, value_name = "RATE")]
    limit_rate: Option<String>,
}

impl Transfer {
    fn request(self, model: &str) -> Value {
        let mut request = json!({"model": model, "insecure": self.insecure});
        set(&mut request, "limit_rate", self.limit_rate.map(Value::String));
        request
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// The model: `[host/][namespace/]model[:tag]`, or `https://…/file.gguf[?sha256=…]`
    model: String,
    /// Where it comes from, if not a registry: `huggingface` (`owner/repository[@revision][:quant]`), `mlx` (the counterpart
    /// of `mlx-community`, with `:4bit`, `:6bit`, `:8bit` or `:bf16`), `ollama`
    #[arg(long)]
    source: Option<String>,
    /// What to call a model that is from an address or the hub
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    transfer: Transfer,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The model, `[host/]namespace/model[:tag]`
    model: String,
    #[command(flatten)]
    transfer: Transfer,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only models whose names begin so
    prefix: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Only models whose names begin so
    prefix: Option<String>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    model: String,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[arg(required = true)]
    models: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Cp {
    source: String,
    destination: String,
}

/// Pulls `model` and shows how it goes.
pub(super) async fn pull(client: &Client, model: &str, insecure: bool, json: bool) -> anyhow::Result<()> {
    transfer(client, "/api/pull", json!({"model": model, "insecure": insecure}), json).await
}

async fn transfer(client: &Client, path: &str, request: Value, json: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new(json);
    client
        .lines(path, &request, |line| {
            progress.show(&line);
            Ok(())
        })
        .await
}

impl Pull {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        // A registry's names have no revision.
        let elsewhere = self.model.contains('@')
            || self.model.contains("://")
            || self.source.as_deref().is_some_and(|source| source != "ollama");
        if self.name.is_some() && !elsewhere {
            bail!("--name is for models from an address or the hub: a registry's keep their own");
        }
        let mut request = self.transfer.request(&self.model);
        set(&mut request, "source", self.source.map(Value::String));
        set(&mut request, "name", self.name.map(Value::String));
        transfer(client, "/api/pull", request, self.output.json).await
    }
}

impl Push {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        transfer(client, "/api/push", self.transfer.request(&self.model), self.output.json).await
    }
}

/// The `models` of an answer whose names begin with `prefix`.
fn models(answer: &Value, prefix: Option<&str>) -> Vec<Value> {
    let prefix = prefix.unwrap_or_default().to_lowercase();
    let list = answer["models"].as_array().cloned().unwrap_or_default();
    list.into_iter().filter(|model| text(model, "name").to_lowercase().starts_with(&prefix)).collect()
}

fn text<'a>(model: &'a Value, key: &str) -> &'a str {
    model[key].as_str().unwrap_or_default()
}

/// The first twelve digits of a model's digest.
fn id(model: &Value) -> String {
    text(model, "digest").chars().take(12).collect()
}

impl List {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let answer = client.call("GET", "/api/tags", None).await?;
        let models = models(&answer, self.prefix.as_deref());
        if self.output.json {
            say_json(&json!({"models": models}));
            return Ok(());
        }
        let row = |model: &Value| {
            let size = match model["remote_model"].is_null() {
                true => words::bytes(model["size"].as_u64().unwrap_or(0)),
                false => "-".into(),
            };
            vec![text(model, "name").to_owned(), id(model), size, words::moment_of(text(model, "modified_at"))]
        };
        let rows: Vec<Vec<String>> = models.iter().map(row).collect();
        say(&table(&["NAME", "ID", "SIZE", "MODIFIED"], &rows));
        Ok(())
    }
}

impl Ps {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let answer = client.call("GET", "/api/ps", None).await?;
        let models = models(&answer, self.prefix.as_deref());
        if self.output.json {
            say_json(&json!({"models": models}));
            return Ok(());
        }
        let row = |model: &Value| {
            let (size, vram) = (model["size"].as_u64().unwrap_or(0), model["size_vram"].as_u64().unwrap_or(0));
            let until = words::moment_of(text(model, "expires_at"));
            vec![
                text(model, "name").to_owned(),
                id(model),
                words::bytes(size),
                processor(size, vram),
                model["context_length"].to_string(),
                if until.ends_with("ago") { "Stopping...".into() } else { until },
            ]
        };
        let rows: Vec<Vec<String>> = models.iter().map(row).collect();
        say(&table(&["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], &rows));
        Ok(())
    }
}

/// Where a model's bytes lie, in Ollama's words.
fn processor(size: u64, vram: u64) -> String {
    match (size, vram) {
        (0, _) => "Unknown".into(),
        (_, 0) => "100% CPU".into(),
        (size, vram) if vram > size => "Unknown".into(),
        (size, vram) if vram == size => "100% GPU".into(),
        (size, vram) => {
            let cpu = ((size - vram) as f64 / size as f64 * 100.0).round();
            format!("{cpu}%/{}% CPU/GPU", 100.0 - cpu)
        }
    }
}

impl Stop {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        match unload(client, &self.model).await {
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {
                bail!("couldn't find model \"{}\" to stop", self.model)
            }
            other => other,
        }
    }
}

async fn unload(client: &Client, model: &str) -> anyhow::Result<()> {
    let request = json!({"model": model, "keep_alive": 0});
    client.call("POST", "/api/generate", Some(&request)).await.map(drop)
}

impl Rm {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        for model in &self.models {
            // A model that is not loaded, or makes no text, is removed all the same.
            unload(client, model).await.ok();
            client.call("DELETE", "/api/delete", Some(&json!({"model": model}))).await?;
            say(&format!("deleted '{model}'\n"));
        }
        Ok(())
    }
}

impl Cp {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let request = json!({"source": self.source, "destination": self.destination});
        client.call("POST", "/api/copy", Some(&request)).await?;
        say(&format!("copied '{}' to '{}'\n", self.source, self.destination));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn processors() {
        for ((size, vram), text) in
            [((100, 0), "100% CPU"), ((100, 100), "100% GPU"), ((100, 52), "48%/52% CPU/GPU"), ((1, 2), "Unknown")]
        {
            assert_eq!(super::processor(size, vram), text);
        }
    }
}
