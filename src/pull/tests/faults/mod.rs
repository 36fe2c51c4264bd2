//! What servers do to a download, and what comes of it: the faults of a list that other projects' users have met (F01 to
//! F42), each a test that begins with its number.
//!
//! | where | faults |
//! |---|---|
//! | `body` | F01 none; F02, F03 bodies that break off; F04 resets; F10 a byte more or less; F14, F15 a wrong bit; F16 packed and endless bodies; F21 no length |
//! | `ranges` | F08 all in answer to a part; F09 another part; F11 another content meanwhile; F12 refusals on the way |
//! | `slow` | F05, F06 silence; F07 a drip; F13 busy servers; and what idle connections do about it |
//! | `redirects` | F17 where a redirect may lead |
//! | `manifest` | F19 sizes; F20 hostile manifests |
//! | `unreachable` | F40 servers that are not there; F41 heads without an end |
//! | `super::auth` | F18 who gives tokens, and to whom they go |
//! | `super::flights` | F22, F23, F25 transfers that are shared |
//! | `super::deletes` | F36, F37 models that are removed meanwhile |
//!
//! Not made here: redirects from HTTPS and from the internet into private networks (F17: unit tests of `http`), a certificate
//! that is not trusted (F40), and what needs a process to be killed, a disk to fail or a store to be damaged (F26 to F35, F38,
//! F39, F42): these are in `src/tests/program`, with the real program, and in `src/store`. A black hole behind an IPv6 address (F40) needs a network of its own.

mod body;
mod manifest;
mod ranges;
mod redirects;
mod slow;
mod unreachable;

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;

use super::RANGE;
use super::registry::{Content, Seen};

const LARGE: usize = 10 * RANGE as usize + 17;

/// True for the first `count` calls.
pub(super) fn first(count: usize) -> impl Fn() -> bool + Send + Sync {
    let calls = AtomicUsize::new(0);
    move || calls.fetch_add(1, Ordering::Relaxed) < count
}

/// The same content as `content` claims to be, but for its first layer, which has other bytes.
fn spoiled(content: &Content) -> Content {
    let mut other = content.clone();
    let layer = other.blobs.get_mut(&other.order[0]).unwrap();
    *layer = layer.iter().map(|byte| !byte).collect::<Vec<u8>>().into();
    other
}

/// Bytes that were asked for in ranges.
fn asked(seen: &[Seen]) -> usize {
    seen.iter().filter_map(Seen::range).map(|(first, last)| last + 1 - first).sum()
}

/// A body that never ends.
fn endless() -> axum::body::Body {
    let chunk = Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096]));
    axum::body::Body::from_stream(futures_util::stream::iter(std::iter::repeat_with(move || {
        chunk.as_ref().cloned().map_err(|_| std::io::Error::other("x"))
    })))
}
