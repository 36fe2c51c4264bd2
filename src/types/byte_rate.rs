//! Bytes in a second.

use std::num::NonZeroU64;
use std::str::FromStr;

/// How fast something may be. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(NonZeroU64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a rate such as 500k, 20M or 1.5G bytes a second")]
pub struct InvalidRate;

impl ByteRate {
    pub fn new(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).map(Self)
    }

    pub fn bytes(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for ByteRate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        count(text).and_then(Self::new).ok_or(InvalidRate)
    }
}

/// A number, and `k`, `M` or `G` for as many times 1024, 1024² or 1024³, as curl's and wget's limits have it.
pub(super) fn count(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    Some((number * f64::from(unit)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_their_units() {
        for (text, bytes) in [("1", 1), (" 500k ", 512_000), ("1.5M", 3 << 19), ("2G", 2 << 30), ("0.5K", 512)] {
            assert_eq!(text.parse::<ByteRate>().map(ByteRate::bytes), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "k", "-1", "0.1", "1e3", "inf", "5 M", "5MB", "1.2.3", "é"] {
            assert!(bad.parse::<ByteRate>().is_err(), "{bad}");
        }
    }
}
