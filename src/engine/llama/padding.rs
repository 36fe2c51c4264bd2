//! Rows without meaning, which make a batch regular: llama.cpp takes over the weights at once as many rows of each sequence as all
//! neighbours in it have, and begins another pass for every difference and every gap. What those rows cost is less than the passes
//! they save, and what they leave in the cache is taken back.

use super::turns::Rows;

/// Rows of a large batch that take as long as a pass by itself, at the least. On two cores a pass of one row took as long as five
/// of a large batch and one of two rows as long as eleven; the more cores there are, the more it is.
const PASS: usize = 8;

/// Tokens to look back on that make a row cost as much again. On two cores a row behind 1,500 took as long as six.
const BEHIND: usize = 256;

/// What can be added of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Rows that it has at the most, with those it has already.
    pub most: usize,
    /// Tokens that each of them looks back on.
    pub behind: usize,
}

/// `batch`, in the order of its slots, with rows added where that makes it faster: to its pieces, and of slots between them. There
/// are no more than `largest` then.
pub fn pad(batch: &[Rows], room: impl Fn(usize) -> Room, largest: usize) -> Vec<Rows> {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Vec::new() };
    let mut rows = vec![0; last.slot + 1 - first.slot];
    batch.iter().for_each(|piece| rows[piece.slot - first.slot] = piece.rows);
    if passes(&rows) > 1 {
        let room: Vec<Room> = (first.slot..=last.slot).map(room).collect();
        while let Some(better) = better(&rows, &room, largest) {
            rows = better;
        }
    }
    let slots = (first.slot..).zip(rows);
    slots.filter(|(_, rows)| *rows > 0).map(|(slot, rows)| Rows { slot, rows }).collect()
}

/// The cheapest way to fill up one valley between others, if one is cheaper than to leave them all.
fn better(rows: &[usize], room: &[Room], largest: usize) -> Option<Vec<usize>> {
    let filled = rows.iter().flat_map(|level| {
        let mut valleys = Vec::new();
        let mut at = 0;
        while at < rows.len() {
            let length = rows[at..].iter().take_while(|rows| *rows < level).count();
            if length > 0 && room[at..at + length].iter().all(|room| *level <= room.most) {
                let mut filled = rows.to_vec();
                filled[at..at + length].fill(*level);
                valleys.push(filled);
            }
            at += length.max(1);
        }
        valleys
    });
    let possible = filled.filter(|rows| rows.iter().sum::<usize>() <= largest);
    let best = possible.min_by_key(|rows| cost(rows, room))?;
    (cost(&best, room) < cost(rows, room)).then_some(best)
}

/// What a batch costs, in rows that look back on nothing.
fn cost(rows: &[usize], room: &[Room]) -> usize {
    let each = rows.iter().zip(room).map(|(rows, room)| rows * (1 + room.behind / BEHIND));
    passes(rows) * PASS + each.sum::<usize>()
}

/// How many passes there are. A pass takes the same from every piece of a row of neighbours, so there is one more wherever one
/// rises above what lies before it, down to what both stand on.
fn passes(rows: &[usize]) -> usize {
    let mut passes = 0;
    let mut under = Vec::new();
    for &rows in rows {
        while under.last().is_some_and(|top| *top > rows) {
            under.pop();
        }
        if rows > 0 && under.last() != Some(&rows) {
            under.push(rows);
            passes += 1;
        }
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::super::turns;
    use super::*;

    const ENOUGH: Room = Room { most: usize::MAX, behind: 0 };

    fn batch(rows: &[usize]) -> Vec<Rows> {
        let pieces = rows.iter().enumerate().map(|(slot, rows)| Rows { slot, rows: *rows });
        pieces.filter(|piece| piece.rows > 0).collect()
    }

    fn padded(rows: &[usize]) -> Vec<usize> {
        pad(&batch(rows), |_| ENOUGH, usize::MAX).iter().map(|piece| piece.rows).collect()
    }

    #[test]
    fn a_gap_is_closed_where_it_is_small() {
        assert_eq!(padded(&[1, 1, 0, 1]), [1, 1, 1, 1]);
        assert_eq!(pad(&[Rows { slot: 3, rows: 1 }, Rows { slot: 12, rows: 1 }], |_| ENOUGH, 99).len(), 2);
        assert_eq!(padded(&[1, 0, 0, 1, 0, 1]), [1; 6]);
        assert_eq!(padded(&[300, 0, 300]), [300, 300]);
        assert!(pad(&[], |_| ENOUGH, 99).is_empty());
    }

    #[test]
    fn a_gap_that_looks_back_on_much_stays() {
        let behind = |behind| pad(&batch(&[1, 0, 1]), |slot| Room { behind: [9000, behind, 9000][slot], ..ENOUGH }, 99);
        assert_eq!(behind(1000).len(), 3);
        assert_eq!(behind(2000).len(), 2);
    }

    #[test]
    fn lengths_are_made_equal_where_they_nearly_are() {
        assert_eq!(padded(&[20, 19, 17, 20]), [20; 4]);
        assert_eq!(padded(&[3, 90]), [3, 90]);
        assert_eq!(padded(&[90, 1, 88]), [90, 1, 88]);
        let prompts = [14, 11, 18, 13, 12, 16, 14, 17];
        let padded = pad(&batch(&prompts), |_| ENOUGH, usize::MAX);
        assert!(padded.iter().zip(prompts).all(|(piece, rows)| piece.rows >= rows));
        assert_eq!((turns::passes(&batch(&prompts)).len(), turns::passes(&padded).len()), (8, 2), "{padded:?}");
    }

    #[test]
    fn nothing_is_added_where_no_room_is() {
        let uneven = batch(&[2, 1, 2]);
        let most = |most| move |slot| Room { most: if slot == 1 { most } else { 9 }, behind: 0 };
        assert_eq!(pad(&uneven, most(1), 99), uneven);
        assert_eq!(pad(&uneven, most(9), 5), uneven);
        assert_eq!(pad(&uneven, most(9), 6), batch(&[2, 2, 2]));
    }

    #[test]
    fn the_passes_are_those_of_llama_cpp() {
        for rows in [&[1usize, 0, 2][..], &[5, 3, 5, 3, 1], &[4, 4, 0, 4], &[1, 2, 3, 2, 1], &[7]] {
            assert_eq!(passes(rows), turns::passes(&batch(rows)).len(), "{rows:?}");
        }
    }
}
