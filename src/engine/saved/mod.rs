//! States of prompts on disk: what a model made of many tokens need not be made again when it was unloaded meanwhile, or when
//! another conversation took its place.
//!
//! A state is bytes that only the library which wrote them understands, and only with the same model, context and version:
//! all that is in its key. It is found by its tokens.
//!
//! Invariant: no byte goes to the library whose checksum was not found right, or that another user could have written.

mod file;
mod folder;

use std::cmp::Reverse;
use std::io;
use std::thread;

use file::FileError;
pub use file::State;
use folder::Folder;

use super::event::EngineError;
use super::preparing::Preparing;
use super::request::Saving;
use crate::types::Digest;

/// Fewer tokens are not worth a file, nor its reading.
pub const LEAST: usize = 256;
/// A state is read for at least this part of its tokens: reading takes its time too.
const PART: usize = 8;

/// How many tokens two beginnings have in common.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

struct Known {
    name: String,
    tokens: Vec<u32>,
}

/// What is to be had for a prompt.
#[derive(Debug)]
pub enum Look {
    Nothing,
    /// It is being read.
    Coming,
    /// With its name.
    Here(String, State),
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Whoever waits for a state the longest: one is read at a time, and it is for this one.
    First,
    /// Another waits for one already.
    Behind,
}

/// The states of one model, of which one at a time is read and one is written, on threads of their own.
pub struct Saved {
    folder: Folder,
    key: Digest,
    /// The end of a state can be taken back. Else it is used as a whole or not at all.
    rolls_back: bool,
    known: Vec<Known>,
    /// By name.
    reading: Preparing<String, Result<State, FileError>>,
    /// What was read, until somebody takes it.
    read: Option<(String, State)>,
    /// By tokens; a name comes of it.
    writing: Preparing<Vec<u32>, String>,
}

impl Saved {
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(saving: &Saving, key: Digest, rolls_back: bool) -> io::Result<Self> {
        let folder = Folder::open(saving)?;
        let (reading, writing) = (Preparing::default(), Preparing::default());
        let mut saved = Self { folder, key, rolls_back, known: Vec::new(), reading, read: None, writing };
        for name in saved.folder.names(&key) {
            match file::tokens(&saved.folder.path(&name), &key) {
                Ok(tokens) => saved.known.push(Known { name, tokens }),
                Err(error) => saved.refuse(&name, &error),
            }
        }
        Ok(saved)
    }

    /// Looks for a state that knows more of `prompt` than its first `known` tokens, by so many that it is worth it. Who is
    /// told that one is coming asks again.
    pub fn look(&mut self, prompt: &[u32], known: usize, turn: Turn) -> Look {
        self.settle();
        // Whoever it was read for may have left.
        if turn == Turn::First
            && let Some((name, state)) = self.read.take()
            && self.gain(&state.tokens, prompt, known).is_some()
        {
            return Look::Here(name, state);
        }
        let gains = self.known.iter().filter_map(|state| Some((self.gain(&state.tokens, prompt, known)?, state)));
        // Of two that are as good, the one that is read sooner.
        let best = gains.max_by_key(|(gain, state)| (*gain, Reverse(state.tokens.len())));
        let Some((_, Known { name, .. })) = best else { return Look::Nothing };
        if turn == Turn::Behind || !self.reading.is_idle() {
            return Look::Coming;
        }
        let (path, key) = (self.folder.path(name), self.key);
        match self.reading.start(0, name.clone(), move || Ok(file::read(&path, &key))) {
            Ok(()) => Look::Coming,
            Err(error) => {
                tracing::warn!(%error, "a saved prompt is not read");
                Look::Nothing
            }
        }
    }

    /// How many tokens more than `known` a state spares `prompt`, whose last one is evaluated in any case; if they are worth it.
    fn gain(&self, state: &[u32], prompt: &[u32], known: usize) -> Option<usize> {
        let common = common(state, &prompt[..prompt.len().saturating_sub(1)]);
        let gain = common.checked_sub(known)?;
        let usable = self.rolls_back || common == state.len();
        (usable && gain >= LEAST.max(state.len() / PART)).then_some(gain)
    }

    /// Whether a state of `tokens` should be kept: it is long enough, not there already but for its end, and nothing else is
    /// being written, which would take memory for both.
    pub fn wants(&mut self, tokens: &[u32]) -> bool {
        self.settle();
        let there = |known: &Known| match self.rolls_back {
            true => common(&known.tokens, tokens) + LEAST > tokens.len(),
            false => known.tokens == tokens,
        };
        tokens.len() >= LEAST && self.writing.is_idle() && !self.known.iter().any(there)
    }

    /// Whether so many bytes fit the folder at all.
    pub fn holds(&self, tokens: usize, bytes: usize) -> bool {
        file::size(tokens, bytes) <= self.folder.limit()
    }

    /// Begins to write.
    pub fn keep(&mut self, state: State) {
        let (folder, key) = (self.folder.clone(), self.key);
        let tokens = state.tokens.clone();
        let write = move || folder.write(&key, &state).map_err(|error| EngineError::Failed(error.to_string()));
        if let Err(error) = self.writing.start(0, tokens, write) {
            tracing::warn!(%error, "a prompt is not saved");
        }
    }

    /// Waits until what was begun is written.
    pub fn flush(&mut self) {
        self.take_written();
        while !self.writing.is_idle() {
            // Woken when it is written, and perhaps for something else.
            thread::park();
            self.take_written();
        }
    }

    /// Frees what was read for somebody who has left.
    pub fn let_go(&mut self) {
        self.read = None;
    }

    /// Takes in what was read and written.
    pub fn settle(&mut self) {
        for (name, read) in self.reading.done() {
            match read {
                Ok(Ok(state)) => self.read = Some((name, state)),
                Ok(Err(error)) => self.refuse(&name, &error),
                Err(error) => {
                    tracing::warn!(%error, "a saved prompt is not read");
                    self.forget(&name);
                }
            }
        }
        self.take_written();
    }

    fn take_written(&mut self) {
        for (tokens, written) in self.writing.done() {
            match written {
                Ok(name) => self.add(name, tokens),
                Err(error) => tracing::warn!(%error, "a prompt is not saved"),
            }
        }
    }

    fn add(&mut self, name: String, tokens: Vec<u32>) {
        self.forget(&name);
        // What only knows a beginning of it is of no more use.
        let less = |known: &mut Known| self.rolls_back && tokens.starts_with(&known.tokens);
        for Known { name, .. } in self.known.extract_if(.., less) {
            self.folder.remove(&name);
        }
        self.known.push(Known { name, tokens });
    }

    /// A file that is not used. It goes, if it will never be.
    fn refuse(&mut self, name: &str, error: &FileError) {
        self.forget(name);
        if !error.is_gone() {
            tracing::warn!(%error, file = name, "a saved prompt is not used");
        }
        if error.is_final() {
            self.folder.remove(name);
        }
    }

    /// As [`Saved::look`] gave it, but the library would not have it.
    pub fn reject(&mut self, name: &str) {
        self.refuse(name, &FileError::Rejected);
    }

    fn forget(&mut self, name: &str) {
        self.known.retain(|known| known.name != name);
    }
}

#[cfg(test)]
mod tests;
