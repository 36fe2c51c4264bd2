//! From a request to its prompt: at once where that takes no time, and else beside the thread on which answers are written. Files
//! are decoded on one thread and long texts tokenised on another, since a sound may take seconds.

use std::collections::VecDeque;
use std::sync::Arc;

use super::prompt::Prompt;
use super::vision::{Medium, Projector};
use super::vocab::Vocab;
use crate::engine::event::EngineError;
use crate::engine::preparing::Preparing;
use crate::engine::protocol::SequenceId;
use crate::engine::request::{GenerateRequest, PromptPart};

/// Bytes of a text that is tokenised beside the answers. llama.cpp takes some milliseconds for so many: less than a token takes, and
/// far more than a thread takes to begin with it.
const LONG: usize = 16 << 10;

/// A request with its prompt.
pub type Asked = (Box<GenerateRequest>, Prompt);

/// What was read beside the answers.
pub enum Read {
    Prompt(Asked),
    /// Of a text that nobody wants an answer to.
    Tokens(Vec<u32>),
}

/// How a request's prompt is read.
pub enum Reading {
    Done(Asked),
    /// Of its text, which takes no longer than it did if everybody waited for it.
    Text,
    /// Of its files, which may take long.
    Files,
}

pub struct Reader {
    pub vocab: Vocab,
    /// What reads images and sounds, if the model can see or hear.
    pub projector: Option<Arc<Projector>>,
    texts: Preparing<SequenceId, Read>,
    files: Preparing<SequenceId, Read>,
}

impl Reader {
    pub fn new(vocab: &Vocab, projector: Option<Projector>) -> Self {
        let (texts, files) = (Preparing::default(), Preparing::default());
        Self { vocab: vocab.clone(), projector: projector.map(Arc::new), texts, files }
    }

    /// Reads the prompt of `request`, or begins to.
    ///
    /// # Errors
    /// As [`Prompt::read`], and when there can be no thread.
    pub fn read(&mut self, sequence: SequenceId, mut request: Box<GenerateRequest>) -> Result<Reading, EngineError> {
        let sees = request.prompt.iter().any(|part| matches!(part, PromptPart::Media(_)));
        let vocab = self.vocab.clone();
        if let Some(projector) = self.projector.clone().filter(|_| sees) {
            let read = move || {
                let media = files(&projector, &mut request.prompt)?;
                Prompt::read(&vocab, &request.prompt, media).map(|prompt| Read::Prompt((request, prompt)))
            };
            return self.files.start(sequence, sequence, read).map(|()| Reading::Files);
        }
        let texts = request.prompt.iter().map(|part| if let PromptPart::Text(text) = part { text.len() } else { 0 });
        let is_long = texts.sum::<usize>() >= LONG;
        let read = move || Prompt::read(&vocab, &request.prompt, VecDeque::new()).map(|prompt| (request, prompt));
        match is_long {
            false => read().map(Reading::Done),
            true => self.texts.start(sequence, sequence, move || read().map(Read::Prompt)).map(|()| Reading::Text),
        }
    }

    /// The tokens of `text`, or `None` when they come later.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn tokenize(
        &mut self,
        sequence: SequenceId,
        text: String,
        add_special: bool,
    ) -> Result<Option<Vec<u32>>, EngineError> {
        if text.len() < LONG {
            return Ok(Some(self.vocab.tokenize(&text, add_special)));
        }
        let vocab = self.vocab.clone();
        let read = move || Ok(Read::Tokens(vocab.tokenize(&text, add_special)));
        self.texts.start(sequence, sequence, read).map(|()| None)
    }

    /// What was read since the last time.
    pub fn have_read(&mut self) -> Vec<(SequenceId, Result<Read, EngineError>)> {
        let mut read = self.texts.done();
        read.extend(self.files.done());
        read
    }

    pub fn cancel(&mut self, sequence: SequenceId) {
        self.texts.cancel(sequence);
        self.files.cancel(sequence);
    }
}

/// Reads the images and sounds of a prompt, whose files are not needed any more then, and may be large.
fn files(projector: &Projector, prompt: &mut [PromptPart]) -> Result<VecDeque<Medium>, EngineError> {
    let mut media = VecDeque::new();
    for part in prompt {
        if let PromptPart::Media(file) = part {
            media.push_back(projector.read(&std::mem::take(file), media.len())?);
        }
    }
    Ok(media)
}
