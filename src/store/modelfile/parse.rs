//! Reads a Modelfile.

use super::{Instruction, MessageRole, Modelfile, ModelfileError};

impl Modelfile {
    /// Reads UTF-8, or what a byte order mark says.
    ///
    /// # Errors
    /// [`ModelfileError`] when it is not a Modelfile.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelfileError> {
        let text = decode(bytes);
        let mut reader = Reader { rest: text.chars(), line: 1 };
        let mut instructions = Vec::new();
        while let Some(first) = reader.command_start() {
            instructions.push(reader.instruction(first)?);
        }
        if !instructions.iter().any(|instruction| matches!(instruction, Instruction::From(_))) {
            return Err(ModelfileError::NoFrom);
        }
        Ok(Self { instructions })
    }
}

fn decode(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

struct Reader<'a> {
    rest: std::str::Chars<'a>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let char = self.rest.next()?;
        self.line += usize::from(is_newline(char));
        Some(char)
    }

    /// Skips blanks and comments; gives the first character of a command.
    fn command_start(&mut self) -> Option<char> {
        let mut comment = false;
        while let Some(char) = self.next() {
            match char {
                _ if is_newline(char) => comment = false,
                _ if comment || is_blank(char) => {}
                '#' => comment = true,
                _ => return Some(char),
            }
        }
        None
    }

    fn instruction(&mut self, first: char) -> Result<Instruction, ModelfileError> {
        let mut word = String::new();
        let mut char = first;
        while !is_blank(char) {
            if !char.is_ascii_alphabetic() {
                return Err(ModelfileError::Command { line: self.line });
            }
            word.push(char.to_ascii_lowercase());
            char = self.next().ok_or(ModelfileError::UnexpectedEnd)?;
        }
        Ok(match word.as_str() {
            "from" => Instruction::From(self.value()?),
            "license" => Instruction::License(self.value()?),
            "template" => Instruction::Template(self.value()?),
            "system" => Instruction::System(self.value()?),
            "adapter" => Instruction::Adapter(self.value()?),
            "draft" => Instruction::Draft(self.value()?),
            "renderer" => Instruction::Renderer(self.value()?),
            "parser" => Instruction::Parser(self.value()?),
            "requires" => Instruction::Requires(self.value()?),
            "parameter" => {
                let name = self.word(|char| char.is_ascii_alphanumeric() || char == '_')?;
                Instruction::Parameter { name, value: self.value()? }
            }
            "message" => {
                let role = self.word(|char| char.is_ascii_alphabetic())?;
                let role = MessageRole::of_str(&role).ok_or(ModelfileError::Role { line: self.line })?;
                Instruction::Message { role, content: self.value()? }
            }
            _ => return Err(ModelfileError::Command { line: self.line }),
        })
    }

    /// A word of `allowed` characters and the blank after it.
    fn word(&mut self, allowed: impl Fn(char) -> bool) -> Result<String, ModelfileError> {
        let mut word = String::new();
        loop {
            match self.next().ok_or(ModelfileError::UnexpectedEnd)? {
                char if allowed(char) => word.push(char),
                char if is_blank(char) && word.is_empty() => {}
                char if is_blank(char) => return Ok(word),
                _ => return Err(ModelfileError::BrokenWord(word)),
            }
        }
    }

    /// To the end of the line; in quotes, to the end of the first line that ends with the closing ones.
    fn value(&mut self) -> Result<String, ModelfileError> {
        let mut text = String::new();
        loop {
            let char = self.next();
            if char.is_none_or(is_newline)
                && let Some(value) = unquote(text.trim())
            {
                return Ok(value.to_owned());
            }
            match char {
                None => return Err(ModelfileError::UnexpectedEnd),
                Some(char) if char.is_control() && !is_blank(char) && !is_newline(char) => {}
                Some(char) => text.push(char),
            }
        }
    }
}

/// What a value's text stands for; `None` while its quotes are open.
pub(super) fn unquote(text: &str) -> Option<&str> {
    let quotes = if text.starts_with("\"\"\"") { "\"\"\"" } else { "\"" };
    match text.strip_prefix(quotes) {
        Some(rest) => rest.strip_suffix(quotes),
        None => Some(text),
    }
}

fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t')
}

pub(super) fn is_newline(char: char) -> bool {
    matches!(char, '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_sequences_and_wide_blanks_stay_whole() {
        let modelfile =
            Modelfile::parse("FROM a\nSYSTEM family 👨\u{200d}👩\u{200d}👧 a\u{3000}b\u{7}".as_bytes()).unwrap();
        let want = Instruction::System("family 👨\u{200d}👩\u{200d}👧 a\u{3000}b".into());
        assert_eq!(modelfile.instructions[1], want);
    }

    #[test]
    fn more_blanks_than_needed_are_skipped() {
        let modelfile = Modelfile::parse(b"FROM a\nPARAMETER \t seed   1\nMESSAGE  user  hi").unwrap();
        let seed = Instruction::Parameter { name: "seed".into(), value: "1".into() };
        let hi = Instruction::Message { role: MessageRole::User, content: "hi".into() };
        assert_eq!(modelfile.instructions[1..], [seed, hi]);
    }
}
