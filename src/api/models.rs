//! Models as the handlers see them: found by name, with the format they are spoken to in and what they can do.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::AppState;
use super::error::ApiError;
use super::names::{self, is_local};
use crate::prompt::PromptError;
use crate::prompt::choose::Abilities;
use crate::prompt::format::{Format, ModelTexts};
use crate::store::{Capability, Model, ModelFormat, Store, StoreError, Tag};
use crate::types::{Digest, ModelName};

/// Formats kept; reading a chat template takes milliseconds.
const KEPT: usize = 64;

/// A model, read.
#[derive(Debug)]
pub struct Known {
    pub model: Model,
    /// The error of a template that cannot be read belongs to those who need it.
    pub format: Result<Format, PromptError>,
    pub capabilities: Vec<Capability>,
    /// The chat template in the weights.
    pub jinja: Option<String>,
}

impl Known {
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// # Errors
    /// The template's.
    pub fn format(&self) -> Result<&Format, ApiError> {
        self.format.as_ref().map_err(|error| error.clone().into())
    }

    /// Whether tool calls are told with the end of an answer. Ollama leaves the calls of such models to their runner, which
    /// tells them then.
    pub fn calls_come_last(&self) -> bool {
        !self.has_builtin_parser() && self.format.as_ref().is_ok_and(Format::is_jinja)
    }

    /// Whether answers are read by a parser that the model's configuration names.
    pub fn has_builtin_parser(&self) -> bool {
        let config = &self.model.config;
        !config.parser.is_empty() || matches!(config.model_family.as_str(), "gptoss" | "gpt-oss")
    }
}

/// A model's full name, and the digest of its manifest.
type Key = (String, Digest);

/// What was read of models.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Mutex<HashMap<Key, Arc<Known>>>>);

impl Cache {
    /// A std mutex: held for single map operations.
    fn get(&self, key: &Key) -> Option<Arc<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, known: Arc<Known>) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= KEPT {
            map.clear();
        }
        map.insert(key, known);
    }
}

/// Runs what blocks, such as all of the store, away from the threads that serve.
///
/// # Errors
/// Those of `work`, and that it panicked.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(ApiError::internal(error)),
    }
}

/// Runs what takes its time and borrows, such as a template, while others take over what this thread serves. A runtime of a
/// single thread has no others.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => work(),
        _ => tokio::task::block_in_place(work),
    }
}

/// The model of that name, or `None`.
///
/// # Errors
/// When its manifest or a small blob is broken.
pub async fn find(state: &AppState, name: &ModelName) -> Result<Option<Arc<Known>>, ApiError> {
    let (store, cache, name, go_wanted) = (state.store.clone(), state.known.clone(), name.clone(), state.go_template);
    blocking(move || {
        let tag = match store.tags().get(&name) {
            Err(StoreError::NotFound(_)) => return Ok(None),
            tag => tag?,
        };
        let key = (tag.name.to_string(), tag.digest);
        if let Some(known) = cache.get(&key).filter(|known| known.model.modified == tag.modified) {
            return Ok(Some(known));
        }
        let known = Arc::new(read(&store, tag, go_wanted)?);
        cache.put(key, known.clone());
        Ok::<_, StoreError>(Some(known))
    })
    .await
}

/// The model of that name that is to be shown, or `None`. `asked` is the name as the client wrote it: with `local` for its last
/// part it means no model of another server.
///
/// # Errors
/// As [`find`].
pub async fn find_to_show(state: &AppState, name: &ModelName, asked: &str) -> Result<Option<Arc<Known>>, ApiError> {
    Ok(find(state, name).await?.filter(|known| !(known.model.is_remote() && is_local(asked))))
}

/// The model of that name that is to be run, or `None`.
///
/// # Errors
/// As [`find_to_show`], and for a model that another server runs: this one asks no others.
pub async fn find_to_run(state: &AppState, name: &ModelName, asked: &str) -> Result<Option<Arc<Known>>, ApiError> {
    match find_to_show(state, name, asked).await? {
        Some(known) if known.model.is_remote() => Err(names::remote("remote model is unavailable")),
        known => Ok(known),
    }
}

fn read(store: &Store, tag: Tag, go_wanted: Option<bool>) -> Result<Known, StoreError> {
    let model = store.model_of(tag)?;
    let own = OwnTexts::of(&model);
    let format = Format::of(&own.texts(&model, go_wanted));
    let abilities = format.as_ref().map(Format::abilities).unwrap_or_default();
    let jinja_speaks = format.as_ref().is_ok_and(Format::is_jinja);
    let capabilities = capabilities(&model, abilities, jinja_speaks);
    Ok(Known { capabilities, format, jinja: own.jinja, model })
}

/// In Ollama's order: the config's, what a Jinja template in use tells, what the weights tell, what Go templates and
/// parsers tell; none twice.
fn capabilities(model: &Model, abilities: Abilities, jinja_speaks: bool) -> Vec<Capability> {
    let base = model.base_capabilities();
    let said =
        base.iter().take_while(|kind| model.config.capabilities.iter().any(|text| text == kind.as_str())).count();
    let (said, rest) = base.split_at(said);
    let told = [
        (abilities.tools, Capability::Tools),
        (abilities.insert, Capability::Insert),
        (abilities.thinking, Capability::Thinking),
    ];
    let told: Vec<Capability> = told.into_iter().filter_map(|(has, kind)| has.then_some(kind)).collect();
    let in_order = if jinja_speaks { [said, &told, rest] } else { [said, rest, &told] };
    let mut all = Vec::new();
    for kind in in_order.concat() {
        if !all.contains(&kind) {
            all.push(kind);
        }
    }
    all
}

/// What a list says a model can do: as [`Known::capabilities`], but the weights' own chat template is not read, as in
/// Ollama.
pub fn listed_capabilities(model: &Model) -> Vec<Capability> {
    let texts = OwnTexts::default();
    let format = Format::of(&texts.texts(model, None));
    capabilities(model, format.as_ref().map(Format::abilities).unwrap_or_default(), false)
}

/// The texts that a model's weights bring along.
#[derive(Debug, Default)]
struct OwnTexts {
    jinja: Option<String>,
    bos: String,
    eos: String,
    parameters: u64,
    name: String,
}

impl OwnTexts {
    fn of(model: &Model) -> Self {
        let texts = match model.format() {
            Some(ModelFormat::Gguf) => Self::of_gguf(model),
            Some(ModelFormat::Safetensors) => {
                model.weights().ok().and_then(|folders| Self::of_folder(folders.first()?))
            }
            _ => None,
        };
        Self { name: model.name.short(), ..texts.unwrap_or_default() }
    }

    fn of_gguf(model: &Model) -> Option<Self> {
        let gguf = model.gguf().inspect_err(|error| tracing::warn!(%error, "weights cannot be read")).ok()??;
        let jinja = gguf.chat_template().map(str::to_owned);
        let token = |text: Result<Option<String>, _>| text.ok().flatten().unwrap_or_default();
        let (bos, eos) = match jinja {
            Some(_) => (token(gguf.bos_token()), token(gguf.eos_token())),
            None => Default::default(),
        };
        Some(Self { jinja, bos, eos, parameters: gguf.parameter_count(), ..Self::default() })
    }

    /// As Hugging Face keeps them: the template in a file of its own or in the tokenizer's configuration.
    fn of_folder(folder: &Path) -> Option<Self> {
        let file = |name: &str| std::fs::read(folder.join(name)).ok();
        let config = file("tokenizer_config.json").and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let config = config.unwrap_or_default();
        let own = file("chat_template.jinja").map(|text| String::from_utf8_lossy(&text).into_owned());
        let token = |name: &str| {
            let token = &config[name];
            token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_owned()
        };
        let named = |template: &Value| match template {
            Value::String(text) => Some(text.clone()),
            Value::Array(list) => {
                let default = list.iter().find(|item| item["name"] == "default");
                default.and_then(|item| item["template"].as_str()).map(str::to_owned)
            }
            _ => None,
        };
        Some(Self {
            jinja: own.or_else(|| named(&config["chat_template"])),
            bos: token("bos_token"),
            eos: token("eos_token"),
            ..Self::default()
        })
    }

    fn texts<'a>(&'a self, model: &'a Model, go_wanted: Option<bool>) -> ModelTexts<'a> {
        ModelTexts {
            go_template: model.template.as_deref(),
            jinja: self.jinja.as_deref(),
            renderer: &model.config.renderer,
            parser: &model.config.parser,
            family: &model.config.model_family,
            name: &self.name,
            parameters: self.parameters,
            bos: &self.bos,
            eos: &self.eos,
            go_wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_run_while_a_template_does() {
        let (tell, told) = mpsc::channel();
        let waits = async move {
            // On the same thread, behind this.
            tokio::spawn(async move { tell.send(()) });
            in_place(|| told.recv_timeout(Duration::from_secs(10)))
        };
        assert_eq!(tokio::spawn(waits).await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_single_thread_does_it_itself() {
        assert_eq!(in_place(|| 1), 1);
    }
}
