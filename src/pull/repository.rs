//! A repository on the Hugging Face hub, as people name one.

use super::mlx;
use super::source::{SourceError, legal_part};
use crate::types::name::{DEFAULT_HOST, DEFAULT_TAG};
use crate::types::{Digest, ModelName};

/// Short names for repositories. A colon in them may stand for the dash before the size.
const SHORT: [(&str, &str); 11] = [
    ("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B"),
    ("qwen3-embedding-4b", "Qwen/Qwen3-Embedding-4B"),
    ("qwen3-embedding-8b", "Qwen/Qwen3-Embedding-8B"),
    ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
    ("qwen3-1.7b", "Qwen/Qwen3-1.7B"),
    ("qwen3-4b", "Qwen/Qwen3-4B"),
    ("qwen3-8b", "Qwen/Qwen3-8B"),
    ("qwen3-14b", "Qwen/Qwen3-14B"),
    ("qwen3-32b", "Qwen/Qwen3-32B"),
    ("qwen3-30b-a3b", "Qwen/Qwen3-30B-A3B"),
    ("qwen3-235b-a22b", "Qwen/Qwen3-235B-A22B"),
];
/// What a repository's name may be written after.
const PREFIXES: [&str; 6] = [
    "https://huggingface.co/",
    "https://hf.co/",
    "http://huggingface.co/",
    "http://hf.co/",
    "huggingface.co/",
    "hf.co/",
];
/// The registries that are the hub.
const HOSTS: [&str; 2] = ["hf.co", "huggingface.co"];
const MAIN: &str = "main";

/// `owner/repository[@revision][:quant]`.
///
/// Invariant: owner and repository are of letters, digits, `-`, `_` and `.`, begin with none of the last three, and have
/// no two dots in a row.
#[derive(Clone, Debug)]
pub struct Repository {
    owner: String,
    repository: String,
    revision: String,
    quant: Option<String>,
    name: ModelName,
    counterpart: Option<Counterpart>,
    file: Option<HubFile>,
}

/// One GGUF file of a repository, with the other parts of the model where it is a part.
#[derive(Clone, Debug)]
pub(super) struct HubFile {
    pub(super) path: String,
    /// What its content must be.
    pub(super) sha256: Option<Digest>,
}

/// What is wanted is not this repository, but the one that has the same in MLX's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counterpart {
    /// In so many bits.
    pub(super) width: Option<&'static str>,
}

impl Repository {
    /// Whether `text` begins as a name on the hub does and says more than a registry's name can.
    pub(super) fn is_revision(text: &str) -> bool {
        let path = PREFIXES.iter().find_map(|prefix| text.trim().strip_prefix(prefix));
        path.is_some_and(|path| path.contains('@') || path.contains("/tree/"))
    }

    /// The repository that a name of a registry means, where that is the hub.
    pub(super) fn of_registry(name: &ModelName) -> Option<Self> {
        HOSTS.iter().any(|host| name.host().eq_ignore_ascii_case(host)).then_some(())?;
        let text = format!("{}/{}:{}", name.namespace(), name.model(), name.tag());
        Some(Self { name: name.clone(), ..Self::parse(&text, None).ok()? })
    }

    /// What `--source mlx` means: a short name, a repository that has MLX's form, or one that has not, and then the one of
    /// `mlx-community` that is made of it. A width (`4bit`, `6bit`, `8bit`, `bf16`) may follow a colon.
    pub(super) fn mlx(text: &str) -> Result<Self, SourceError> {
        let path = bare(text);
        let (rest, width) = match mlx::split_width(path, ':') {
            Some((rest, width)) => (rest, Some(width)),
            None => match mlx::split_width(path, '-').filter(|(rest, _)| long(rest).is_some()) {
                Some((rest, width)) => (rest, Some(width)),
                None => (path, None),
            },
        };
        let counterpart = Some(Counterpart { width });
        if let Some(long) = long(rest) {
            return Ok(Self { name: ModelName::parse(path)?, counterpart, ..Self::parse(long, None)? });
        }
        let named = Self::parse(rest, Some(mlx::OWNER))?;
        if width.is_none() && (named.quant.is_some() || mlx::is_converted(&named.repository)) {
            return Ok(named);
        }
        let tag = width.unwrap_or(DEFAULT_TAG);
        let name = ModelName::from_parts(DEFAULT_HOST, mlx::OWNER, &legal_part(&named.repository), tag)?;
        Ok(Self { name, counterpart, ..named })
    }

    /// `owner` is of a name without one.
    pub(super) fn parse(text: &str, owner: Option<&str>) -> Result<Self, SourceError> {
        let wrong = || SourceError::Repository(text.trim().to_owned());
        let path = bare(text);
        if let (Some(long), None) = (long(path), owner) {
            return Ok(Self { name: ModelName::parse(path)?, ..Self::parse(long, None)? });
        }
        // As a browser shows a revision.
        let tree = path.replacen("/tree/", "@", 1);
        let path = tree.as_str();
        let (path, quant) = match path.rsplit_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (path, None),
        };
        let (path, revision) = path.split_once('@').unwrap_or((path, MAIN));
        let (owner, repository) = match (path.split_once('/'), owner) {
            (Some(parts), _) => parts,
            (None, Some(owner)) => (owner, path),
            (None, None) => return Err(wrong()),
        };
        let sound = is_word(owner)
            && is_word(repository)
            && revision.split('/').all(is_word)
            && quant.is_none_or(|quant| is_word(quant) && quant.len() <= 80);
        if !sound {
            return Err(wrong());
        }
        let tag = quant.unwrap_or(DEFAULT_TAG);
        let part = |text: &str| legal_part(text);
        let name = ModelName::from_parts(DEFAULT_HOST, &part(owner).replace('.', "-"), &part(repository), &part(tag))?;
        Ok(Self {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            quant: quant.filter(|quant| !quant.eq_ignore_ascii_case(DEFAULT_TAG)).map(str::to_owned),
            name,
            counterpart: None,
            file: None,
        })
    }

    /// A file at one revision, and all that belongs to it; `None` for parts that are no plain words.
    pub(super) fn of_file(owner: &str, repository: &str, revision: &str, file: HubFile) -> Option<Self> {
        let found = Self::parse(&format!("{owner}/{repository}@{revision}"), None).ok()?;
        Some(Self { file: Some(file), ..found })
    }

    pub(super) fn file(&self) -> Option<&HubFile> {
        self.file.as_ref()
    }

    pub(super) fn counterpart(&self) -> Option<Counterpart> {
        self.counterpart
    }

    /// The repository that turned out to be this one's counterpart.
    pub(super) fn found(&self, repository: String) -> Self {
        Self { owner: mlx::OWNER.to_owned(), repository, counterpart: None, ..self.clone() }
    }

    pub(super) fn path(&self) -> [&str; 2] {
        [&self.owner, &self.repository]
    }

    pub(super) fn revision(&self) -> &str {
        &self.revision
    }

    /// Which of a repository's GGUF files are wanted.
    pub(super) fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// What the model is called here: as it was asked for.
    pub(super) fn name(&self) -> &ModelName {
        &self.name
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.repository)
    }
}

/// Without what says that it is on the hub.
fn bare(text: &str) -> &str {
    let text = text.trim();
    PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text).trim_end_matches('/')
}

fn long(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix(":latest").unwrap_or(&text).replace(':', "-");
    SHORT.iter().find(|(short, _)| *short == text).map(|(_, long)| *long)
}

fn is_word(text: &str) -> bool {
    (1..=96).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !text.contains("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, owner: Option<&str>) -> (String, String, Option<String>, String) {
        let read = Repository::parse(text, owner).unwrap();
        (read.to_string(), read.revision.clone(), read.quant.clone(), read.name.short())
    }

    #[test]
    fn the_ways_to_name_one() {
        for (text, owner, path, revision, quant, name) in [
            ("Qwen/Qwen3-0.6B", None, "Qwen/Qwen3-0.6B", "main", None, "Qwen/Qwen3-0.6B:latest"),
            ("hf.co/a/b-GGUF:Q4_K_M", None, "a/b-GGUF", "main", Some("Q4_K_M"), "a/b-GGUF:Q4_K_M"),
            ("https://huggingface.co/a.x/b/", None, "a.x/b", "main", None, "a-x/b:latest"),
            ("a/b@refs/pr/1:latest", None, "a/b", "refs/pr/1", None, "a/b:latest"),
            ("qwen3-embedding-0.6b", None, "Qwen/Qwen3-Embedding-0.6B", "main", None, "qwen3-embedding-0.6b:latest"),
            ("qwen3:4B", None, "Qwen/Qwen3-4B", "main", None, "qwen3:4B"),
            (
                "Qwen3-0.6B-4bit",
                Some("mlx-community"),
                "mlx-community/Qwen3-0.6B-4bit",
                "main",
                None,
                "mlx-community/Qwen3-0.6B-4bit:latest",
            ),
        ] {
            let expected = (path.to_owned(), revision.to_owned(), quant.map(str::to_owned), name.to_owned());
            assert_eq!(read(text, owner), expected, "{text}");
        }
    }

    #[test]
    fn a_registry_that_is_the_hub() {
        let of = |text: &str| Repository::of_registry(&ModelName::parse(text).unwrap());
        let found = of("hf.co/Org/Repo-GGUF:Q8_0").unwrap();
        assert_eq!((found.to_string().as_str(), found.quant()), ("Org/Repo-GGUF", Some("Q8_0")));
        assert_eq!(found.name().short(), "hf.co/Org/Repo-GGUF:Q8_0", "it keeps the name that it was asked for by");
        assert!(of("dengcao/qwen3-embedding-8b").is_none() && of("qwen3").is_none());
        assert!(Repository::is_revision("hf.co/a/b@v1:Q8_0") && !Repository::is_revision("hf.co/a/b:Q8_0"));
        assert_eq!(read("https://huggingface.co/a/b/tree/v1", None).1, "v1");
    }

    #[test]
    fn counterparts() {
        let read = |text: &str| {
            let read = Repository::mlx(text).unwrap();
            (read.to_string(), read.counterpart.map(|wish| wish.width.unwrap_or("any")), read.name.short())
        };
        for (text, path, width, name) in [
            ("qwen3-0.6b", "Qwen/Qwen3-0.6B", Some("any"), "qwen3-0.6b:latest"),
            ("qwen3:0.6b", "Qwen/Qwen3-0.6B", Some("any"), "qwen3:0.6b"),
            ("qwen3-0.6b:8bit", "Qwen/Qwen3-0.6B", Some("8bit"), "qwen3-0.6b:8bit"),
            ("qwen3-embedding-4b-bf16", "Qwen/Qwen3-Embedding-4B", Some("bf16"), "qwen3-embedding-4b-bf16:latest"),
            ("Qwen/Qwen3-4B:6bit", "Qwen/Qwen3-4B", Some("6bit"), "mlx-community/Qwen3-4B:6bit"),
            ("Llama-3.2-1B", "mlx-community/Llama-3.2-1B", Some("any"), "mlx-community/Llama-3.2-1B:latest"),
            ("mlx-community/x-4bit", "mlx-community/x-4bit", None, "mlx-community/x-4bit:latest"),
            (
                "Qwen3-0.6B-4bit-DWQ",
                "mlx-community/Qwen3-0.6B-4bit-DWQ",
                None,
                "mlx-community/Qwen3-0.6B-4bit-DWQ:latest",
            ),
        ] {
            assert_eq!(read(text), (path.to_owned(), width, name.to_owned()), "{text}");
        }
        let found = Repository::mlx("qwen3-0.6b").unwrap().found("Qwen3-0.6B-4bit".into());
        assert_eq!((found.to_string().as_str(), found.counterpart), ("mlx-community/Qwen3-0.6B-4bit", None));
    }

    #[test]
    fn what_is_none() {
        for bad in
            ["", "qwen3", "a/b/c", "../b", "a/..", "a/b@../x", "a/b@", "a/b:", "a/b:../x", "a/b?x", "a/%2e", "-a/b"]
        {
            assert!(Repository::parse(bad, None).is_err(), "{bad}");
        }
    }
}
