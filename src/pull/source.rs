//! Where a model comes from: decided here, by the shape of what was asked for and by what was said of it.

use super::direct::Address;
use super::repository::Repository;
use crate::types::ModelName;
use crate::types::file_name::gguf_stem;
use crate::types::name::InvalidName;
pub(super) use crate::types::name::legal_part;

/// A kind of place that models come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A registry of Ollama's kind.
    Registry,
    /// A GGUF file at an address.
    Direct,
    /// A repository on the Hugging Face hub.
    HuggingFace,
    /// The same, or its counterpart in MLX's form, of `mlx-community`.
    Mlx,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("unknown source {0:?}: it is one of ollama, huggingface, mlx")]
    Unknown(String),
    #[error("this is not the address of a model: {0}")]
    Address(&'static str),
    #[error("{0:?} is not a repository on the hub such as Qwen/Qwen3-0.6B")]
    Repository(String),
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl SourceKind {
    /// `given` is what the client said of the source, empty for nothing; it goes before the shape of `text`. A name that
    /// begins with a host, `hf.co` as well, is of a registry: the hub is one too, unless a revision is asked for.
    ///
    /// # Errors
    /// [`SourceError::Unknown`].
    pub fn of(text: &str, given: &str) -> Result<Self, SourceError> {
        match given.trim().to_ascii_lowercase().as_str() {
            "" => {}
            "ollama" => return Ok(Self::Registry),
            "huggingface" | "hf" => return Ok(Self::HuggingFace),
            "mlx" => return Ok(Self::Mlx),
            _ => return Err(SourceError::Unknown(given.to_owned())),
        }
        let scheme = text.trim().split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        Ok(match scheme {
            Some((scheme, rest))
                if matches!(scheme.as_str(), "http" | "https")
                    && gguf_stem(rest.split(['?', '#']).next().unwrap_or_default()).is_some() =>
            {
                Self::Direct
            }
            _ if Repository::is_revision(text) => Self::HuggingFace,
            _ => Self::Registry,
        })
    }
}

/// Where one model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    Registry(ModelName),
    Direct(Address),
    HuggingFace(Repository),
}

impl Source {
    /// # Errors
    /// When `text` is nothing that a source of this kind has.
    pub fn parse(kind: SourceKind, text: &str) -> Result<Self, SourceError> {
        Ok(match kind {
            SourceKind::Registry => Self::Registry(ModelName::parse(text)?),
            SourceKind::Direct => Self::Direct(Address::parse(text)?),
            SourceKind::HuggingFace => Self::HuggingFace(Repository::parse(text, None)?),
            SourceKind::Mlx => Self::HuggingFace(Repository::mlx(text)?),
        })
    }

    /// What the model is called when nobody gives it another name.
    pub fn name(&self) -> ModelName {
        match self {
            Self::Registry(name) => name.clone(),
            Self::Direct(address) => address.name(),
            Self::HuggingFace(repository) => repository.name().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_shape_unless_it_is_said() {
        for (text, given, kind) in [
            ("llama3.2:1b", "", SourceKind::Registry),
            ("hf.co/org/repo:Q4_K_M", "", SourceKind::Registry),
            ("http://localhost:5000/team/tiny:latest", "", SourceKind::Registry),
            ("https://a.example/x/y.gguf", "", SourceKind::Direct),
            ("HTTPS://a.example/y.GGUF?sha256=0", "", SourceKind::Direct),
            ("https://a.example/y?file=x.gguf", "", SourceKind::Registry),
            ("Qwen/Qwen3-0.6B", "huggingface", SourceKind::HuggingFace),
            ("Qwen3-0.6B-4bit", "MLX", SourceKind::Mlx),
            ("https://a.example/y.gguf", "ollama", SourceKind::Registry),
            ("dengcao/qwen3-embedding-8b", "", SourceKind::Registry),
            ("hf.co/org/repo@v1:Q4_K_M", "", SourceKind::HuggingFace),
            ("https://huggingface.co/org/repo/tree/v1", "", SourceKind::HuggingFace),
        ] {
            assert_eq!(SourceKind::of(text, given), Ok(kind), "{text} {given}");
        }
        assert!(SourceKind::of("x", "url").is_err());
    }
}
