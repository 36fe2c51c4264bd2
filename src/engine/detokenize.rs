//! Bytes of tokens into text that may be shown: whole characters, and nothing that could be the start of a stop string.

use super::event::TokenLogprob;

/// Text that is certain, and whether a stop string ended it.
#[derive(Debug, Default, PartialEq)]
pub struct Certain {
    pub text: String,
    pub logprobs: Vec<TokenLogprob>,
    /// The stop string that was found; nothing comes after it.
    pub stop: Option<String>,
}

/// One answer's text as it grows.
#[derive(Debug)]
pub struct TextStream {
    stops: Vec<String>,
    /// The first bytes of a character that is not whole yet.
    bytes: Vec<u8>,
    /// Characters that may turn out to begin a stop string.
    held: String,
    /// Of the tokens whose text is held.
    logprobs: Vec<TokenLogprob>,
}

impl TextStream {
    /// Empty stop strings are passed over.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, bytes: Vec::new(), held: String::new(), logprobs: Vec::new() }
    }

    /// Takes a token's bytes and gives what is certain by now.
    pub fn push(&mut self, piece: &[u8], logprob: Option<TokenLogprob>) -> Certain {
        self.bytes.extend_from_slice(piece);
        self.logprobs.extend(logprob);
        self.take_characters(false);
        self.release()
    }

    /// Gives what was held back, when the answer ended by itself.
    pub fn finish(&mut self) -> Certain {
        self.take_characters(true);
        let certain = self.release();
        if certain.stop.is_some() {
            return certain;
        }
        let mut logprobs = certain.logprobs;
        logprobs.append(&mut self.logprobs);
        Certain { text: certain.text + &std::mem::take(&mut self.held), logprobs, stop: None }
    }

    /// Moves whole characters from `bytes` to `held`; bytes that can never be a character become U+FFFD.
    fn take_characters(&mut self, end: bool) {
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.bytes.clear();
                    return;
                }
                Err(error) => {
                    let (good, rest) = self.bytes.split_at(error.valid_up_to());
                    self.held.push_str(&String::from_utf8_lossy(good));
                    let broken = match error.error_len() {
                        Some(length) => length,
                        None if end => rest.len(),
                        None => {
                            self.bytes.drain(..error.valid_up_to());
                            return;
                        }
                    };
                    self.held.push('\u{fffd}');
                    self.bytes.drain(..error.valid_up_to() + broken);
                }
            }
        }
    }

    fn release(&mut self) -> Certain {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at, stop))).min();
        if let Some((at, stop)) = found {
            let stop = Some(stop.clone());
            self.held.truncate(at);
            let text = std::mem::take(&mut self.held);
            // Of the tokens that were waiting, those whose text lies before the stop string belong to the answer.
            let mut length = 0;
            self.logprobs.retain(|logprob| {
                length += logprob.bytes.len();
                length <= at
            });
            return Certain { text, logprobs: std::mem::take(&mut self.logprobs), stop };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let text = self.held.drain(..self.held.len() - keep).collect();
        let logprobs = if keep == 0 && self.bytes.is_empty() { std::mem::take(&mut self.logprobs) } else { Vec::new() };
        Certain { text, logprobs, stop: None }
    }
}

/// How many bytes at the end of `text` begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&length| text.as_bytes()[text.len() - length..] == stop.as_bytes()[..length]).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut stream = TextStream::new(&stops);
        let mut texts = Vec::new();
        for piece in pieces {
            let certain = stream.push(piece, None);
            texts.push(certain.text);
            if certain.stop.is_some() {
                return (texts, certain.stop);
            }
        }
        texts.push(stream.finish().text);
        (texts, None)
    }

    #[test]
    fn characters_are_whole() {
        let (texts, _) = texts(&[], &[b"a\xf0\x9f", b"\x98\x80", b"\xff", b"\xc3"]);
        assert_eq!(texts, ["a", "😀", "\u{fffd}", "", "\u{fffd}"]);
    }

    #[test]
    fn what_may_begin_a_stop_string_waits() {
        assert_eq!(
            texts(&["END"], &[b"one E", b"N", b"x"]),
            (vec!["one ".into(), "".into(), "ENx".into(), "".into()], None)
        );
        assert_eq!(texts(&["END"], &[b"one E", b"ND two"]), (vec!["one ".into(), "".into()], Some("END".into())));
        assert_eq!(texts(&["", "\n\n"], &[b"a\n", b"\nb"]), (vec!["a".into(), "".into()], Some("\n\n".into())));
        assert_eq!(texts(&["END"], &[b"one E"]), (vec!["one ".into(), "E".into()], None));
    }

    #[test]
    fn the_first_stop_string_wins() {
        assert_eq!(texts(&["b", "ab"], &[b"xab"]), (vec!["x".into()], Some("ab".into())));
    }
}
