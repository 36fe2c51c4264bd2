//! Floor 2: making a model out of another one, or out of files that were uploaded.
//!
//! Weights are checked and then kept as they came: a blob's digest does not change. Where safetensors must become GGUF the
//! caller has them converted first ([`convert`]), and then quantised where that is asked for: [`quantizations`] says of
//! what. Everything here blocks.
//!
//! Invariant: all that was asked is checked before anything is written, and the model appears, whole, with its
//! manifest.

pub mod archive;
mod convert;
mod detected;
mod error;
mod layers;
mod link;
mod quantize;
mod request;
mod safetensors;
mod weights;

#[cfg(test)]
mod tests;

pub use convert::{Conversion, Converted, convert};
pub use error::{CreateError, CreateErrorKind};
pub use link::{LinkEvent, LinkRequest, LooseGguf, link, scan};
pub use quantize::{NO_DIGEST, Quantization, Quantized, quantizations};
pub use request::{CreateFile, CreateInfo, CreateRequest, Remote};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::prompt::detect::ChatTexts;
use crate::prompt::named::Named;
use crate::store::{
    Descriptor, Manifest, MediaType, Model, ModelConfig, ModelFormat, Pin, Store, StoreError, message_layer,
};
use crate::types::{Digest, Options};
use layers::Layers;
use weights::{Facts, GgufFile};

/// What is being done. Its text is Ollama's, where Ollama does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateEvent {
    ParsingGguf,
    ParsingSafetensors,
    UsingLayer(Digest),
    CreatingLayer(Digest),
    /// The weights' own chat template is that of a format that is known by this name.
    DetectedTemplate(&'static str),
    WritingManifest,
    Success,
}

impl fmt::Display for CreateEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ParsingGguf => f.write_str("parsing GGUF"),
            Self::ParsingSafetensors => f.write_str("parsing safetensors"),
            Self::UsingLayer(digest) => write!(f, "using existing layer {digest}"),
            Self::CreatingLayer(digest) => write!(f, "creating new layer {digest}"),
            Self::DetectedTemplate(name) => write!(f, "using autodetected template {name}"),
            Self::WritingManifest => f.write_str("writing manifest"),
            Self::Success => f.write_str("success"),
        }
    }
}

/// Makes a model. A former one of the same name is replaced, and the blobs that only it used are removed.
///
/// # Errors
/// [`CreateError`]; then the store has no new model, and a former one of that name is as it was.
pub fn create(
    store: &Store,
    mut request: CreateRequest,
    mut events: impl FnMut(CreateEvent),
) -> Result<(), CreateError> {
    let _pins = pins(store, &request);

    let (base, mut given) = check(store, &request)?;
    let quantized = quantize::settle(store, &request, &mut given)?;
    if base.is_none() {
        use_builtin(&mut request, &given.facts.family);
    }
    let detected = detected::detected(&mut request, base.as_ref(), &given);
    let config = config(&request, base.as_ref(), &given.facts);

    // of files that were quantised clients have been told by now
    given.events.into_iter().filter(|_| request.quantized.is_empty()).for_each(&mut events);
    let mut layers = Layers::new(store);
    for layer in base.iter().flat_map(|base| &base.manifest.layers) {
        layers.add(Descriptor { from: base.as_ref().map(|base| base.name.short()), ..layer.clone() });
    }
    // of weights and adapters there is one
    for kind in [MediaType::Model, MediaType::Adapter] {
        if given.layers.iter().any(|layer| layer.media_type == kind) {
            layers.remove(&kind);
        }
    }
    if given.layers.iter().any(|layer| layer.media_type == MediaType::Model) {
        layers.remove(&MediaType::File);
    }
    for layer in given.layers {
        match request.is_converted(&layer.digest) {
            true => layers.made(layer),
            false => layers.add(layer),
        }
    }
    quantized.into_iter().for_each(|layer| layers.substitute(layer));
    write_texts(&mut layers, &request, base.as_ref().map(|base| &base.parameters))?;
    if let Some(Named { name, .. }) = detected {
        layers.tell(&MediaType::Template, &CreateEvent::DetectedTemplate(name));
    }
    let config = layers.config(&config.to_bytes())?;

    let (layers, told, _pins) = layers.finish();
    told.into_iter().for_each(&mut events);
    events(CreateEvent::WritingManifest);
    store.tag(&request.name, &Manifest::new(config, layers).to_bytes())?;
    events(CreateEvent::Success);
    Ok(())
}

/// Keeps the blobs that were uploaded for this request, which no manifest names yet.
fn pins(store: &Store, request: &CreateRequest) -> Vec<Pin> {
    let files = [&request.files, &request.adapters, &request.drafts].into_iter().flatten();
    files.map(|file| store.pin(*file.digest())).collect()
}

/// Everything that can be checked before anything is quantised.
fn check(store: &Store, request: &CreateRequest) -> Result<(Option<Model>, Given), CreateError> {
    Options::default().apply(&request.parameters)?;
    let base = base(store, request)?;
    let given = Given::read(store, request, base.as_ref())?;
    Ok((base, given))
}

/// The model to start from.
fn base(store: &Store, request: &CreateRequest) -> Result<Option<Model>, CreateError> {
    let Some(from) = &request.from else {
        let nothing = request.files.is_empty() && request.remote.is_none();
        return if nothing { Err(CreateError::NoSource) } else { Ok(None) };
    };
    match store.model(from) {
        Err(StoreError::NotFound(_)) => Err(CreateError::FromNotFound(from.clone())),
        other => Ok(Some(other?)),
    }
}

/// What the request's files are: checked, and not written anywhere yet.
struct Given {
    layers: Vec<Descriptor>,
    /// What the weights say: the files', or else the base's.
    facts: Facts,
    /// GGUF weights, the files' or else the base's, the parts of a model in order.
    weights: Vec<PathBuf>,
    drafts: Vec<PathBuf>,
    /// The quantisation of the draft model, if there is one.
    draft_type: Option<String>,
    /// The chat template that came with the files' weights.
    chat: Option<ChatTexts>,
    events: Vec<CreateEvent>,
}

impl Given {
    fn read(store: &Store, request: &CreateRequest, base: Option<&Model>) -> Result<Self, CreateError> {
        let remote = request.remote.is_some() || base.is_some_and(Model::is_remote);
        if remote && !request.drafts.is_empty() {
            return Err(CreateError::RemoteDraft);
        }
        if remote && !(request.files.is_empty() && request.adapters.is_empty()) {
            return Err(CreateError::RemoteFiles);
        }
        if request.remote.is_some() {
            return Ok(Self::nothing());
        }
        if request.files.iter().any(|file| file.path().ends_with(".safetensors")) {
            if base.is_some() || !request.adapters.is_empty() || !request.drafts.is_empty() {
                return Err(CreateError::Files("safetensors files must be given alone".to_owned()));
            }
            return Self::read_safetensors(store, &request.files);
        }
        Self::read_gguf(store, request, base)
    }

    fn nothing() -> Self {
        Self::of(Vec::new(), Facts::default(), Vec::new())
    }

    fn of(layers: Vec<Descriptor>, facts: Facts, events: Vec<CreateEvent>) -> Self {
        Self { layers, facts, weights: Vec::new(), drafts: Vec::new(), draft_type: None, chat: None, events }
    }

    fn read_safetensors(store: &Store, files: &[CreateFile]) -> Result<Self, CreateError> {
        let facts = safetensors::facts_of(store, files)?;
        let mut files: Vec<&CreateFile> = files.iter().collect();
        files.sort_unstable();
        let layer = |file: &CreateFile| weights::layer(store, MediaType::File, file, Some(file.path().to_owned()));
        let layers = files.into_iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Self::of(layers, facts, vec![CreateEvent::ParsingSafetensors]))
    }

    fn read_gguf(store: &Store, request: &CreateRequest, base: Option<&Model>) -> Result<Self, CreateError> {
        let mut files = GgufFile::open_all(store, &request.files)?;
        weights::in_order(&mut files)?;
        let adapters = GgufFile::open_all(store, &request.adapters)?;
        if let Some(other) = adapters.iter().find(|file| file.media_type() != MediaType::Adapter) {
            return Err(CreateError::Files(format!("`{}` is not an adapter", other.file.path())));
        }
        let drafts = GgufFile::open_all(store, &request.drafts)?;

        let mut layers = Vec::new();
        for file in files.iter().chain(&adapters) {
            layers.push(weights::layer(store, file.media_type(), file.file, None)?);
        }
        if layers.iter().filter(|layer| layer.media_type == MediaType::Adapter).count() > 1 {
            return Err(CreateError::ManyAdapters);
        }
        for file in &drafts {
            layers.push(weights::layer(store, MediaType::Draft, file.file, None)?);
        }

        let of = |kind| files.iter().filter(move |file| file.media_type() == kind).map(|file| &file.gguf);
        let models: Vec<_> = of(MediaType::Model).collect();
        let (facts, weights) = match base {
            Some(base) if models.is_empty() => {
                let projectors = of(MediaType::Projector).map(|gguf| gguf.path().to_owned());
                let weights = if base.format() == Some(ModelFormat::Gguf) { base.weights()? } else { Vec::new() };
                (facts_of_base(base, projectors.collect())?, weights)
            }
            _ => {
                let facts = weights::facts_of(&models, &of(MediaType::Projector).collect::<Vec<_>>())?;
                (facts, models.iter().map(|gguf| gguf.path().to_owned()).collect())
            }
        };
        Ok(Self {
            facts,
            weights,
            drafts: drafts.iter().map(|draft| draft.gguf.path().to_owned()).collect(),
            chat: models.first().and_then(|gguf| weights::chat_texts(gguf)),
            draft_type: drafts.first().map(|draft| draft.gguf.file_type().to_owned()),
            // what was converted here needs no look
            events: vec![
                CreateEvent::ParsingGguf;
                [&files, &adapters, &drafts]
                    .into_iter()
                    .flatten()
                    .filter(|file| !request.is_converted(file.file.digest()))
                    .count()
            ],
            layers,
        })
    }
}

/// Read anew from GGUF weights; of others, what the config says.
fn facts_of_base(base: &Model, more_projectors: Vec<PathBuf>) -> Result<Facts, CreateError> {
    if base.format() == Some(ModelFormat::Gguf) {
        let projectors = [base.projectors(), more_projectors].concat();
        return weights::facts_of_paths(&base.weights()?, &projectors);
    }
    let config = &base.config;
    Ok(Facts {
        format: "",
        family: config.model_family.clone(),
        families: config.model_families.clone().unwrap_or_default(),
        parameter_size: config.model_type.clone(),
        file_type: config.file_type.clone(),
        context_length: config.context_length,
        embedding_length: config.embedding_length,
        capabilities: Vec::new(),
    })
}

/// Some families come with a renderer and a parser of their own in place of a template.
fn use_builtin(request: &mut CreateRequest, family: &str) {
    let name = match family {
        "gemma4" => "gemma4",
        "laguna" => "laguna",
        family if family.starts_with("nemotron_h") => "nemotron-3-nano",
        _ => return,
    };
    if request.renderer.is_empty() && request.parser.is_empty() && request.template.is_empty() {
        name.clone_into(&mut request.renderer);
        name.clone_into(&mut request.parser);
        if name == "gemma4" {
            request.parameters.entry("stop").or_insert_with(|| serde_json::json!(["<turn|>"]));
        }
    }
}

/// The base's config, then what the weights say, then what the client says.
fn config(request: &CreateRequest, base: Option<&Model>, facts: &Facts) -> ModelConfig {
    let mut config = base.map(|base| base.config.clone()).unwrap_or_default();
    let info = &request.info;
    let set = |place: &mut String, text: &str| {
        if !text.is_empty() {
            text.clone_into(place);
        }
    };
    if facts.format == "gguf" && config.model_format == "safetensors" {
        // GGUF weights can be asked what they can do
        config.capabilities.clear();
    }
    set(&mut config.model_format, facts.format);
    set(&mut config.model_family, info.model_family.as_deref().unwrap_or(&facts.family));
    if !facts.families.is_empty() {
        config.model_families = Some(facts.families.clone());
    }
    set(&mut config.model_type, info.parameter_size.as_deref().unwrap_or(&facts.parameter_size));
    set(&mut config.file_type, info.quantization_level.as_deref().unwrap_or(&facts.file_type));
    set(&mut config.renderer, &request.renderer);
    set(&mut config.parser, &request.parser);
    set(&mut config.requires, &request.requires);
    if let Some(remote) = &request.remote {
        remote.model.clone_into(&mut config.remote_model);
        remote.host.clone_into(&mut config.remote_host);
    }
    set(&mut config.base_name, info.base_name.as_deref().unwrap_or_default());
    for capabilities in [&facts.capabilities, &info.capabilities] {
        if !capabilities.is_empty() {
            config.capabilities.clone_from(capabilities);
        }
    }
    for (place, said, told) in [
        (&mut config.context_length, info.context_length, facts.context_length),
        (&mut config.embedding_length, info.embedding_length, facts.embedding_length),
    ] {
        if let Some(length) = said.or((told > 0).then_some(told)) {
            *place = length;
        }
    }
    config
}

/// Template, system, licenses, parameters and messages, in the order in which Ollama appends them.
fn write_texts(
    layers: &mut Layers<'_>,
    request: &CreateRequest,
    former: Option<&Map<String, Value>>,
) -> Result<(), CreateError> {
    if !request.template.is_empty() {
        layers.replace(MediaType::Template, request.template.as_bytes())?;
    }
    if !request.system.is_empty() {
        layers.replace(MediaType::System, request.system.as_bytes())?;
    }
    for license in request.licenses.iter().filter(|license| !license.is_empty()) {
        layers.write(MediaType::License, license.as_bytes())?;
    }
    // sorted by name, as Go writes a map
    let parameters: BTreeMap<&String, &Value> = former.into_iter().flatten().chain(&request.parameters).collect();
    if !parameters.is_empty() {
        let mut bytes = crate::go::json::to_vec(&parameters).expect("parameters are plain JSON: a bug");
        bytes.push(b'\n');
        layers.replace(MediaType::Params, &bytes)?;
    }
    if !request.messages.is_empty() {
        layers.replace(MediaType::Messages, &message_layer(&request.messages))?;
    }
    Ok(())
}
