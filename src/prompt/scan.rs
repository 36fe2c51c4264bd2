//! Where a JSON object ends in a text that comes piece by piece.

/// Follows one object from its `{` on; never looks at a byte twice.
#[derive(Clone, Debug)]
pub(super) struct ObjectScan {
    /// Of the object's `{`.
    pub start: usize,
    at: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl ObjectScan {
    /// `start` is the place of a `{`.
    pub(super) fn new(start: usize) -> Self {
        Self { start, at: start, depth: 0, quoted: false, escaped: false }
    }

    /// Reads on, and gives the object's end (after its `}`) once it is there.
    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        for &byte in &text.as_bytes()[self.at.min(text.len())..] {
            self.at += 1;
            if self.quoted {
                let ends = byte == b'"' && !self.escaped;
                self.escaped = byte == b'\\' && !self.escaped;
                self.quoted = !ends;
                continue;
            }
            match byte {
                b'"' => self.quoted = true,
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minds_strings() {
        let text = "x{\"a\": \"}{ \\\" ]\", \"b\": {}} rest";
        let mut scan = ObjectScan::new(1);
        assert_eq!((1..=text.len()).find_map(|length| scan.end(&text[..length])), Some(text.find(" rest").unwrap()));
    }
}
