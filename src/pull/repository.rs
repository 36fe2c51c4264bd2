//! A repository on the Hugging Face hub, as people name one.

use super::source::{SourceError, legal_part};
use crate::types::ModelName;
use crate::types::name::{DEFAULT_HOST, DEFAULT_TAG};

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
}

impl Repository {
    /// `owner` is of a name without one.
    pub(super) fn parse(text: &str, owner: Option<&str>) -> Result<Self, SourceError> {
        let text = text.trim();
        let wrong = || SourceError::Repository(text.to_owned());
        let path = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text).trim_end_matches('/');
        if let (Some(long), None) = (long(path), owner) {
            return Ok(Self { name: ModelName::parse(path)?, ..Self::parse(long, None)? });
        }
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
        })
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
    fn what_is_none() {
        for bad in
            ["", "qwen3", "a/b/c", "../b", "a/..", "a/b@../x", "a/b@", "a/b:", "a/b:../x", "a/b?x", "a/%2e", "-a/b"]
        {
            assert!(Repository::parse(bad, None).is_err(), "{bad}");
        }
    }
}
