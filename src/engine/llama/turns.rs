//! How long small batches take: whether a few more tokens in one are dear or cheap, which is the machine's to say.

use super::pace::Pace;

/// Passes over the weights are told apart up to this many rows.
pub const SMALL: usize = 64;
/// A size not seen for so many batches is forgotten: what was learnt in a bad moment must not hold for ever.
const MEMORY: u64 = 500;
/// How fast a shorter time replaces the old one, and a longer one. Batches are slowed down now and then and never sped up,
/// so the short times are the true ones.
const DOWN: f64 = 0.3;
const UP: f64 = 0.05;
/// How much longer than before a batch may seem at the most.
const OUTLIER: f64 = 2.0;

/// What a batch has of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    pub slot: usize,
    pub rows: usize,
}

/// Seconds that small batches take, by the rows of each pass over the weights. A second row costs little where the weights'
/// way from memory is what takes time, and nearly as much as the first where it is not: only measuring tells.
pub struct Turns {
    took: [Option<Took>; SMALL],
    now: u64,
}

#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    when: u64,
}

impl Turns {
    pub fn new() -> Self {
        Self { took: [None; SMALL], now: 0 }
    }

    /// A batch took so long. When it was several passes, each is held to have been as much longer or shorter than expected
    /// as all of them were.
    pub fn learn(&mut self, batch: &[Rows], seconds: f64, pace: &Pace) {
        self.now += 1;
        let passes = passes(batch);
        let expected: Option<Vec<f64>> = passes.iter().map(|rows| self.pass(*rows, pace)).collect();
        let expected = expected.unwrap_or_else(|| vec![1.0; passes.len()]);
        let factor = seconds / expected.iter().sum::<f64>();
        for (rows, expected) in passes.into_iter().zip(expected) {
            self.learn_pass(rows, expected * factor);
        }
    }

    fn learn_pass(&mut self, rows: usize, seconds: f64) {
        let before = self.known(rows);
        if let Some(place) = self.took.get_mut(rows) {
            let seconds = before.map_or(seconds, |before| {
                let share = if seconds < before { DOWN } else { UP };
                before + share * (seconds.min(OUTLIER * before) - before)
            });
            *place = Some(Took { seconds, when: self.now });
        }
    }

    /// Seconds that a batch takes whose like was measured, pass by pass.
    pub fn measured(&self, batch: &[Rows]) -> Option<f64> {
        passes(batch).into_iter().map(|rows| self.known(rows)).sum()
    }

    /// Seconds that a batch will take, as far as that can be told.
    pub fn expect(&self, batch: &[Rows], pace: &Pace) -> Option<f64> {
        passes(batch).into_iter().map(|rows| self.pass(rows, pace)).sum()
    }

    fn known(&self, rows: usize) -> Option<f64> {
        let took = self.took.get(rows)?.as_ref()?;
        (self.now - took.when <= MEMORY).then_some(took.seconds)
    }

    /// Between sizes that were seen there is a line; beyond them each row costs what `pace` says, in the hope that it is so:
    /// one try then tells. Fewer rows than were ever seen take as long as those. `None` when nothing is known.
    fn pass(&self, rows: usize, pace: &Pace) -> Option<f64> {
        let below = (1..=rows.min(SMALL - 1)).rev().find_map(|size| Some((size, self.known(size)?)));
        let above = (rows..SMALL).find_map(|size| Some((size, self.known(size)?)));
        match (below, above) {
            (Some((low, least)), Some((high, most))) if low < high => {
                Some(least + (most - least) * (rows - low) as f64 / (high - low) as f64)
            }
            (Some((low, least)), _) if low == rows => Some(least),
            (Some((low, least)), _) => Some(least + (rows - low) as f64 * pace.token()?),
            (None, above) => above.map(|(_, seconds)| seconds),
        }
    }
}

/// The rows of each pass over the weights that llama.cpp makes for a batch, where each sequence has a buffer of its own:
/// neighbouring slots go together, with as many rows of each as all of them still have. Sequences that are guessed ahead
/// unequally far therefore cost more passes than those that are not, or equally.
pub fn passes(batch: &[Rows]) -> Vec<usize> {
    let mut left: Vec<Rows> = batch.iter().copied().filter(|piece| piece.rows > 0).collect();
    let mut passes = Vec::new();
    while let Some(first) = left.first().copied() {
        let together = (first.slot..).zip(&left).take_while(|(slot, piece)| *slot == piece.slot).count();
        let each = left[..together].iter().map(|piece| piece.rows).min().unwrap_or(first.rows);
        left[..together].iter_mut().for_each(|piece| piece.rows -= each);
        left.retain(|piece| piece.rows > 0);
        passes.push(together * each);
    }
    passes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn batch(rows: &[usize]) -> Vec<Rows> {
        rows.iter().enumerate().map(|(slot, rows)| Rows { slot, rows: *rows }).collect()
    }

    #[test]
    fn what_was_not_seen_is_reckoned_from_what_was() {
        let (mut turns, mut pace) = (Turns::new(), Pace::new(512));
        assert_eq!(turns.expect(&batch(&[1]), &pace), None);
        turns.learn(&batch(&[1]), 1.0, &pace);
        assert_eq!((turns.expect(&batch(&[1]), &pace), turns.expect(&batch(&[2]), &pace)), (Some(1.0), None));
        pace.learn(100, Duration::from_secs(25));
        assert_eq!(turns.expect(&batch(&[5]), &pace), Some(2.0));
        turns.learn(&batch(&[5]), 4.0, &pace);
        assert_eq!(turns.expect(&batch(&[3]), &pace), Some(2.5));
        assert_eq!(turns.expect(&batch(&[9]), &pace), Some(5.0));
        assert_eq!((turns.measured(&batch(&[5])), turns.measured(&batch(&[3]))), (Some(4.0), None));
        turns.learn(&batch(&[5]), 1000.0, &pace);
        assert!((turns.expect(&batch(&[5]), &pace).unwrap() - 4.2).abs() < 1e-9, "one bad moment is not believed");
        for _ in 0..=MEMORY {
            turns.learn(&batch(&[1]), 1.0, &pace);
        }
        assert_eq!(turns.expect(&batch(&[5]), &pace), Some(2.0));
    }

    #[test]
    fn unequal_sequences_take_several_passes() {
        assert_eq!(passes(&batch(&[1, 1, 1, 1])), [4]);
        assert_eq!(passes(&batch(&[5, 5, 5, 5])), [20]);
        assert_eq!(passes(&batch(&[1, 6])), [2, 5]);
        assert_eq!(passes(&batch(&[6, 1, 6])), [3, 5, 5]);
        // Slots 0, 1 and 3.
        assert_eq!(passes(&batch(&[2, 2, 0, 2])), [4, 2]);
    }

    #[test]
    fn several_passes_are_learnt_together() {
        let (mut turns, pace) = (Turns::new(), Pace::new(512));
        // Slots that are no neighbours, and nothing known yet.
        turns.learn(&batch(&[1, 0, 1]), 3.0, &pace);
        assert_eq!(turns.measured(&batch(&[1])), Some(1.5));
        turns.learn(&batch(&[1, 1, 1, 1]), 2.5, &pace);
        // Four and one were seen, and two are between them.
        let near = |seconds: Option<f64>, expected: f64| (seconds.unwrap() - expected).abs() < 1e-9;
        assert!(near(turns.expect(&batch(&[1, 1]), &pace), 1.5 + 1.0 / 3.0));
        assert!(near(turns.expect(&batch(&[3, 2]), &pace), 2.5 + 1.5));
        turns.learn(&batch(&[3, 2]), 2.0, &pace);
        assert!(near(turns.measured(&batch(&[1])), 1.5 - DOWN * 0.75));
        assert!(near(turns.measured(&batch(&[1, 1, 1, 1])), 2.5 - DOWN * 1.25));
    }

    #[test]
    fn fewer_rows_than_were_seen_take_no_longer() {
        let (mut turns, pace) = (Turns::new(), Pace::new(512));
        turns.learn(&batch(&[1; 8]), 2.0, &pace);
        assert_eq!((turns.expect(&batch(&[1; 4]), &pace), turns.measured(&batch(&[1; 4]))), (Some(2.0), None));
    }
}
