//! Go's `Sprintf`, with what it prints for verbs and operands that do not fit.

use super::budget::Text;
use super::value::{Value, float};

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// No field is padded further than this.
const WIDEST: usize = 1_000_000;

pub(super) fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = Text::default();
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char.encode_utf8(&mut [0; 4]))?;
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|char| "-+# 0".contains(*char)) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if chars.next_if_eq(&'*').is_some() {
                let Some(Value::Int(number)) = args.get(next) else {
                    return None;
                };
                next += 1;
                return Some(usize::try_from(*number).unwrap_or(0).min(WIDEST));
            }
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            digits.parse().ok().map(|number: usize| number.min(WIDEST))
        };
        spec.width = number(&mut chars);
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars).unwrap_or(0));
        }
        let Some(verb) = chars.next() else {
            out.push("%!(NOVERB)")?;
            break;
        };
        if verb == '%' {
            out.push("%")?;
            continue;
        }
        let Some(arg) = args.get(next) else {
            out.push(&format!("%!{verb}(MISSING)"))?;
            continue;
        };
        next += 1;
        out.push(&spec.show(verb, arg))?;
    }
    if next < args.len() {
        out.push("%!(EXTRA ")?;
        for (index, arg) in args[next..].iter().enumerate() {
            out.push(if index > 0 { ", " } else { "" })?;
            out.push(&typed(arg))?;
        }
        out.push(")")?;
    }
    Ok(out.done())
}

fn typed(value: &Value) -> String {
    if matches!(value, Value::Nil) { "<nil>".to_owned() } else { format!("{}={value}", value.type_name()) }
}

impl Spec {
    fn show(&self, verb: char, value: &Value) -> String {
        let body = match (verb, value) {
            ('T', _) => Some(value.type_name().to_owned()),
            ('v', Value::Float(number)) if self.precision.is_some() => self.float('g', *number),
            ('v', Value::Int(number)) => Some(self.signed(*number < 0, number.unsigned_abs().to_string())),
            ('v', _) => Some(value.to_string()),
            ('t', Value::Bool(value)) => Some(value.to_string()),
            ('d' | 'b' | 'o' | 'x' | 'X' | 'c' | 'q' | 'U', Value::Int(number)) => self.integer(verb, *number),
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(number)) => self.float(verb, *number),
            ('s' | 'q' | 'x' | 'X', Value::Text(text)) => Some(self.text(verb, text)),
            ('s' | 'q' | 'x' | 'X', Value::List(_) | Value::Map(_) | Value::Object(_)) => {
                Some(self.text(verb, &value.to_string()))
            }
            _ => None,
        };
        let Some(body) = body else {
            let shown = typed(value);
            return format!("%!{verb}({shown})");
        };
        self.pad(body, !matches!(verb, 's' | 'v' | 'q' | 't' | 'T') || !matches!(value, Value::Text(_)))
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, _, _) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        format!("{sign}{digits}")
    }

    fn integer(&self, verb: char, number: i64) -> Option<String> {
        let size = number.unsigned_abs();
        let char = || u32::try_from(number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
        let digits = match verb {
            'd' => size.to_string(),
            'b' => format!("{size:b}"),
            'o' => format!("{}{size:o}", if self.sharp { "0" } else { "" }),
            'x' => format!("{}{size:x}", if self.sharp { "0x" } else { "" }),
            'X' => format!("{}{size:X}", if self.sharp { "0X" } else { "" }),
            'c' => return Some(char().to_string()),
            'q' => return Some(format!("{:?}", char())),
            _ => return Some(format!("U+{number:04X}")),
        };
        Some(self.signed(number < 0, digits))
    }

    fn float(&self, verb: char, number: f64) -> Option<String> {
        let size = number.abs();
        let digits = match verb {
            'f' | 'F' => format!("{size:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => exponent(&format!("{size:.*e}", self.precision.unwrap_or(6))),
            _ => match self.precision {
                None => float(size),
                Some(precision) => general(size, precision.max(1)),
            },
        };
        let digits = if verb.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
        Some(self.signed(number.is_sign_negative() && !number.is_nan(), digits))
    }

    fn text(&self, verb: char, text: &str) -> String {
        let text: String = match self.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        match verb {
            'x' => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            'X' => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
            'q' => quote(&text),
            _ => text,
        }
    }

    fn pad(&self, body: String, number: bool) -> String {
        let missing = self.width.unwrap_or(0).saturating_sub(body.chars().count());
        if self.minus {
            return format!("{body}{}", " ".repeat(missing));
        }
        if self.zero && number {
            let sign = body.len() - body.trim_start_matches(['+', '-', ' ']).len();
            return format!("{}{}{}", &body[..sign], "0".repeat(missing), &body[sign..]);
        }
        format!("{}{body}", if self.zero { "0" } else { " " }.repeat(missing))
    }
}

/// Rust's `1e-7` as Go's `1e-07`.
fn exponent(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, number) = exponent.strip_prefix('-').map_or(('+', exponent), |number| ('-', number));
    format!("{digits}e{sign}{number:0>2}")
}

fn general(size: f64, precision: usize) -> String {
    let scientific = format!("{size:.*e}", precision - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= i32::try_from(precision).unwrap_or(i32::MAX) {
        let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return exponent(&format!("{}e{power}", trim(digits)));
    }
    let places = usize::try_from(i64::try_from(precision).unwrap_or(i64::MAX) - 1 - i64::from(power)).unwrap_or(0);
    trim(&format!("{size:.places$}"))
}

/// Go's quoted string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            control if control.is_control() && control < '\u{80}' => {
                out.push_str(&format!("\\x{:02x}", control as u32))
            }
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
