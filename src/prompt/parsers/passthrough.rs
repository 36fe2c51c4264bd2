//! passthrough: all text is content.

use super::Start;
use super::out::{Out, Space};
use super::scan::{Format, Input, Machine};
use crate::prompt::OutputParser;

struct Passthrough;

pub(super) fn passthrough(_: &Start) -> Box<dyn OutputParser> {
    Machine::boxed(Passthrough, Out::new(Space::default(), false))
}

impl Format for Passthrough {
    fn step(&mut self, input: &mut Input, out: &mut Out) -> bool {
        out.content(&input.take_all());
        false
    }

    fn finish(&mut self, _: &mut Input, _: &mut Out) -> bool {
        false
    }
}
