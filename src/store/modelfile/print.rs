//! Writes a Modelfile so that reading it gives the same instructions.

use std::borrow::Cow;
use std::fmt;

use super::parse::{is_newline, unquote};
use super::{Instruction, Modelfile};

impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instructions.iter().try_for_each(|instruction| writeln!(f, "{instruction}"))
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(value) => write!(f, "FROM {}", quote(value)),
            Self::License(value) => write!(f, "LICENSE {}", quote(value)),
            Self::Template(value) => write!(f, "TEMPLATE {}", quote(value)),
            Self::System(value) => write!(f, "SYSTEM {}", quote(value)),
            Self::Adapter(value) => write!(f, "ADAPTER {}", quote(value)),
            Self::Draft(value) => write!(f, "DRAFT {}", quote(value)),
            Self::Renderer(value) => write!(f, "RENDERER {}", quote(value)),
            Self::Parser(value) => write!(f, "PARSER {}", quote(value)),
            Self::Requires(value) => write!(f, "REQUIRES {}", quote(value)),
            Self::Parameter { name, value } => write!(f, "PARAMETER {name} {}", quote(value)),
            Self::Message { role, content } => write!(f, "MESSAGE {} {}", role.as_str(), quote(content)),
        }
    }
}

/// As Ollama quotes: a value is bare if it can be, then `"…"`, and `"""…"""` when there is a quote in it. Where that would
/// not be read back as the same value, the quoted forms are tried.
fn quote(value: &str) -> Cow<'_, str> {
    let bare = !value.contains('\n') && !value.starts_with(' ') && !value.ends_with(' ');
    let one = || Cow::Owned(format!("\"{value}\""));
    let three = || Cow::Owned(format!("\"\"\"{value}\"\"\""));
    let quoted = || if value.contains('"') { three() } else { one() };
    let first = if bare { Cow::Borrowed(value) } else { quoted() };
    if reads_as(&first, value) {
        return first;
    }
    // a value with a line that ends in three quotes has no form at all
    [quoted(), one()].into_iter().find(|form| reads_as(form, value)).unwrap_or(first)
}

fn reads_as(form: &str, value: &str) -> bool {
    let mut lines = form.char_indices().filter(|(_, char)| is_newline(*char));
    let ends_early = lines.any(|(at, _)| unquote(form[..at].trim()).is_some());
    !ends_early && unquote(form.trim()) == Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let values = [
            "",
            "plain",
            "say \"hi\" now",
            "\"quoted\"",
            "\"",
            "\"\"",
            "\"open",
            "  padded ",
            "\ttab",
            "two\nlines",
            "two\r\nlines",
            "\"a\"\n\"b\"",
            "line \"ends\"\nhere",
            "\n\n",
            "{{ if eq .Role \"user\" }}\n\"x\"\n{{ end }}",
            "# no comment",
        ];
        for value in values {
            let written =
                Modelfile { instructions: vec![Instruction::From("a".into()), Instruction::System(value.into())] };
            let read = Modelfile::parse(written.to_string().as_bytes());
            assert_eq!(read.as_ref(), Ok(&written), "{value:?} written as {written}");
        }
    }
}
