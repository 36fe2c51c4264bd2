//! The values of PARAMETERs: from text to the option's type, and back.

use serde_json::{Value, json};

use super::ModelfileError;
use crate::go::json::{float, float32};

#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Bool,
    /// May be given more than once.
    Strings,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "num_ctx" | "num_batch" | "num_gpu" | "main_gpu" | "num_thread" | "draft_num_predict" | "num_keep" | "seed"
        | "num_predict" | "top_k" | "repeat_last_n" => Kind::Int,
        "top_p" | "min_p" | "typical_p" | "temperature" | "repeat_penalty" | "presence_penalty"
        | "frequency_penalty" => Kind::Float,
        "use_mmap" => Kind::Bool,
        "stop" => Kind::Strings,
        _ => return None,
    })
}

/// Parameters that once were, and are passed over with a warning.
pub(super) fn is_deprecated(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    ];
    NAMES.contains(&name)
}

/// The value of a PARAMETER, in the type of its option; a string of `stop` as an array of one.
///
/// # Errors
/// [`ModelfileError::UnknownParameter`], [`ModelfileError::ParameterValue`].
pub fn typed_parameter(name: &str, value: &str) -> Result<Value, ModelfileError> {
    let kind = kind(name).ok_or_else(|| ModelfileError::UnknownParameter(name.to_owned()))?;
    let wrong = |kind| ModelfileError::ParameterValue { kind, value: value.to_owned() };
    Ok(match kind {
        Kind::Int => json!(value.parse::<i64>().map_err(|_| wrong("int"))?),
        Kind::Float => json!(read_float(value).ok_or_else(|| wrong("float"))?),
        Kind::Bool => json!(read_bool(value).ok_or_else(|| wrong("bool"))?),
        Kind::Strings => json!([value]),
    })
}

/// A 32-bit float, as the double with the same shortest text. What JSON cannot hold is refused here: Ollama takes `inf`
/// and fails to store it.
fn read_float(text: &str) -> Option<f64> {
    let value = text.parse::<f32>().ok().or_else(|| read_hex_float(text))?;
    value.is_finite().then(|| float32(value).parse().ok())?
}

/// Go's `0x1.8p-2`: the exponent is of two and must be there.
fn read_hex_float(text: &str) -> Option<f32> {
    let (sign, digits) =
        text.strip_prefix('-').map_or((1.0, text.strip_prefix('+').unwrap_or(text)), |rest| (-1.0, rest));
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))?;
    let (mantissa, exponent) = digits.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 {
        return None;
    }
    let mut value = 0.0_f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let shift = exponent.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?;
    Some((sign * value * 2_f64.powi(shift)) as f32)
}

fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A parameter's stored value as a PARAMETER's text. Whole numbers have no exponent, so that they are read back as
/// such.
pub fn parameter_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_go_reads_them() {
        for (text, value) in
            [("0x1p-2", 0.25), ("-0X1.8p1", -3.0), ("1.123456789", 1.123_456_8), (".5", 0.5), ("1e-3", 0.001)]
        {
            assert_eq!(typed_parameter("top_p", text), Ok(json!(value)), "{text}");
        }
        for bad in ["inf", "nan", "1e39", "0x1", "0xp1", "0x1p9999", "", "0,7"] {
            assert!(typed_parameter("top_p", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_is_read_back_as_the_same_value() {
        for (name, value) in [("num_ctx", json!(1_048_576)), ("temperature", json!(0.7)), ("use_mmap", json!(false))] {
            assert_eq!(typed_parameter(name, &parameter_text(&value)), Ok(value));
        }
    }
}
