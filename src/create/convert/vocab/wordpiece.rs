//! BERT's vocabulary: what begins a word and what goes on with one.

use super::file::{TokenizerFile, steps};
use super::{Kind, Token, Vocabulary, bad, by_id};
use crate::create::CreateError;

pub(super) fn read(file: &TokenizerFile) -> Result<Vocabulary, CreateError> {
    let prefix = file.model.continuing_subword_prefix.as_deref().unwrap_or("##");
    let normalizer = steps(&file.normalizer).into_iter().find(|step| step["type"] == "BertNormalizer");
    let Some(normalizer) = normalizer else {
        return bad("a WordPiece tokenizer without BERT's normalizer cannot be converted to GGUF".to_owned());
    };
    // llama.cpp spells it the other way round: what begins a word bears a mark
    let token = |text: String| {
        let kind = if file.is_special(&text) { Kind::Control } else { Kind::Normal };
        match text.strip_prefix(prefix) {
            _ if kind == Kind::Control => Token::new(text, kind, 0.0),
            Some(rest) if !rest.is_empty() => Token::new(rest, kind, 0.0),
            _ => Token::new(format!("\u{2581}{text}"), kind, 0.0),
        }
    };
    let pieces = file.pieces()?.into_iter().map(|(text, id)| (id, token(text)));
    let mut flags = vec![
        ("add_bos_token", true),
        ("add_eos_token", true),
        ("add_sep_token", false),
        ("normalizer.lowercase", normalizer["lowercase"] != false),
    ];
    if let Some(strip) = normalizer["strip_accents"].as_bool() {
        flags.push(("normalizer.strip_accents", strip));
    }
    Ok(Vocabulary { model: "bert", pre: "jina-v2-en", tokens: by_id(pieces)?, merges: Vec::new(), flags, around: None })
}
