//! JSON as Go's `encoding/json` writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped, floats in Go's shortest form.
//!
//! U+0085 is escaped too, which Go does not do: Python's line readers split there, and every JSON reader accepts it.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Writes `value` as compact JSON, as `json.Marshal` would.
///
/// # Errors
/// When the value's own `Serialize` fails, or a map has keys that are not strings.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

/// Writes `value` as compact JSON text.
///
/// # Errors
/// As [`to_vec`].
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    Ok(String::from_utf8(to_vec(value)?).expect("serde_json writes UTF-8: a bug"))
}

/// Go's float text in JSON: shortest digits, exponent below 1e-6 and from 1e21 on, no `.0`.
pub fn float(value: f64) -> String {
    let shortest = format!("{value:e}");
    let magnitude = value.abs();
    shape(magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude), &shortest, || format!("{value}"))
}

/// As [`float`], with the shortest digits that identify a 32-bit float.
pub fn float32(value: f32) -> String {
    let shortest = format!("{value:e}");
    // the bounds are of 32 bits too: 1e-6 is not below itself
    let magnitude = value.abs();
    shape(magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude), &shortest, || format!("{value}"))
}

fn shape(exponential: bool, shortest: &str, plain: impl Fn() -> String) -> String {
    if exponential {
        let (digits, exponent) = shortest.split_once('e').expect("`{:e}` has an exponent: a bug");
        let (sign, number) = exponent.strip_prefix('-').map_or(("+", exponent), |number| ("-", number));
        // Go turns `e-09` into `e-9`, and writes `e+21` with its sign.
        return format!("{digits}e{sign}{number}");
    }
    plain()
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        writer.write_all(float32(value).as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = 0;
        for (index, char) in fragment.char_indices() {
            if matches!(char, '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{85}') {
                writer.write_all(&fragment.as_bytes()[rest..index])?;
                write!(writer, "\\u{:04x}", u32::from(char))?;
                rest = index + char.len_utf8();
            }
        }
        writer.write_all(&fragment.as_bytes()[rest..])
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_floats_are_go_s() {
        assert_eq!(to_string("<a&b>\u{2028}\u{1}\n").unwrap(), "\"\\u003ca\\u0026b\\u003e\\u2028\\u0001\\n\"");
        assert_eq!(to_string(&[1.0_f64, 0.5, 1e-7, 1e21, 123456789.0]).unwrap(), "[1,0.5,1e-7,1e+21,123456789]");
        assert_eq!(to_string(&-7.227309e-33_f32).unwrap(), "-7.227309e-33");
        assert_eq!(to_string(&[1e-6_f32, 9e-7_f32, 10000.0]).unwrap(), "[0.000001,9e-7,10000]");
    }
}
