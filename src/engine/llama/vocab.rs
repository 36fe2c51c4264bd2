//! A model's vocabulary: text to tokens and back.

use std::sync::Arc;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::engine::constraint::Vocabulary;
use crate::engine::event::EngineError;
use crate::engine::tokens::{Piece, Tokens};

/// May be used on several threads at once: llama.cpp changes nothing in it.
#[derive(Clone)]
pub struct Vocab {
    model: Arc<LlamaModel>,
    pub tokens: Arc<Tokens>,
    pub constraints: Arc<Vocabulary>,
}

/// A token as llama.cpp writes it. Ours are checked where they come in, so they fit.
pub fn native(token: u32) -> LlamaToken {
    LlamaToken(token.cast_signed())
}

/// What each token of a model says, and which ones end an answer.
pub fn tokens(model: &LlamaModel) -> Tokens {
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
    Tokens::new(pieces, ends.into_iter().map(|LlamaToken(token)| token.cast_unsigned()).collect())
}

impl Vocab {
    pub fn new(model: &Arc<LlamaModel>) -> Self {
        let tokens = Arc::new(tokens(model));
        Self { model: model.clone(), constraints: Arc::new(Vocabulary::new(tokens.clone())), tokens }
    }

    /// The token a prompt begins with, if the tokenizer adds it by itself.
    pub fn bos(&self) -> Option<u32> {
        let vocab = self.model.vocab();
        let LlamaToken(bos) = vocab.bos();
        u32::try_from(bos).ok().filter(|_| vocab.should_add_bos())
    }

    /// The text of special tokens means those tokens; `add_special` puts the model's own ones around.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Vec<u32> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), add_special, true);
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
        Ok(String::from_utf8_lossy(&self.model.vocab().detokenize(&native, false, true)).into_owned())
    }
}
