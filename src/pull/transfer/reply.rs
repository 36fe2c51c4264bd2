//! What a server answered when it was asked for bytes, held against what was asked.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap};
use reqwest::{Method, Response};
use tokio::time::Instant;

use super::super::http::transport;
use super::super::{PullError, PullSettings};
use crate::types::Digest;

/// What the body of a good answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    All,
    /// Begins where it was asked to, and may end earlier.
    Part(Range<u64>),
}

/// Judges the head of a 200 or 206. Other statuses are the caller's.
pub(super) fn content(
    response: &Response,
    asked: Option<&Range<u64>>,
    digest: &Digest,
    size: u64,
) -> Result<Content, PullError> {
    let broken = |why: String| Err(PullError::Broken(why));
    let encoding = response.headers().get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return broken("a blob with a content encoding".into());
    }
    let length = response.content_length();
    match (response.status().as_u16(), asked) {
        (200, _) => match length {
            Some(length) if length != size => {
                Err(PullError::Size { digest: *digest, expected: size, actual: length.to_string() })
            }
            _ => Ok(Content::All),
        },
        (206, Some(asked)) => {
            let Some((range, total)) = content_range(response.headers()) else {
                return broken("a part without its range".into());
            };
            if range.start != asked.start || range.end > asked.end || total.is_some_and(|total| total != size) {
                return broken(format!("bytes {range:?} of {total:?}, not {asked:?} of {size}"));
            }
            if length.is_some_and(|length| length != range.end - range.start) {
                return broken("a part whose length is not that of its range".into());
            }
            Ok(Content::Part(range))
        }
        (status, _) => broken(format!("status {status}")),
    }
}

/// `bytes <first>-<last>/<total>`, the range half-open.
pub(in super::super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let end = last.checked_add(1).filter(|end| *end > first)?;
    Some((first..end, total))
}

/// The name of this very content on its server, if it has one.
pub(in super::super) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(ETAG)?.to_str().ok()?.trim();
    let quoted = text.len() > 2 && text.starts_with('"') && text.ends_with('"');
    quoted.then(|| text.to_owned())
}

/// Reads a body and gives up on one that stalls or drips.
pub(super) struct Body {
    response: Response,
    stall: Duration,
    window: Duration,
    floor: u64,
    /// How long bytes were waited for in this window, and what came. That we take them slowly is not the server's fault.
    waited: Duration,
    got: u64,
}

impl Body {
    pub(super) fn new(response: Response, settings: &PullSettings) -> Self {
        Self {
            response,
            stall: settings.stall,
            window: settings.slow_window,
            floor: settings.slow_floor,
            waited: Duration::ZERO,
            got: 0,
        }
    }

    pub(super) fn ends_by_itself(&self) -> bool {
        self.response.content_length().is_some()
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, PullError> {
        let since = Instant::now();
        let chunk = tokio::time::timeout(self.stall, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| PullError::Stalled(self.stall))?;
        let chunk = chunk.map_err(|error| transport(&Method::GET, self.response.url(), error))?;
        self.got += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.waited += since.elapsed();
        if self.waited >= self.window {
            // The chunk of a body that was too slow up to now is not lost: the next attempt asks for it again.
            if self.got < self.floor {
                return Err(PullError::Stalled(self.waited));
            }
            (self.waited, self.got) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(read("bytes 0-9/10"), Some((0..10, Some(10))));
        assert_eq!(read("bytes 5-5/*"), Some((5..6, None)));
        for bad in
            ["", "bytes", "bytes */10", "bytes 9-0/10", "bytes 0-18446744073709551615/1", "items 0-1/2", "bytes -1/2"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
