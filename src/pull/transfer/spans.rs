//! Which bytes of a blob are there.

use std::ops::Range;

/// Ordered ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<Range<u64>>);

impl Spans {
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|span| span.end < range.start);
        let last = self.0.partition_point(|span| span.start <= range.end);
        let joined = match self.0[first..last] {
            [] => range,
            [ref only] => only.start.min(range.start)..only.end.max(range.end),
            [ref one, .., ref other] => one.start.min(range.start)..other.end.max(range.end),
        };
        self.0.splice(first..last, [joined]);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|span| span.end - span.start).sum()
    }

    /// How far it goes from the beginning without a gap.
    pub(super) fn prefix(&self) -> u64 {
        self.0.first().filter(|span| span.start == 0).map_or(0, |span| span.end)
    }

    pub(super) fn contains(&self, range: &Range<u64>) -> bool {
        let before = self.0.partition_point(|span| span.end < range.end);
        self.0.get(before).is_some_and(|span| span.start <= range.start && range.end <= span.end)
    }

    /// What is missing up to `size`.
    pub(super) fn gaps(&self, size: u64) -> Vec<Range<u64>> {
        let mut at = 0;
        let mut gaps = Vec::new();
        for span in &self.0 {
            gaps.push(at..span.start.min(size));
            at = span.end;
        }
        gaps.push(at..size);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_gaps_show() {
        let mut spans = Spans::default();
        assert_eq!((spans.prefix(), spans.total(), spans.gaps(0)), (0, 0, vec![]));
        spans.insert(4..6);
        spans.insert(8..9);
        assert_eq!((spans.prefix(), spans.total(), spans.gaps(10)), (0, 3, vec![0..4, 6..8, 9..10]));
        spans.insert(0..2);
        spans.insert(6..8);
        assert_eq!((spans.prefix(), spans.gaps(10)), (2, vec![2..4, 9..10]));
        assert!(spans.contains(&(4..9)) && spans.contains(&(5..7)) && !spans.contains(&(1..5)));
        spans.insert(1..10);
        assert_eq!((spans.prefix(), spans.total(), spans.gaps(10)), (10, 10, vec![]));
        assert_eq!(spans.iter().count(), 1);
    }
}
