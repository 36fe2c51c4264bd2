//! What a prompt may cost. A template comes from whoever made the model, and three lines of it can ask for any memory or time.

use std::time::Duration;

use tokio::time::Instant;

use super::TemplateError;

/// Turns of all `range`s and calls of named blocks together, and bytes of output: no real prompt comes near.
const TURNS: usize = 10_000_000;
const OUTPUT: usize = 1 << 28;
/// Bytes of one text that a function makes, and of all together.
const TEXT: usize = 16 << 20;
const TEXTS: usize = 1 << 29;
const TIME: Duration = Duration::from_secs(20);

/// What is left, of all runs of a template for one prompt.
#[derive(Debug)]
pub struct Budget {
    turns: usize,
    output: usize,
    texts: usize,
    until: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self { turns: TURNS, output: OUTPUT, texts: TEXTS, until: Instant::now() + TIME }
    }
}

impl Budget {
    pub(super) fn turn(&mut self) -> Result<(), TemplateError> {
        self.turns = less(self.turns, 1, "too many turns of ranges and blocks")?;
        if Instant::now() > self.until {
            return Err(error("it takes too long"));
        }
        Ok(())
    }

    pub(super) fn output(&mut self, bytes: usize) -> Result<(), TemplateError> {
        self.output = less(self.output, bytes, "the prompt is too long")?;
        Ok(())
    }

    /// A function has made a text.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), TemplateError> {
        self.texts = less(self.texts, bytes, "its texts take too much memory")?;
        Ok(())
    }
}

fn less(left: usize, bytes: usize, message: &str) -> Result<usize, TemplateError> {
    left.checked_sub(bytes).ok_or_else(|| error(message))
}

fn error(message: &str) -> TemplateError {
    TemplateError(format!("template: {message}"))
}

/// A text that a function makes, piece by piece, and that ends in an error before it fills the memory.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn push(&mut self, piece: &str) -> Result<(), String> {
        if self.0.len() + piece.len() > TEXT {
            return Err("the text is too long".to_owned());
        }
        self.0.push_str(piece);
        Ok(())
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}
