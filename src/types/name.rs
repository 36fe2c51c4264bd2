//! A model's name: host, namespace, model and tag, always complete and legal.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The registry that a name without a host means.
pub const DEFAULT_HOST: &str = "registry.ollama.ai";
/// The namespace that a name without one means.
pub const DEFAULT_NAMESPACE: &str = "library";
/// The tag that a name without one means.
pub const DEFAULT_TAG: &str = "latest";

/// `[scheme://][host/][namespace/]model[:tag]` with its defaults filled in. Compares without case, keeps its spelling.
///
/// Invariant: every part is of [`legal`] bytes and length, so a path made of the four parts stays inside its folder.
#[derive(Clone, Debug)]
pub struct ModelName {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid model name")]
pub struct InvalidName;

#[derive(Clone, Copy)]
enum Part {
    Host,
    Namespace,
    Model,
    Tag,
}

fn legal(part: Part, text: &str) -> bool {
    let longest = if matches!(part, Part::Host) { 350 } else { 80 };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=longest).contains(&text.len())
        && word(text.as_bytes()[0])
        && text.bytes().all(|byte| {
            word(byte)
                || match byte {
                    b'-' => true,
                    b'.' => !matches!(part, Part::Namespace),
                    b':' => matches!(part, Part::Host),
                    _ => false,
                }
        })
}

impl ModelName {
    /// # Errors
    /// [`InvalidName`] when a part is empty, too long or holds a byte that it may not hold.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        let (rest, tag) = match text.rfind(':') {
            Some(colon) if text.rfind('/').is_none_or(|slash| slash < colon) => (&text[..colon], &text[colon + 1..]),
            _ => (text, DEFAULT_TAG),
        };
        let (rest, model) = rest.rsplit_once('/').map_or((None, rest), |(rest, model)| (Some(rest), model));
        let (host, namespace) = match rest {
            None => (DEFAULT_HOST, DEFAULT_NAMESPACE),
            Some(rest) => match rest.rsplit_once('/') {
                None => (DEFAULT_HOST, rest),
                Some((host, namespace)) => (host.split_once("://").map_or(host, |(_, host)| host), namespace),
            },
        };
        Self::from_parts(host, namespace, model, tag)
    }

    /// # Errors
    /// As [`ModelName::parse`].
    pub fn from_parts(host: &str, namespace: &str, model: &str, tag: &str) -> Result<Self, InvalidName> {
        let parts = [(Part::Host, host), (Part::Namespace, namespace), (Part::Model, model), (Part::Tag, tag)];
        if !parts.iter().all(|(part, text)| legal(*part, text)) {
            return Err(InvalidName);
        }
        Ok(Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn model(&self) -> &str {
        &self.model
    }

    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// As lists show it: the default host and namespace hidden, the tag always there.
    pub fn short(&self) -> String {
        match (self.host.eq_ignore_ascii_case(DEFAULT_HOST), self.namespace.eq_ignore_ascii_case(DEFAULT_NAMESPACE)) {
            (true, true) => format!("{}:{}", self.model, self.tag),
            (true, false) => format!("{}/{}:{}", self.namespace, self.model, self.tag),
            (false, _) => self.to_string(),
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }
}

impl PartialEq for ModelName {
    fn eq(&self, other: &Self) -> bool {
        self.model.eq_ignore_ascii_case(&other.model)
            && self.tag.eq_ignore_ascii_case(&other.tag)
            && self.namespace.eq_ignore_ascii_case(&other.namespace)
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

impl Eq for ModelName {}

impl Hash for ModelName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for part in [&self.host, &self.namespace, &self.model, &self.tag] {
            part.to_ascii_lowercase().hash(state);
        }
    }
}

/// `text` as a part of a model's name: what names may not hold becomes a dash.
pub fn legal_part(text: &str) -> String {
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let text: String = text.chars().map(|letter| if word(letter) || letter == '.' { letter } else { '-' }).collect();
    let text: String = text.trim_start_matches(['-', '.']).chars().take(80).collect();
    if text.is_empty() { "model".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_defaults() {
        let name = ModelName::parse("tiny").unwrap();
        assert_eq!(
            (name.to_string(), name.short()),
            ("registry.ollama.ai/library/tiny:latest".into(), "tiny:latest".into())
        );
        let name = ModelName::parse("http://localhost:5000/team/tiny:Q8").unwrap();
        assert_eq!((name.host(), name.namespace(), name.model(), name.tag()), ("localhost:5000", "team", "tiny", "Q8"));
        assert_eq!(name, ModelName::parse("LOCALHOST:5000/team/TINY:q8").unwrap());
    }

    #[test]
    fn illegal_names() {
        for bad in ["", "a/", ":x", "a:", "/a", "../a", "a/../b", "hf.co/org.x/model", "é", "a b", &"x".repeat(81)] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_names() {
        assert_eq!(legal_part("..Ti ny/1.5é"), "Ti-ny-1.5-");
        assert_eq!((legal_part("-."), legal_part(&"x".repeat(99)).len()), ("model".into(), 80));
    }
}
