//! The commands that bring models in from this machine: link.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::progress::Progress;
use super::table::table;
use super::{Output, say, say_json, words};
use crate::config::Config;

/// The file stays where it is: the store gets a clone that shares its blocks, or a second name of the same file, which is
/// read-only from then on. Removing the model does not touch the original.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// A GGUF file; of a split model, any part
    #[arg(required_unless_present = "scan")]
    file: Option<PathBuf>,
    /// What to call the model; without it, the file's name
    name: Option<String>,
    /// Another file of the same model, such as a projector; may be given several times
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Make a copy where nothing else is possible, as on another file system
    #[arg(long)]
    copy: bool,
    /// List the GGUF files of LM Studio and of the Hugging Face cache instead
    #[arg(long, conflicts_with_all = ["file", "name", "with", "copy"])]
    scan: bool,
    #[command(flatten)]
    output: Output,
}

impl Link {
    /// Done in this process, whether a server runs or not: it has no business with this user's files.
    pub(super) async fn execute(self, config: &Config) -> anyhow::Result<()> {
        let client = Client::local(config)?;
        let Some(file) = &self.file else {
            let request = json!({"folders": config.model_folders});
            let found = client.call("POST", "/api/hanzod/scan", Some(&request)).await?;
            match self.output.json {
                true => say_json(&found),
                false => say(&describe(&found)),
            }
            return Ok(());
        };
        let absolute =
            |path: &PathBuf| std::path::absolute(path).with_context(|| format!("no path: `{}`", path.display()));
        let more = self.with.iter().map(absolute).collect::<anyhow::Result<Vec<PathBuf>>>()?;
        let request = json!({
            "path": absolute(file)?,
            "name": self.name.as_deref().unwrap_or_default(),
            "more": more,
            "copy": self.copy,
        });
        let mut progress = Progress::new(self.output.json);
        client
            .lines("/api/hanzod/link", &request, |line| {
                progress.show(&line);
                Ok(())
            })
            .await
    }
}

fn describe(found: &Value) -> String {
    let row = |file: &Value| {
        let parts = file["parts"].as_u64().filter(|parts| *parts > 1).map(|parts| format!("{parts} parts"));
        vec![
            words::bytes(file["size"].as_u64().unwrap_or(0)),
            if file["linked"] == true { "linked".into() } else { parts.unwrap_or_default() },
            file["path"].as_str().unwrap_or_default().to_owned(),
        ]
    };
    let rows: Vec<_> = found["files"].as_array().into_iter().flatten().map(row).collect();
    table(&["SIZE", "", "FILE"], &rows)
}
