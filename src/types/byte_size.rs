//! How many bytes.

use std::num::NonZeroU64;
use std::str::FromStr;

use super::byte_rate;

/// How much may be taken. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(NonZeroU64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a size such as 500M, 4G or 4GiB")]
pub struct InvalidSize;

impl ByteSize {
    pub fn bytes(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    /// As a [`super::ByteRate`], and with `iB` after the unit.
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let text = text.trim();
        let unit = |text: &&str| text.ends_with(|last: char| last.is_ascii_alphabetic());
        let text = text.strip_suffix("iB").filter(unit).unwrap_or(text);
        byte_rate::count(text).and_then(NonZeroU64::new).map(Self).ok_or(InvalidSize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_their_units() {
        for (text, bytes) in [("4GiB", 4 << 30), (" 4G ", 4 << 30), ("1.5MiB", 3 << 19), ("500k", 512_000), ("7", 7)] {
            assert_eq!(text.parse::<ByteSize>().map(ByteSize::bytes), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0G", "4iB", "iB", "4GB", "4 GiB", "-1G", "G", "4GiBiB", "all"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
