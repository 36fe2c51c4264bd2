//! What uploaded files are, and what they say of the model. Files are stored as they came; here they are only read.

use std::path::{Path, PathBuf};

use super::{CreateError, CreateFile};
use crate::gguf::{Gguf, GgufError, GgufKind, parameter_size};
use crate::prompt::detect::ChatTexts;
use crate::store::{Descriptor, MediaType, Store, StoreError};

/// What the weights say of a model. Texts are empty and numbers zero where they do not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) format: &'static str,
    pub(super) family: String,
    pub(super) families: Vec<String>,
    pub(super) parameter_size: String,
    pub(super) file_type: String,
    pub(super) context_length: u64,
    pub(super) embedding_length: u64,
    /// Where the weights cannot be asked again.
    pub(super) capabilities: Vec<String>,
}

/// A file and the layer that it becomes.
pub(super) fn layer(
    store: &Store,
    kind: MediaType,
    file: &CreateFile,
    name: Option<String>,
) -> Result<Descriptor, CreateError> {
    let size = store.blobs().size(file.digest()).ok_or(StoreError::MissingBlob(*file.digest()))?;
    Ok(Descriptor { name, ..Descriptor::new(kind, *file.digest(), size) })
}

/// An uploaded GGUF file that is sound.
pub(super) struct GgufFile<'a> {
    pub(super) file: &'a CreateFile,
    pub(super) gguf: Gguf,
}

impl<'a> GgufFile<'a> {
    pub(super) fn open_all(store: &Store, files: &'a [CreateFile]) -> Result<Vec<Self>, CreateError> {
        files.iter().map(|file| Self::open(store, file)).collect()
    }

    /// A file that is no GGUF by its name either is of an unknown type.
    fn open(store: &Store, file: &'a CreateFile) -> Result<Self, CreateError> {
        if store.blobs().size(file.digest()).is_none() {
            return Err(StoreError::MissingBlob(*file.digest()).into());
        }
        match open(&store.blobs().path(file.digest()), file.path()) {
            Err(CreateError::NotGguf) if !file.path().ends_with(".gguf") => Err(CreateError::UnknownType),
            opened => Ok(Self { file, gguf: opened? }),
        }
    }

    pub(super) fn media_type(&self) -> MediaType {
        match self.gguf.metadata().kind() {
            GgufKind::Model => MediaType::Model,
            GgufKind::Adapter => MediaType::Adapter,
            GgufKind::Projector => MediaType::Projector,
        }
    }
}

fn open(path: &Path, name: &str) -> Result<Gguf, CreateError> {
    Gguf::open(path).map_err(|source| match source {
        GgufError::Magic => CreateError::NotGguf,
        source => CreateError::Gguf { file: name.to_owned(), source },
    })
}

/// Puts the files in the order of their layers: the model (its parts in order), then projectors and adapters. There may
/// be one model.
pub(super) fn in_order(files: &mut [GgufFile<'_>]) -> Result<(), CreateError> {
    let rank = |file: &GgufFile<'_>| match file.media_type() {
        MediaType::Model => 0,
        MediaType::Projector => 1,
        _ => 2,
    };
    let part = |file: &GgufFile<'_>| file.gguf.metadata().split();
    files.sort_by(|a, b| (rank(a), part(a), a.file).cmp(&(rank(b), part(b), b.file)));
    let models: Vec<_> = files.iter().filter(|file| rank(file) == 0).collect();
    let parts: Vec<_> = models.iter().map(|file| part(file)).collect();
    match parts.as_slice() {
        [] | [None] => Ok(()),
        [Some((_, count)), ..] => {
            let whole = (0..*count).map(|number| Some((number, *count)));
            if parts.len() as u64 == *count && parts.iter().copied().eq(whole) {
                return Ok(());
            }
            Err(CreateError::Files(format!("of the {count} parts of a split model {} were given", parts.len())))
        }
        [None, ..] => {
            let names: Vec<_> = models.iter().map(|file| format!("`{}`", file.file.path())).collect();
            Err(CreateError::Files(format!("only one model can be created from, but {} were given", names.join(", "))))
        }
    }
}

/// What a GGUF model says of itself; `others` (its projectors) add their families.
pub(super) fn facts_of(parts: &[&Gguf], others: &[&Gguf]) -> Result<Facts, CreateError> {
    let Some(first) = parts.first() else {
        return Err(CreateError::Files("there is no model among the files".to_owned()));
    };
    let missing = |key| CreateError::Gguf { file: first.path().display().to_string(), source: GgufError::Missing(key) };
    if first.get("general.architecture").is_none() {
        return Err(missing("general.architecture"));
    }
    let word = |text: &str| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !parts.iter().chain(others).all(|gguf| word(gguf.architecture())) {
        return Err(CreateError::Files("the model's `general.architecture` is not a word".to_owned()));
    }
    if parts.iter().all(|part| part.tensors().is_empty()) {
        return Err(CreateError::Files("the model has no tensors".to_owned()));
    }
    if first.metadata().arch("block_count").is_some_and(|count| count.as_u64().is_none_or(|count| count == 0)) {
        return Err(CreateError::Files("the model's `block_count` is not a positive integer".to_owned()));
    }
    let mut families: Vec<String> = Vec::new();
    for gguf in parts.iter().take(1).chain(others) {
        if !families.iter().any(|family| family == gguf.architecture()) {
            families.push(gguf.architecture().to_owned());
        }
    }
    let parameters = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.parameter_count()));
    Ok(Facts {
        format: "gguf",
        family: first.architecture().to_owned(),
        families,
        parameter_size: parameter_size(parameters),
        file_type: first.file_type().to_owned(),
        context_length: 0,
        embedding_length: 0,
        capabilities: Vec::new(),
    })
}

/// The chat template of a GGUF model, if it has one.
pub(super) fn chat_texts(gguf: &Gguf) -> Option<ChatTexts> {
    let token = |text: Result<Option<String>, GgufError>| text.ok().flatten().unwrap_or_default();
    Some(ChatTexts {
        jinja: gguf.chat_template()?.to_owned(),
        bos: token(gguf.bos_token()),
        eos: token(gguf.eos_token()),
        adds_bos: gguf.metadata().bool("tokenizer.ggml.add_bos_token"),
    })
}

/// As [`facts_of`], of files that are in the store.
pub(super) fn facts_of_paths(parts: &[PathBuf], others: &[PathBuf]) -> Result<Facts, CreateError> {
    let open = |paths: &[PathBuf]| -> Result<Vec<Gguf>, CreateError> {
        paths.iter().map(|path| open(path, &path.file_name().unwrap_or_default().to_string_lossy())).collect()
    };
    let (parts, others) = (open(parts)?, open(others)?);
    facts_of(&parts.iter().collect::<Vec<_>>(), &others.iter().collect::<Vec<_>>())
}
