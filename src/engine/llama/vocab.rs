//! A model's vocabulary: text to tokens and back.

use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;

use crate::engine::constraint::Vocabulary;
use crate::engine::event::EngineError;
use crate::engine::tokens::{Piece, Tokens};

pub struct Vocab<'m> {
    vocab: LlamaVocab<'m>,
    /// What each token says, and which ones end an answer.
    pub tokens: Arc<Tokens>,
    pub constraints: Arc<Vocabulary>,
}

/// A token as llama.cpp writes it. Ours are checked where they come in, so they fit.
pub fn native(token: u32) -> LlamaToken {
    LlamaToken(token.cast_signed())
}

impl<'m> Vocab<'m> {
    pub fn new(model: &'m LlamaModel) -> Self {
        let vocab = model.vocab();
        let hidden = LlamaTokenAttr::Control | LlamaTokenAttr::Unknown;
        let piece = |token| Piece {
            bytes: vocab.token_to_piece(token, true, None),
            special: vocab.attr(token).intersects(hidden) || vocab.is_eog(token),
        };
        let pieces = vocab.tokens().map(piece).collect();
        // Where one end must do, it is the one that the model's file names.
        let mut ends: Vec<LlamaToken> = vocab.tokens().filter(|token| vocab.is_eog(*token)).collect();
        ends.sort_by_key(|token| (*token != vocab.eos(), *token != vocab.eot()));
        let ends = ends.into_iter().map(|LlamaToken(token)| token.cast_unsigned()).collect();
        let tokens = Arc::new(Tokens::new(pieces, ends));
        Self { vocab, constraints: Arc::new(Vocabulary::new(tokens.clone())), tokens }
    }

    /// The token a prompt begins with, if the tokenizer adds it by itself.
    pub fn bos(&self) -> Option<u32> {
        let LlamaToken(bos) = self.vocab.bos();
        u32::try_from(bos).ok().filter(|_| self.vocab.should_add_bos())
    }

    /// The text of special tokens means those tokens; `add_special` puts the model's own ones around.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Vec<u32> {
        let tokens = self.vocab.tokenize(text.as_bytes(), add_special, true);
        tokens.into_iter().map(|LlamaToken(token)| token.cast_unsigned()).collect()
    }

    /// # Errors
    /// When a token is not of this vocabulary.
    pub fn check(&self, tokens: &[u32]) -> Result<(), EngineError> {
        match tokens.iter().find(|token| **token as usize >= self.tokens.count()) {
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
        // llama.cpp's own way, which knows of the blank that some tokenizers put in front of a text.
        let native: Vec<LlamaToken> = tokens.iter().copied().map(native).collect();
        Ok(String::from_utf8_lossy(&self.vocab.detokenize(&native, false, true)).into_owned())
    }
}
