//! Go's number and string constants.

use super::lexer::Token;
use super::value::Value;

/// Reads the number at the beginning of `text`: its length and its token.
pub(super) fn scan(text: &str) -> (usize, Token) {
    let mut length = usize::from(text.starts_with(['+', '-']));
    let rest = &text[length..];
    let (digits, prefix) = match rest.get(..2) {
        Some("0x" | "0X") => ("0123456789abcdefABCDEF_", 2),
        Some("0o" | "0O") => ("01234567_", 2),
        Some("0b" | "0B") => ("01_", 2),
        _ => ("0123456789_", 0),
    };
    let accept =
        |from: usize, set: &str| text[from..].find(|char| !set.contains(char)).map_or(text.len(), |found| from + found);
    length = accept(length + prefix, digits);
    if text[length..].starts_with('.') {
        length = accept(length + 1, digits);
    }
    let exponent = if prefix == 0 { ['e', 'E'] } else { ['p', 'P'] };
    if text[length..].starts_with(exponent) {
        length += 1;
        length += usize::from(text[length..].starts_with(['+', '-']));
        length = accept(length, "0123456789_");
    }
    if let Some(next) = text[length..].chars().next().filter(|next| next.is_alphanumeric() || *next == '_') {
        return (length, Token::Bad(format!("bad number syntax: \"{}{next}\"", &text[..length])));
    }
    let source = &text[..length];
    let token = parse(source).map_or_else(
        || Token::Bad(format!("bad number syntax: {source:?}")),
        |value| Token::Constant(value, source.to_owned()),
    );
    (length, token)
}

fn parse(source: &str) -> Option<Value> {
    let plain = source.replace('_', "");
    let (sign, digits) = plain.strip_prefix('-').map_or((1, plain.trim_start_matches('+')), |digits| (-1, digits));
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| byte.is_ascii_digit()) => {
            (8, &lower[1..])
        }
        _ => (10, lower.as_str()),
    };
    if let Ok(number) = i64::from_str_radix(body, radix) {
        return (!body.starts_with(['+', '-'])).then(|| Value::Int(number.wrapping_mul(sign)));
    }
    if radix != 10 || !lower.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: f64 = lower.parse().ok()?;
    (number.is_finite() && lower.contains(['.', 'e'])).then_some(Value::Float(number * sign as f64))
}

/// The text that the inside of a Go string or character literal stands for.
pub(super) fn unquote(body: &str) -> Option<String> {
    let mut out: Vec<u8> = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.clone().next()?;
        if !('0'..='7').contains(&escape) {
            chars.next();
        }
        let mut code = |length: usize, radix: u32| {
            let digits: String = chars.by_ref().take(length).collect();
            (digits.len() == length).then(|| u32::from_str_radix(&digits, radix).ok()).flatten()
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' | '\'' | '"' => out.push(escape as u8),
            'x' => out.push(u8::try_from(code(2, 16)?).ok()?),
            '0'..='7' => out.push(u8::try_from(code(3, 8)?).ok()?),
            'u' | 'U' => {
                let char = char::from_u32(code(if escape == 'u' { 4 } else { 8 }, 16)?)?;
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}
