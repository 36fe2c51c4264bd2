//! `tokenizer.model`: SentencePiece's own file, a protobuf message. Only what is asked is read, and nothing is trusted.

use super::{Kind, Token, Vocabulary, bad};
use crate::create::CreateError;

/// Pieces of a vocabulary; the largest have some 260 thousand.
const MOST: usize = 4 << 20;

pub(super) fn read(bytes: &[u8]) -> Result<Vocabulary, CreateError> {
    match parse(bytes) {
        Some(File { tokens, model, prefix }) if !tokens.is_empty() => {
            // 2 is BPE; 1, and what tells nothing, is a model of single pieces
            if model != 2 {
                return bad("only SentencePiece models of the kind BPE can be converted to GGUF".to_owned());
            }
            let flags = vec![("add_space_prefix", prefix)];
            let tokens = tokens.into_iter().map(Some).collect();
            Ok(Vocabulary { model: "llama", pre: "default", tokens, merges: Vec::new(), flags, around: None })
        }
        _ => bad("`tokenizer.model` is not a SentencePiece model".to_owned()),
    }
}

struct File {
    tokens: Vec<Token>,
    model: u64,
    /// A space is put before the text.
    prefix: bool,
}

fn parse(bytes: &[u8]) -> Option<File> {
    let mut file = File { tokens: Vec::new(), model: 1, prefix: true };
    for field in Message(bytes) {
        match field? {
            (1, Field::Bytes(piece)) if file.tokens.len() < MOST => file.tokens.push(parse_piece(piece)?),
            (1, _) => return None,
            (2, Field::Bytes(trainer)) => {
                for field in Message(trainer) {
                    if let (3, Field::Number(model)) = field? {
                        file.model = model;
                    }
                }
            }
            (3, Field::Bytes(normalizer)) => {
                for field in Message(normalizer) {
                    if let (3, Field::Number(prefix)) = field? {
                        file.prefix = prefix != 0;
                    }
                }
            }
            _ => {}
        }
    }
    Some(file)
}

fn parse_piece(bytes: &[u8]) -> Option<Token> {
    let mut token = Token::new("", Kind::Normal, 0.0);
    for field in Message(bytes) {
        match field? {
            (1, Field::Bytes(text)) => token.text = str::from_utf8(text).ok()?.to_owned(),
            (2, Field::Four(score)) => token.score = f32::from_le_bytes(score),
            (3, Field::Number(kind)) => {
                let kinds = [Kind::Normal, Kind::Unknown, Kind::Control, Kind::UserDefined, Kind::Unused, Kind::Byte];
                token.kind = kinds.into_iter().find(|known| *known as u64 == kind)?;
            }
            _ => {}
        }
    }
    if token.kind == Kind::UserDefined {
        token.text = token.text.replace('\u{2581}', " ");
    }
    Some(token)
}

/// The fields of a message, with their numbers; `None` for one that is broken, and then no more.
struct Message<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Four([u8; 4]),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Iterator for Message<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Message<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.number()?;
        let field = match tag & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Four(self.take(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first; the eighth tells whether more come.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
pub(in crate::create::convert) mod tests {
    use super::*;

    fn varint(mut number: u64, out: &mut Vec<u8>) {
        while number >= 0x80 {
            out.push((number as u8 & 0x7f) | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn bytes(field: u64, content: &[u8], out: &mut Vec<u8>) {
        varint(field << 3 | 2, out);
        varint(content.len() as u64, out);
        out.extend(content);
    }

    /// As [`model`], of the kind BPE, with a space put first.
    pub(in crate::create::convert) fn pieces(pieces: &[(&str, f32, u64)]) -> Vec<u8> {
        model(pieces, 2, true)
    }

    /// A file of these pieces, with their scores and kinds.
    fn model(pieces: &[(&str, f32, u64)], kind: u8, prefix: bool) -> Vec<u8> {
        let mut file = Vec::new();
        for (text, score, kind) in pieces {
            let mut piece = Vec::new();
            bytes(1, text.as_bytes(), &mut piece);
            piece.push(2 << 3 | 5);
            piece.extend(score.to_le_bytes());
            piece.push(3 << 3);
            varint(*kind, &mut piece);
            bytes(1, &piece, &mut file);
        }
        bytes(2, &[3 << 3, kind], &mut file);
        bytes(3, &[3 << 3, u8::from(prefix)], &mut file);
        file
    }

    #[test]
    fn pieces_are_read() {
        let file = model(&[("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("▁▁", 0.0, 4), ("ab", -7.5, 1)], 2, false);
        let vocabulary = read(&file).unwrap();
        let seen: Vec<_> = vocabulary.tokens.into_iter().flatten().collect();
        let token = |text: &str, kind, score| Token::new(text, kind, score);
        assert_eq!(
            seen,
            [
                token("<unk>", Kind::Unknown, 0.0),
                token("<s>", Kind::Control, 0.0),
                token("  ", Kind::UserDefined, 0.0),
                token("ab", Kind::Normal, -7.5)
            ]
        );
        assert_eq!(vocabulary.flags, [("add_space_prefix", false)]);
        let error = read(&model(&[("a", 0.0, 1)], 1, true)).unwrap_err();
        assert_eq!(error.to_string(), "only SentencePiece models of the kind BPE can be converted to GGUF");
    }

    #[test]
    fn no_broken_file_makes_it_panic() {
        let whole = model(&[("<unk>", 0.0, 2), ("ab", -7.5, 1)], 2, true);
        for length in 0..whole.len() {
            read(&whole[..length]).map(drop).unwrap_or_default();
        }
        for place in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[place] = byte;
                read(&broken).map(drop).unwrap_or_default();
            }
        }
        for text in [&b"hello"[..], &[0xff; 64], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(read(text).unwrap_err().to_string(), "`tokenizer.model` is not a SentencePiece model");
        }
    }
}
