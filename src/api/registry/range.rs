//! Which part of a blob a request is for.

use axum::http::{HeaderMap, header};

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// From the first byte, up to and without the last.
    Bytes(u64, u64),
    /// Nothing of the blob is in the range.
    Outside,
}

impl Part {
    /// One range of bytes; several, and what is none, are passed over, as the RFC allows. With `If-Range`, only if that names
    /// what is here.
    pub(super) fn of(headers: &HeaderMap, size: u64, etag: &str) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if text(header::IF_RANGE).is_some_and(|condition| condition != etag) {
            return Self::Whole;
        }
        text(header::RANGE).and_then(|range| Self::read(range, size)).unwrap_or(Self::Whole)
    }

    fn read(range: &str, size: u64) -> Option<Self> {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        let (start, end) = match (first, last) {
            ("", last) => match number(last)? {
                0 => return Some(Self::Outside),
                count => (size.saturating_sub(count), size),
            },
            (first, "") => (number(first)?, size),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                (first, last.saturating_add(1).min(size))
            }
        };
        Some(if start >= size { Self::Outside } else { Self::Bytes(start, end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, part) in [
            ("bytes=0-0", Part::Bytes(0, 1)),
            ("bytes=5-", Part::Bytes(5, 10)),
            ("bytes=5-100", Part::Bytes(5, 10)),
            ("bytes=0-18446744073709551615", Part::Bytes(0, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=10-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=4-3", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            assert_eq!(Part::of(&headers, 10, "\"x\""), part, "{range}");
            headers.insert(header::IF_RANGE, "\"x\"".parse().unwrap());
            assert_eq!(Part::of(&headers, 10, "\"x\""), part, "{range}");
            headers.insert(header::IF_RANGE, "\"y\"".parse().unwrap());
            assert_eq!(Part::of(&headers, 10, "\"x\""), Part::Whole, "{range}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-".parse().unwrap());
        assert_eq!(Part::of(&headers, 0, ""), Part::Outside);
    }
}
