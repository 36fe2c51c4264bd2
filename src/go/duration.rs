//! Go's `time.ParseDuration`, with its error texts.

use std::time::Duration;

/// A signed duration in nanoseconds, as Go keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DurationError(String);

impl GoDuration {
    /// Reads `300ms`, `-1.5h`, `2h45m`, `0`.
    ///
    /// # Errors
    /// Go's own texts: `time: invalid duration "x"`, `time: missing unit in duration "10"`, `time: unknown unit "y" in …`.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let invalid = || DurationError(format!("time: invalid duration {text:?}"));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let number = &rest[..number_end];
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
                return Err(invalid());
            }
            rest = &rest[number_end..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = &rest[..unit_end];
            if unit.is_empty() {
                return Err(DurationError(format!("time: missing unit in duration {text:?}")));
            }
            rest = &rest[unit_end..];
            let scale: i128 = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return Err(DurationError(format!("time: unknown unit {unit:?} in duration {text:?}"))),
            };
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
            let mut part = whole.checked_mul(scale).ok_or_else(invalid)?;
            if !fraction.is_empty() {
                let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| invalid())?;
                part += (fraction * scale as f64) as i128;
            }
            total += part;
            if total > i128::from(i64::MAX) {
                return Err(invalid());
            }
        }
        let total = i64::try_from(total).map_err(|_| invalid())?;
        Ok(Self(if negative { -total } else { total }))
    }

    /// `None` when it is negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_go_does() {
        assert_eq!(GoDuration::parse("1h30m"), Ok(GoDuration(5_400_000_000_000)));
        assert_eq!(GoDuration::parse("-1.5s"), Ok(GoDuration(-1_500_000_000)));
        assert_eq!(GoDuration::parse("10").unwrap_err().to_string(), "time: missing unit in duration \"10\"");
        assert_eq!(GoDuration::parse("abc").unwrap_err().to_string(), "time: invalid duration \"abc\"");
    }
}
