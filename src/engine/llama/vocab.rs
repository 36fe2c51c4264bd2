//! A model's vocabulary: text to tokens and back, and which tokens end an answer.

use std::cell::OnceCell;
use std::collections::HashSet;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use crate::engine::constraint::{Constrained, Vocabulary};
use crate::engine::event::EngineError;
use crate::engine::request::Constraint;

pub struct Vocab<'m> {
    vocab: LlamaVocab<'m>,
    size: u32,
    /// Made when the first constraint comes.
    constraints: OnceCell<Result<Vocabulary, EngineError>>,
}

/// A token as llama.cpp writes it. Ours are checked where they come in, so they fit.
pub fn native(token: u32) -> LlamaToken {
    LlamaToken(token.cast_signed())
}

fn tokens(native: Vec<LlamaToken>) -> Vec<u32> {
    native.into_iter().map(|LlamaToken(token)| token.cast_unsigned()).collect()
}

impl<'m> Vocab<'m> {
    pub fn new(model: &'m LlamaModel) -> Self {
        let vocab = model.vocab();
        let size = u32::try_from(vocab.n_tokens()).unwrap_or(0);
        Self { vocab, size, constraints: OnceCell::new() }
    }

    /// The token a prompt begins with, if the tokenizer adds it by itself.
    pub fn bos(&self) -> Option<u32> {
        let LlamaToken(bos) = self.vocab.bos();
        u32::try_from(bos).ok().filter(|_| self.vocab.should_add_bos())
    }

    /// The text of special tokens means those tokens; `add_special` puts the model's own ones around.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Vec<u32> {
        tokens(self.vocab.tokenize(text.as_bytes(), add_special, true))
    }

    /// # Errors
    /// When a token is not of this vocabulary.
    pub fn check(&self, tokens: &[u32]) -> Result<(), EngineError> {
        match tokens.iter().find(|token| **token >= self.size) {
            Some(token) => Err(EngineError::Invalid(format!("token {token} is not in the model's vocabulary"))),
            None => Ok(()),
        }
    }

    /// # Errors
    /// When a token is not of this vocabulary.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String, EngineError> {
        self.check(tokens)?;
        if tokens.is_empty() {
            return Ok(String::new());
        }
        let native: Vec<LlamaToken> = tokens.iter().copied().map(native).collect();
        Ok(String::from_utf8_lossy(&self.vocab.detokenize(&native, false, true)).into_owned())
    }

    /// The bytes of one token; of a special one only when `special` says so.
    pub fn piece(&self, token: u32, special: bool) -> Vec<u8> {
        self.vocab.token_to_piece(native(token), special, None)
    }

    /// The token ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.vocab.is_eog(native(token))
    }

    /// The tokens that `texts` name; texts that are no single token are passed over.
    pub fn named(&self, texts: &[String]) -> HashSet<u32> {
        let single = |text: &String| match self.tokenize(text, false)[..] {
            [token] => Some(token),
            _ => None,
        };
        texts.iter().filter_map(single).collect()
    }

    /// # Errors
    /// When the schema is bad, or the vocabulary cannot be constrained.
    pub fn constrain(&self, constraint: &Constraint) -> Result<Constrained, EngineError> {
        let vocabulary = self.constraints.get_or_init(|| {
            // Special tokens have no text here, so that no text can mean them.
            let pieces: Vec<Vec<u8>> = (0..self.size)
                .map(|token| if self.is_end(token) { Vec::new() } else { self.piece(token, false) })
                .collect();
            Vocabulary::new(&pieces, self.end()?)
        });
        vocabulary.as_ref().map_err(Clone::clone)?.constrain(constraint)
    }

    /// The token that stands for the end where one must be named.
    ///
    /// # Errors
    /// When the vocabulary has none.
    pub fn end(&self) -> Result<u32, EngineError> {
        let named = [self.vocab.eos(), self.vocab.eot()].into_iter().find_map(|token| u32::try_from(token.0).ok());
        named.ok_or_else(|| EngineError::Invalid("the model has no token that ends a text".into()))
    }
}
