//! `hanzod create`: a model from a Modelfile, or from the folder one stands in.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio_util::io::ReaderStream;

use super::Output;
use super::client::{Body, Client, Refused, set};
use super::progress::Progress;
use crate::store::modelfile::{Modelfile, Recipe};
use crate::types::Digest;

/// Files of a safetensors folder that a model is made of: weights, and what stands beside them.
const FOLDER_ENDINGS: [&str; 5] = [".safetensors", ".json", ".jinja", ".model", ".txt"];
const CHUNK: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The name to give it
    model: String,
    /// The Modelfile; without one, the folder itself is the model
    #[arg(short, long, value_name = "MODELFILE")]
    file: Option<PathBuf>,
    /// Quantise to this type, such as q4_K_M
    #[arg(short, long)]
    quantize: Option<String>,
    /// Quantise the draft model to this type
    #[arg(long)]
    draft_quantize: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Create {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let (recipe, folder) = self.recipe()?;
        for name in &recipe.deprecated {
            super::tell(&format!("warning: parameter {name} is deprecated\n"));
        }
        let mut progress = Progress::new(self.output.json);
        let mut request = request(&self.model, &recipe);
        set(&mut request, "quantize", self.quantize.map(Value::String));
        set(&mut request, "draft_quantize", self.draft_quantize.map(Value::String));
        let mut files = Files { folder, client, progress: &mut progress };
        let mut weights = BTreeMap::new();
        for from in &recipe.from {
            let path = files.path(from);
            match path.exists() {
                true => weights.append(&mut files.upload_all(&path).await?),
                false => request["from"] = json!(from),
            }
        }
        if !weights.is_empty() {
            request["files"] = json!(weights);
        }
        if let Some(adapter) = recipe.adapters.last() {
            let path = files.path(adapter);
            request["adapters"] = json!(files.upload_all(&path).await?);
        }
        let mut drafts = BTreeMap::new();
        for draft in &recipe.drafts {
            let path = files.path(draft);
            if recipe.from.iter().any(|from| files.path(from) == path) {
                bail!("DRAFT must not reference the same local path as FROM: {draft}");
            }
            drafts.append(&mut files.upload_all(&path).await?);
        }
        if !drafts.is_empty() {
            request["draft_files"] = json!(drafts);
        }
        client
            .lines("/api/create", &request, |line| {
                progress.show(&line);
                Ok(())
            })
            .await
    }

    /// The instructions, and the folder that its paths are relative to.
    fn recipe(&self) -> anyhow::Result<(Recipe, PathBuf)> {
        let path = self.file.clone().unwrap_or_else(|| "Modelfile".into());
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.file.is_none() => b"FROM .\n".to_vec(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("specified Modelfile wasn't found"),
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok((Modelfile::parse(&text)?.recipe()?, folder))
    }
}

/// What a recipe asks for, but for its files.
fn request(model: &str, recipe: &Recipe) -> Value {
    let mut request = json!({"model": model});
    let texts = [
        ("template", &recipe.template),
        ("system", &recipe.system),
        ("renderer", &recipe.renderer),
        ("parser", &recipe.parser),
        ("requires", &recipe.requires),
    ];
    for (key, text) in texts {
        set(&mut request, key, text.clone().map(Value::String));
    }
    if !recipe.licenses.is_empty() {
        request["license"] = json!(recipe.licenses);
    }
    if !recipe.parameters.is_empty() {
        request["parameters"] = Value::Object(recipe.parameters.clone());
    }
    let messages = recipe.messages.iter().map(|(role, content)| json!({"role": role.as_str(), "content": content}));
    let messages: Vec<Value> = messages.collect();
    if !messages.is_empty() {
        request["messages"] = Value::Array(messages);
    }
    request
}

/// Brings files to the server by their digests.
struct Files<'a> {
    folder: PathBuf,
    client: &'a Client,
    progress: &'a mut Progress,
}

impl Files<'_> {
    /// A path as a Modelfile means it: absolute, from the home folder, or from the Modelfile's own.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), std::env::home_dir()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.folder.join(text),
        }
    }

    /// Uploads a file, or the files of a folder that a model is made of. Gives name and digest of each.
    async fn upload_all(&mut self, path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
        let files = model_files(path)?;
        anyhow::ensure!(!files.is_empty(), "no Modelfile or safetensors files found");
        let mut uploaded = BTreeMap::new();
        for (name, file) in files {
            let digest = self.upload(&file).await?;
            uploaded.insert(name, digest);
        }
        Ok(uploaded)
    }

    async fn upload(&mut self, path: &Path) -> anyhow::Result<String> {
        let shown = path.display().to_string();
        self.progress.show(&json!({"status": format!("hashing {shown}")}));
        let file = path.to_owned();
        let digest = tokio::task::spawn_blocking(move || hash(&file)).await??.to_string();
        let route = format!("/api/blobs/{digest}");
        match self.client.call("HEAD", &route, None).await {
            Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {}
            other => return other.map(|_| digest),
        }
        self.progress.show(&json!({"status": format!("copying file {digest}")}));
        let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot read `{shown}`"))?;
        let body: Body = Box::pin(ReaderStream::with_capacity(file, CHUNK).map_err(std::io::Error::other));
        self.client.send("POST", &route, Some(body)).await.map(drop)?;
        Ok(digest)
    }
}

/// The files a model or an adapter is made of, and their names: the file itself, a folder's GGUFs if it has no
/// safetensors, or its safetensors and what stands beside them or describes its parts one folder down.
fn model_files(path: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_file() {
        return Ok(vec![(name(path), path.to_owned())]);
    }
    let (mut files, mut inner): (Vec<_>, Vec<_>) =
        entries(path)?.into_iter().map(|path| (name(&path), path)).partition(|(_, path)| path.is_file());
    let ends = |file: &str, ending: &str| file.ends_with(ending);
    if !files.iter().any(|(file, _)| ends(file, ".safetensors")) {
        files.retain(|(file, _)| ends(file, ".gguf"));
        return Ok(files);
    }
    files.retain(|(file, _)| FOLDER_ENDINGS.iter().any(|ending| ends(file, ending)));
    inner.retain(|(folder, path)| path.is_dir() && !folder.starts_with('.'));
    for (folder, path) in inner {
        let files_there = entries(&path)?.into_iter().filter(|path| path.is_file() && ends(&name(path), ".json"));
        files.extend(files_there.map(|path| (format!("{folder}/{}", name(&path)), path)));
    }
    Ok(files)
}

/// What is in a folder, sorted.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || format!("cannot read `{}`", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(read)? {
        entries.push(entry.with_context(read)?.path());
    }
    entries.sort();
    Ok(entries)
}

fn hash(path: &Path) -> anyhow::Result<Digest> {
    let read = || format!("cannot read `{}`", path.display());
    let mut file = std::fs::File::open(path).with_context(read)?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).with_context(read)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_safetensors_go_before_its_ggufs() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            |path: &Path| -> Vec<String> { model_files(path).unwrap().into_iter().map(|(name, _)| name).collect() };
        for name in ["a.gguf", "README.md", "config.json"] {
            std::fs::write(folder.path().join(name), b"x").unwrap();
        }
        assert_eq!(names(folder.path()), ["a.gguf"]);
        std::fs::write(folder.path().join("model.safetensors"), b"x").unwrap();
        for inner in ["1_Pooling", ".cache"] {
            std::fs::create_dir(folder.path().join(inner)).unwrap();
            std::fs::write(folder.path().join(inner).join("config.json"), b"x").unwrap();
        }
        std::fs::write(folder.path().join("1_Pooling/model.safetensors"), b"x").unwrap();
        assert_eq!(names(folder.path()), ["config.json", "model.safetensors", "1_Pooling/config.json"]);
        assert_eq!(hash(&folder.path().join("a.gguf")).unwrap(), Digest::of(b"x"));
    }
}
