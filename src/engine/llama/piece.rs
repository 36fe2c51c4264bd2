//! What a batch holds of one sequence, and how prompts share the room that is left in it.

use super::turns::Rows;

/// A piece of a slot's tokens in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub slot: usize,
    pub tokens: usize,
    /// Tokens behind them that the answer may turn out to have.
    pub guess: Vec<u32>,
    /// Rows behind those that mean nothing.
    pub padding: usize,
}

impl Piece {
    pub fn new(slot: usize, tokens: usize) -> Self {
        Self { slot, tokens, guess: Vec::new(), padding: 0 }
    }

    pub fn rows(&self) -> Rows {
        Rows { slot: self.slot, rows: self.tokens + self.guess.len() + self.padding }
    }

    /// These pieces, filled up to `rows`, which are of the same slots and others, in their order.
    pub fn filled(pieces: Vec<Self>, rows: Vec<Rows>) -> Vec<Self> {
        let mut pieces = pieces.into_iter().peekable();
        let filled = rows.into_iter().map(|all| {
            let piece = pieces.next_if(|piece| piece.slot == all.slot).unwrap_or_else(|| Self::new(all.slot, 0));
            Self { padding: all.rows - piece.rows().rows, ..piece }
        });
        filled.collect()
    }
}

/// What a turn evaluates, each in the order of the slots. An image or a sound is no tokens: it shares the prompts' room and is
/// evaluated by itself.
pub struct Plan {
    pub answers: Vec<Piece>,
    pub prompts: Vec<Piece>,
    pub sight: Option<Piece>,
}

/// Shares `room` out evenly; what a short prompt leaves goes to the longer ones. Those that are cut get equally much: llama.cpp
/// passes over the weights once for what all have, and again for each difference.
pub fn share(mut prompts: Vec<Piece>, mut room: usize) -> Vec<Piece> {
    prompts.sort_unstable_by_key(|piece| piece.tokens);
    let count = prompts.len();
    let mut level = None;
    for (index, piece) in prompts.iter_mut().enumerate() {
        let even = (room / (count - index)).max(1);
        if piece.tokens > even {
            level.get_or_insert(even);
        }
        piece.tokens = piece.tokens.min(level.unwrap_or(even)).min(room);
        room -= piece.tokens;
    }
    prompts.retain(|piece| piece.tokens > 0);
    prompts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_filled_up() {
        let pieces = vec![Piece { guess: vec![7], ..Piece::new(1, 1) }, Piece::new(3, 4)];
        let rows: Vec<Rows> = (1..4).map(|slot| Rows { slot, rows: 4 }).collect();
        let filled = Piece::filled(pieces, rows.clone());
        let seen: Vec<_> = filled.iter().map(|piece| (piece.tokens, piece.guess.len(), piece.padding)).collect();
        assert_eq!(seen, [(1, 1, 2), (0, 0, 4), (4, 0, 0)]);
        assert_eq!(filled.iter().map(Piece::rows).collect::<Vec<_>>(), rows);
    }

    #[test]
    fn room_is_shared() {
        let prompts = [300, 5, 100].into_iter().enumerate().map(|(slot, tokens)| Piece::new(slot, tokens)).collect();
        let shared: Vec<_> = share(prompts, 128).iter().map(|piece| (piece.slot, piece.tokens)).collect();
        assert_eq!(shared, [(1, 5), (2, 61), (0, 61)]);
        assert_eq!(share(vec![Piece::new(0, 9)], 0), []);
        let few: Vec<_> =
            share((0..4).map(|slot| Piece::new(slot, 9)).collect(), 3).iter().map(|piece| piece.tokens).collect();
        assert_eq!(few, [1, 1, 1]);
    }
}
