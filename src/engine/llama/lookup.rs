//! Guesses from what stands in a sequence already: when its end has stood there before, what followed then may follow now.

use std::collections::HashMap;

/// Tokens that must agree before what followed them is worth a look.
const LEAST: usize = 3;
/// How far back two places are compared, and how many places are.
const FARTHEST: usize = 32;
const PLACES: usize = 8;

/// Where in one sequence each run of [`LEAST`] tokens was seen.
#[derive(Default)]
pub struct Lookup {
    /// The place right behind the latest one.
    latest: HashMap<[u32; LEAST], u32>,
    /// By place: the one before with the same run in front of it.
    earlier: Vec<Option<u32>>,
}

/// What may follow.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub tokens: Vec<u32>,
    /// How many tokens before it agree.
    pub agreed: usize,
}

impl Lookup {
    /// What may follow `history`, at most `most` tokens. `history` is the one of the last call with more at its end, or the
    /// lookup was told to [`Self::forget`] meanwhile.
    pub fn find(&mut self, history: &[u32], most: usize) -> Option<Found> {
        self.read(history);
        let end = history.len();
        let mut place = self.latest.get(&run(history, end)?).copied();
        let mut best: Option<(usize, usize)> = None;
        for _ in 0..PLACES {
            let Some(at) = place else { break };
            let at = at as usize;
            let agreed = (1..=FARTHEST.min(at)).take_while(|back| history[at - back] == history[end - back]).count();
            if best.is_none_or(|(most, _)| agreed > most) {
                best = Some((agreed, at));
            }
            place = self.earlier[at];
        }
        let (agreed, at) = best?;
        let mut tokens: Vec<u32> = Vec::with_capacity(most);
        for place in at..at + most {
            // A place so near to the end that the guess reaches it: the sequence repeats itself.
            let token = history.get(place).or_else(|| tokens.get(place - end)).copied();
            tokens.extend(token);
        }
        Some(Found { tokens, agreed })
    }

    /// The sequence is no longer what it was.
    pub fn forget(&mut self) {
        self.latest.clear();
        self.earlier.clear();
    }

    /// Takes in what is new. The end itself is no place: nothing follows it yet.
    fn read(&mut self, history: &[u32]) {
        for at in self.earlier.len()..history.len() {
            let place = u32::try_from(at).expect("a context beyond llama.cpp's positions: a bug");
            let earlier = run(history, at).and_then(|run| self.latest.insert(run, place));
            self.earlier.push(earlier);
        }
    }
}

/// The tokens right before `end`.
fn run(history: &[u32], end: usize) -> Option<[u32; LEAST]> {
    history.get(end.checked_sub(LEAST)?..end)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed() {
        let mut lookup = Lookup::default();
        assert_eq!(lookup.find(&[1, 2, 3], 4), None);
        let history = [1, 2, 3, 4, 5, 6, 9, 1, 2, 3];
        assert_eq!(lookup.find(&history, 3), Some(Found { tokens: vec![4, 5, 6], agreed: 3 }));
        let history = [&history[..], &[4]].concat();
        assert_eq!(lookup.find(&history, 2), Some(Found { tokens: vec![5, 6], agreed: 4 }));
        let history = [&history[..], &[77]].concat();
        assert_eq!(lookup.find(&history, 2), None);
        lookup.forget();
        assert_eq!(lookup.find(&[5, 5], 2), None);
    }

    #[test]
    fn the_longest_agreement_wins_and_of_equal_ones_the_latest() {
        let history = [8, 1, 2, 3, 10, 7, 1, 2, 3, 11, 6, 1, 2, 3, 12, 8, 1, 2, 3];
        assert_eq!(Lookup::default().find(&history, 1), Some(Found { tokens: vec![10], agreed: 4 }));
        assert_eq!(Lookup::default().find(&history[..14], 1), Some(Found { tokens: vec![11], agreed: 3 }));
    }

    #[test]
    fn a_sequence_that_turns_in_a_circle_goes_on_so() {
        let found = Lookup::default().find(&[1, 2, 1, 2, 1], 5).unwrap();
        assert_eq!(found.tokens, [2, 1, 2, 1, 2]);
        assert_eq!(Lookup::default().find(&[4, 4, 4, 4], 3).unwrap().tokens, [4, 4, 4]);
    }
}
