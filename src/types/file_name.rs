//! What the name of a file of weights says: its format, and which part of a split model it is.

use std::fmt;

/// Of a split model nobody has more parts than this.
const MOST_PARTS: u32 = 999;

/// The name (or path) of a GGUF file without `.gguf`, which may be in capitals.
pub fn gguf_stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.split_at_checked(name.len().checked_sub(".gguf".len())?)?;
    (!stem.is_empty() && ending.eq_ignore_ascii_case(".gguf")).then_some(stem)
}

/// One file of a split model: `<model>-00002-of-00003`, without the ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub model: &'a str,
    /// From 1 to `count`.
    pub number: u32,
    pub count: u32,
}

impl<'a> Part<'a> {
    pub fn parse(stem: &'a str) -> Option<Self> {
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (model, number) = rest.rsplit_once('-')?;
        let five = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        let read = |text: &str| five(text).then(|| text.parse::<u32>().ok()).flatten();
        let (number, count) = (read(number)?, read(count)?);
        let sound = !model.is_empty() && (1..=count).contains(&number) && count <= MOST_PARTS;
        sound.then_some(Self { model, number, count })
    }

    /// All parts of its model, the first one first.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.count).map(move |number| Self { number, ..self })
    }
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:05}-of-{:05}", self.model, self.number, self.count)
    }
}

/// What a file's model is called, whichever part of it the file is.
pub fn model_stem(stem: &str) -> &str {
    Part::parse(stem).map_or(stem, |part| part.model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gguf_files() {
        assert_eq!(gguf_stem("a/x.Q8_0.GGUF"), Some("a/x.Q8_0"));
        for bad in ["x", ".gguf", "gguf", "xgguf", "x.ggufs", "ä.gguf".trim_start_matches("ä"), "xx€gguf"] {
            assert_eq!(gguf_stem(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts() {
        let part = Part::parse("a-b-00002-of-00010").unwrap();
        assert_eq!((part.model, part.number, part.count), ("a-b", 2, 10));
        assert_eq!(part.all().map(|part| part.to_string()).nth(9).unwrap(), "a-b-00010-of-00010");
        assert_eq!((model_stem("a-b-00002-of-00010"), model_stem("a-b")), ("a-b", "a-b"));
        let bad = ["a", "a-1-of-2", "-00001-of-00001", "a-00003-of-00002", "a-00000-of-00002", "a-00001-of-99999"];
        for bad in bad.into_iter().chain(["a-+0001-of-00002", "a-00001-of-+0002"]) {
            assert_eq!(Part::parse(bad), None, "{bad}");
        }
    }
}
