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

    /// What of `range` is missing.
    pub(super) fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut at = range.start;
        let mut gaps = Vec::new();
        let first = self.0.partition_point(|span| span.end <= range.start);
        for span in self.0[first..].iter().take_while(|span| span.start < range.end) {
            gaps.push(at..span.start.max(at));
            at = span.end;
        }
        gaps.push(at..range.end.max(at));
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }

    /// Without `range`.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        let cut = |span: &Range<u64>| [span.start..span.end.min(range.start), span.start.max(range.end)..span.end];
        let rest: Vec<_> = self.0.iter().flat_map(cut).filter(|span| !span.is_empty()).collect();
        if !range.is_empty() {
            self.0 = rest;
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_gaps_show() {
        let mut spans = Spans::default();
        assert_eq!((spans.prefix(), spans.total(), spans.missing(&(0..0))), (0, 0, vec![]));
        spans.insert(4..6);
        spans.insert(8..9);
        assert_eq!((spans.prefix(), spans.total(), spans.missing(&(0..10))), (0, 3, vec![0..4, 6..8, 9..10]));
        spans.insert(0..2);
        spans.insert(6..8);
        assert_eq!((spans.prefix(), spans.missing(&(0..10))), (2, vec![2..4, 9..10]));
        assert!(spans.contains(&(4..9)) && spans.contains(&(5..7)) && !spans.contains(&(1..5)));
        spans.insert(1..10);
        assert_eq!((spans.prefix(), spans.total(), spans.missing(&(0..10))), (10, 10, vec![]));
        assert_eq!(spans.iter().count(), 1);
        spans.remove(&(3..5));
        spans.remove(&(9..20));
        assert_eq!(spans.missing(&(0..10)), [3..5, 9..10]);
        assert_eq!(
            (spans.missing(&(1..4)), spans.missing(&(3..5)), spans.missing(&(6..8))),
            (vec![3..4], vec![3..5], vec![])
        );
    }
}
