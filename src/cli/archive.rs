//! The commands that carry a model as a file: export, import.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::client::{Body, Client};
use super::{Output, say, say_json, words};

const CHUNK: usize = 256 << 10;

/// The file is an OCI image layout in a tar, as registry tools (skopeo, oras) read it.
#[derive(Debug, Args)]
pub(crate) struct Export {
    model: String,
    /// Where to write it; `-` is standard output
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// What `hanzod export` wrote; `-` is standard input
    file: PathBuf,
    /// What to call the model; without it, what the file says
    name: Option<String>,
    #[command(flatten)]
    output: Output,
}

fn is_stream(file: &Path) -> bool {
    file.as_os_str() == "-"
}

impl Export {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        if is_stream(&self.file) && std::io::stdout().is_terminal() {
            bail!("a tar is nothing for a terminal: name a file, or pipe it on");
        }
        let body = client.send("GET", &format!("/api/hanzod/export/{}", self.model), None).await?;
        if is_stream(&self.file) {
            copy(body, &mut tokio::io::stdout()).await?;
            return Ok(());
        }
        // Under its own name there is a whole archive, or what was there before.
        let shown = self.file.display().to_string();
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let part = tempfile::Builder::new()
            .prefix(".hanzod-export-")
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write `{shown}`"))?;
        let mut out = tokio::fs::File::from_std(part.reopen()?);
        let bytes = copy(body, &mut out).await.with_context(|| format!("cannot write `{shown}`"))?;
        out.sync_all().await.with_context(|| format!("cannot write `{shown}`"))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        part.as_file().set_permissions(mode)?;
        part.persist(&self.file).with_context(|| format!("cannot write `{shown}`"))?;
        match self.output.json {
            true => say_json(&json!({"model": self.model, "file": self.file, "size": bytes})),
            false => say(&format!("exported '{}' to '{shown}', {}\n", self.model, words::bytes(bytes))),
        }
        Ok(())
    }
}

async fn copy(mut body: Body, out: &mut (impl AsyncWrite + Unpin)) -> anyhow::Result<u64> {
    let mut count = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.context("the archive broke off")?;
        out.write_all(&bytes).await?;
        count += bytes.len() as u64;
    }
    out.flush().await?;
    Ok(count)
}

impl Import {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let read = || format!("cannot read `{}`", self.file.display());
        let input: Box<dyn AsyncRead + Send + Unpin> = match is_stream(&self.file) {
            true => Box::new(tokio::io::stdin()),
            false => Box::new(tokio::fs::File::open(&self.file).await.with_context(read)?),
        };
        let body: Body = Box::pin(ReaderStream::with_capacity(input, CHUNK).map_err(std::io::Error::other));
        let path = match &self.name {
            Some(name) => format!("/api/hanzod/import/{name}"),
            None => "/api/hanzod/import".to_owned(),
        };
        let mut answer = client.send("POST", &path, Some(body)).await?;
        let mut text = Vec::new();
        while let Some(bytes) = answer.next().await {
            text.extend_from_slice(&bytes?);
        }
        let imported: serde_json::Value = serde_json::from_slice(&text).context("the answer is no JSON")?;
        if self.output.json {
            say_json(&imported);
            return Ok(());
        }
        let models = imported["models"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        models.for_each(|model| say(&format!("imported '{model}'\n")));
        Ok(())
    }
}
