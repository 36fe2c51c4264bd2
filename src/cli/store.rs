//! The commands that look after the store: df, prune, verify.

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::progress::Progress;
use super::table::table;
use super::{Output, say, say_json, words};

#[derive(Debug, Args)]
pub(crate) struct Df {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Also downloads (damaged blobs, saved prompts) left for less than the usual seven days
    #[arg(long, value_name = "AGE", default_value = "7d")]
    partials_older_than: String,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only this model's blobs
    model: Option<String>,
    /// Move damaged blobs out of the way, so that the next pull brings them anew
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    output: Output,
}

fn size(value: &Value) -> String {
    words::bytes(value.as_u64().unwrap_or(0))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A loose file's columns: what it is, its size, its age, who holds it.
fn loose_row(file: &Value) -> Vec<String> {
    let digest = file["digest"].as_str().unwrap_or("-").trim_start_matches("sha256:");
    vec![
        file["kind"].as_str().unwrap_or_default().to_owned(),
        digest.chars().take(12).collect(),
        size(&file["size"]),
        words::moment_of(file["modified_at"].as_str().unwrap_or_default()),
        if file["held"] == true { "in use".into() } else { String::new() },
    ]
}

impl Df {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let room = client.call("GET", "/api/hanzod/df", None).await?;
        match self.output.json {
            true => say_json(&room),
            false => say(&describe(&room)),
        }
        Ok(())
    }
}

fn describe(room: &Value) -> String {
    let row = |model: &Value| {
        let elsewhere = model["elsewhere"].as_u64().filter(|bytes| *bytes > 0);
        let elsewhere = elsewhere.map(|bytes| format!("{} in other stores", words::bytes(bytes)));
        let missing = model["missing"].as_u64().map(|count| format!("{count} blobs are missing"));
        let notes: Vec<_> = elsewhere.into_iter().chain(missing).collect();
        let name = model["name"].as_str().unwrap_or_default().to_owned();
        vec![name, size(&model["size"]), size(&model["own"]), notes.join(", ")]
    };
    let rows: Vec<_> = list(&room["models"]).iter().map(row).collect();
    let mut text = table(&["NAME", "SIZE", "ITS OWN", ""], &rows);
    let loose: Vec<_> = list(&room["loose"]).iter().map(loose_row).collect();
    if !loose.is_empty() {
        text += &format!("\n{}", table(&["NO MODEL'S", "DIGEST", "SIZE", "MODIFIED", ""], &loose));
    }
    let loose = list(&room["loose"]).iter().filter_map(|file| file["size"].as_u64()).sum();
    text += &format!(
        "\nmodels {}, of these {} shared by several, {} linked from elsewhere; no model's {}\n",
        size(&room["used"]),
        size(&room["shared"]),
        size(&room["linked"]),
        words::bytes(loose)
    );
    if room["elsewhere"].as_u64().is_some_and(|bytes| bytes > 0) {
        text += &format!("in other stores, and taking no room here, {}\n", size(&room["elsewhere"]));
    }
    if let Some(why) = room["unsure"].as_str() {
        text += &format!("unused blobs are not listed: {why}\n");
    }
    if room["disk"].is_object() {
        text += &format!("disk {}, {} free\n", size(&room["disk"]["size"]), size(&room["disk"]["free"]));
    }
    text
}

impl Prune {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let request = json!({"partials_older_than": self.partials_older_than, "dry_run": self.dry_run});
        let pruned = client.call("POST", "/api/hanzod/prune", Some(&request)).await?;
        if self.output.json {
            say_json(&pruned);
            return Ok(());
        }
        let rows: Vec<_> = list(&pruned["removed"]).iter().map(loose_row).collect();
        if !rows.is_empty() {
            say(&table(&["REMOVED", "DIGEST", "SIZE", "MODIFIED", ""], &rows));
        }
        let would = if self.dry_run { "would be " } else { "" };
        say(&format!("{} {would}freed\n", size(&pruned["freed"])));
        if let Some(why) = pruned["kept"].as_str() {
            say(&format!("unused blobs are kept: {why}\n"));
        }
        Ok(())
    }
}

impl Verify {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let request = json!({"model": self.model.as_deref().unwrap_or_default(), "repair": self.repair});
        let mut progress = Progress::new(self.output.json);
        let mut done = Value::Null;
        client
            .lines("/api/hanzod/verify", &request, |line| {
                if self.output.json || !line["damaged"].is_array() {
                    progress.show(&line);
                }
                if line["damaged"].is_array() {
                    done = line;
                }
                Ok(())
            })
            .await?;
        drop(progress);
        anyhow::ensure!(!done.is_null(), "the server ended before all was read");
        let damaged = list(&done["damaged"]);
        if !self.output.json {
            say(&format!("{} blobs are right, {}\n", done["right"], size(&done["bytes"])));
            damaged.iter().for_each(|damaged| say(&finding(damaged)));
        }
        anyhow::ensure!(damaged.is_empty(), "damage was found: {} in all", damaged.len());
        Ok(())
    }
}

/// What is wrong, whom it concerns, and what to do.
fn finding(damaged: &Value) -> String {
    let models: Vec<&str> = list(&damaged["models"]).iter().filter_map(Value::as_str).collect();
    let what = damaged["digest"].as_str().unwrap_or("a manifest");
    let whom = if models.is_empty() { "no model uses it".to_owned() } else { format!("used by {}", models.join(", ")) };
    let then = match (damaged["moved"] == true, models.first()) {
        (_, None) => String::new(),
        (true, Some(model)) => format!("; moved aside, `hanzod pull {model}` brings it anew"),
        (false, Some(model)) => format!("; `hanzod pull {model}` mends it"),
    };
    format!("{what}: {} ({whom}{then})\n", damaged["why"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_room() {
        let room = json!({
            "models": [
                {"name": "tiny:latest", "size": 7_100_000, "own": 100_000, "elsewhere": 0, "missing": 2},
                {"name": "copy:latest", "size": 100_000, "own": 0, "elsewhere": 3_000_000},
            ],
            "used": 7_100_000, "shared": 7_000_000, "linked": 0, "elsewhere": 3_000_000,
            "loose": [{"kind": "partial", "digest": "sha256:0123456789abcdef", "size": 5_000, "modified_at": "", "held": true}],
            "disk": {"size": 1_000_000_000, "free": 500_000_000},
        });
        let text = describe(&room);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1].join(" "), "tiny:latest 7.1 MB 100 KB 2 blobs are missing");
        assert_eq!(words[2].join(" "), "copy:latest 100 KB 0 B 3 MB in other stores");
        assert_eq!(words[5].join(" "), "partial 0123456789ab 5 KB - in use");
        assert!(text.contains("no model's 5 KB\nin other stores, and taking no room here, 3 MB\ndisk"), "{text}");
        assert!(text.ends_with("\ndisk 1 GB, 500 MB free\n"), "{text}");
    }
}
