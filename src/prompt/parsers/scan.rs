//! The frame all parsers stand in: text that has come and is not yet read, and the loop that asks a format to read it.
//!
//! A format takes a step only when the text it looks at cannot be read otherwise once more has come. That is what makes the
//! answer independent of the cut.

use super::out::Out;
use crate::prompt::{OutputParser, ParseError, Piece};

/// What a model writes, as a state machine over [`Input`].
pub(super) trait Format: Send {
    /// Reads on; `false` when more text is needed to decide.
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool;

    /// Gives up what is half read, all text having come; `true` when that leaves text to step through.
    fn finish(&mut self, input: &mut Input, out: &mut Out) -> bool;
}

/// Text that has come and is not yet read.
#[derive(Default)]
pub(super) struct Input {
    text: String,
    /// No more will come.
    pub ended: bool,
}

impl Input {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the first `length` bytes.
    pub fn take(&mut self, length: usize) -> String {
        self.text.drain(..length).collect()
    }

    pub fn take_all(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Takes leading white space.
    pub fn take_blanks(&mut self) -> String {
        let length = self.text.len() - self.text.trim_start().len();
        self.take(length)
    }

    /// Puts text back before what is unread.
    pub fn put_back(&mut self, text: &str) {
        self.text.insert_str(0, text);
    }

    /// Ends a body at the first of `ends` in it, and puts back what follows. For the end of an answer: a value that an end
    /// seemed to stand in never ended itself, so the end was one after all.
    pub fn end_at_first(&mut self, ends: &[&str], body: &mut String) -> bool {
        let first = ends.iter().filter_map(|end| body.find(end).map(|at| (at, end.len()))).min();
        if let Some((at, length)) = first {
            self.put_back(&body[at + length..]);
            body.truncate(at);
        }
        first.is_some()
    }

    /// Takes the text before the first of `tags`, and that tag. Without one, takes what cannot be the beginning of one.
    pub fn until(&mut self, tags: &[&str]) -> (String, Option<usize>) {
        let found = tags.iter().enumerate().filter_map(|(which, tag)| self.text.find(tag).map(|at| (at, which))).min();
        let open = if self.ended { self.text.len() } else { open_at(&self.text, tags) };
        match found {
            Some((at, which)) if at < open => {
                let before = self.take(at);
                self.take(tags[which].len());
                (before, Some(which))
            }
            _ => (self.take(open), None),
        }
    }

    /// As [`Input::until`], where one of `ends` belongs to what it ends, and one of `nexts` to what follows. Gives whether
    /// there was one.
    pub fn until_end(&mut self, ends: &[&str], nexts: &[&str]) -> (String, bool) {
        let tags = [ends, nexts].concat();
        let (text, tag) = self.until(&tags);
        if let Some(next) = tag.and_then(|tag| tag.checked_sub(ends.len())) {
            self.put_back(nexts[next]);
        }
        (text, tag.is_some())
    }

    /// Whether the text begins with one of `words`, and which. `None` when that is not yet certain.
    pub fn begins(&self, words: &[&str]) -> Option<Option<usize>> {
        if let Some(which) = words.iter().position(|word| self.text.starts_with(word)) {
            return Some(Some(which));
        }
        let open = !self.ended && words.iter().any(|word| word.starts_with(&self.text));
        if open { None } else { Some(None) }
    }
}

/// Where the longest tail begins that may yet become one of `tags`; the text's length when there is none.
pub(super) fn open_at(text: &str, tags: &[&str]) -> usize {
    let longest = tags.iter().map(|tag| tag.len()).max().unwrap_or(0);
    let from = text.len().saturating_sub(longest.saturating_sub(1));
    (from..text.len())
        .filter(|at| text.is_char_boundary(*at))
        .find(|at| tags.iter().any(|tag| tag.len() > text.len() - at && tag.starts_with(&text[*at..])))
        .unwrap_or(text.len())
}

/// Cuts the beginning of `tag` off the end of `text`, where a model stopped within the tag.
pub(super) fn without_open<'a>(text: &'a str, tag: &str) -> &'a str {
    &text[..open_at(text, &[tag])]
}

/// A [`Format`] with its input and output.
pub(super) struct Machine<F> {
    format: F,
    input: Input,
    out: Out,
}

impl<F: Format + 'static> Machine<F> {
    pub fn boxed(format: F, out: Out) -> Box<dyn OutputParser> {
        Box::new(Self { format, input: Input::default(), out })
    }

    fn run(&mut self) {
        while self.format.step(&mut self.input, &mut self.out) {}
    }
}

// No built-in format has text that cannot be shown: what is no call is content. Hence never a `ParseError`.
impl<F: Format + 'static> OutputParser for Machine<F> {
    fn push(&mut self, text: &str) -> Result<Vec<Piece>, ParseError> {
        self.input.text.push_str(text);
        self.run();
        Ok(self.out.take())
    }

    fn finish(&mut self) -> Result<Vec<Piece>, ParseError> {
        self.input.ended = true;
        loop {
            self.run();
            if !self.format.finish(&mut self.input, &mut self.out) {
                break;
            }
        }
        self.out.finish();
        Ok(self.out.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_that_may_become_a_tag_waits() {
        let mut input = Input { text: "a <t b <to".to_owned(), ended: false };
        assert_eq!(input.until(&["<tool>", "</x>"]), ("a <t b ".to_owned(), None));
        input.text.push_str("ol>c");
        assert_eq!(input.until(&["<tool>", "</x>"]), (String::new(), Some(0)));
        assert_eq!(input.until(&["<tool>", "</x>"]), ("c".to_owned(), None));
    }

    #[test]
    fn tails_are_cut_between_characters() {
        assert_eq!(open_at("語<｜to", &["<｜tool｜>"]), "語".len());
        assert_eq!(open_at("<｜語", &["<｜tool｜>"]), "<｜語".len());
    }
}
