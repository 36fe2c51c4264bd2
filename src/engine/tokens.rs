//! A model's tokens as hanzod sees them: their bytes, which are marks and no text, and which end an answer.

/// One token, as a backend describes it.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// A special (control) token: its text is hidden in an answer and no constraint can ask for it.
    pub special: bool,
}

/// All of a model's tokens; made once a model and shared by its sequences.
pub struct Tokens {
    pieces: Vec<Piece>,
    ends: Vec<u32>,
}

impl Tokens {
    /// `pieces` in the order of ids, and the tokens that `ends` an answer, the usual one first.
    pub fn new(pieces: Vec<Piece>, ends: Vec<u32>) -> Self {
        Self { pieces, ends }
    }

    /// How many there are; logits beyond are padding.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    /// In the order of ids.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The token's bytes, a special token's text included.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.pieces.get(token as usize).map_or(&[], |piece| &piece.bytes)
    }

    pub fn is_special(&self, token: u32) -> bool {
        self.pieces.get(token as usize).is_some_and(|piece| piece.special)
    }

    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The text of `tokens`, special ones as their own text.
    pub fn text(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.bytes(token)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_whole_over_tokens() {
        let piece = |bytes: &[u8]| Piece { bytes: bytes.to_vec(), special: false };
        let tokens = Tokens::new(vec![piece(b"caf\xc3"), piece(b"\xa9"), piece(b"<|end|>")], vec![2]);
        assert_eq!(tokens.text(&[0, 1, 2, 9]), "café<|end|>");
        assert_eq!(tokens.ends(), [2]);
        assert!(tokens.is_end(2) && !tokens.is_end(0));
    }
}
