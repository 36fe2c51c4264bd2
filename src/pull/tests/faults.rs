//! What servers do to a download, and what comes of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use futures_util::{StreamExt as _, stream};

use super::super::PullEvent;
use super::registry::{Content, Registry, broken_off, part, rebody, redirect, stalled};
use super::{Bench, RANGE};
use crate::types::{Digest, ModelName};

const LARGE: usize = 10 * RANGE as usize + 17;

/// True for the first `count` calls.
pub(super) fn first(count: usize) -> impl Fn() -> bool + Send + Sync {
    let calls = AtomicUsize::new(0);
    move || calls.fetch_add(1, Ordering::Relaxed) < count
}

#[tokio::test]
async fn a_plain_registry_will_do() {
    let content = Content::new(&[LARGE, 1000, 0]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    bench.holds(&registry.name(), &content);

    assert_eq!(events[0], PullEvent::Manifest);
    assert_eq!(events[events.len() - 3..], [PullEvent::Verifying, PullEvent::Writing, PullEvent::Done]);
    let mut blobs = Vec::new();
    let mut last = (Digest::of(b"none"), 0, 0);
    for event in &events[1..events.len() - 3] {
        let PullEvent::Layer { digest, total, completed } = *event else { panic!("{event:?}") };
        if digest == last.0 {
            assert!(completed >= last.2, "progress goes back");
        } else {
            assert_eq!(last.1, last.2, "a blob ends below its total");
            blobs.push(digest);
        }
        last = (digest, total, completed);
    }
    assert_eq!((blobs, last.1), (content.order.clone(), last.2));
    let agent = registry.seen()[0].header("user-agent").unwrap().to_owned();
    assert!(agent.starts_with("ollama/0."), "{agent}");
    assert!(registry.blobs_seen().iter().filter(|seen| seen.range().is_some()).count() > 8, "in ranges");

    // Once more: all is there, one line each, and nothing is fetched.
    let before = registry.blobs_seen().len();
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    assert_eq!((events.len(), registry.blobs_seen().len()), (4 + content.order.len(), before));
}

#[tokio::test]
async fn a_new_version_takes_the_place_of_the_old() {
    let (old, new) = (Content::new(&[100, 300]), Content::new(&[100, 200]));
    let (one, two, turn) = (old.clone(), new.clone(), first(4));
    let registry = Registry::new(move |seen| if turn() { one.serve(seen) } else { two.serve(seen) }).await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    assert_eq!(events[events.len() - 2..], [PullEvent::Pruning, PullEvent::Done]);
    bench.holds(&registry.name(), &new);
    assert_eq!(bench.store().blobs().size(&old.order[1]), None);
}

#[tokio::test]
async fn connections_that_break_off_are_gone_on_with() {
    let content = Content::new(&[LARGE]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => broken_off(honest.serve(seen), &honest.body(seen), 20_000),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
    // Nothing was fetched twice: each request began where the one before it had ended.
    let mut starts: Vec<usize> = registry.blobs_seen().iter().filter_map(|seen| Some(seen.range()?.0)).collect();
    let requests = starts.len();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), requests);
}

#[tokio::test]
async fn a_server_without_ranges() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(1));
    // Whatever is asked, everything comes; the first time it breaks off.
    let registry = Registry::new(move |seen| {
        if !seen.is_blob() {
            return honest.serve(seen);
        }
        let mut asked = seen.clone();
        asked.headers.remove("range");
        let whole = honest.body(&asked);
        if once() { broken_off(honest.serve(&asked), &whole, 100_000) } else { honest.serve(&asked) }
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
    assert_eq!(registry.blobs_seen().len(), 3, "twice the layer, once the config");
}

#[tokio::test]
async fn a_whole_body_in_answer_to_a_later_range() {
    let content = Content::new(&[LARGE]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| {
        let mut asked = seen.clone();
        if seen.range().is_some_and(|(first, _)| first >= 4 * RANGE as usize) {
            asked.headers.remove("range");
        }
        honest.serve(&asked)
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn stalls_are_left_for_another_connection() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(2));
    let registry = Registry::new(move |seen| match seen.is_blob() && once() {
        true => stalled(honest.serve(seen), &honest.body(seen), 10_000),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);

    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => stalled(honest.serve(seen), &honest.body(seen), 0),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::with(|settings| {
        settings.stall = Duration::from_millis(30);
        settings.streams = 1;
    });
    assert_eq!(bench.error(&registry.name()).await, "max retries exceeded: no data for 0.03 seconds");
    assert_eq!(registry.blobs_seen().len(), 4, "the first try and three more");
}

#[tokio::test]
async fn a_drip_counts_as_a_stall() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(1));
    let registry = Registry::new(move |seen| {
        if !(seen.is_blob() && once()) {
            return honest.serve(seen);
        }
        let whole = honest.body(seen);
        let drip = stream::iter(whole.clone().into_iter()).then(async |byte| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![byte]))
        });
        rebody(honest.serve(seen), whole.len(), Body::from_stream(drip))
    })
    .await;
    let bench = Bench::with(|settings| settings.slow_window = Duration::from_millis(200));
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn wrong_bytes_are_an_error_and_nothing_is_left() {
    let content = Content::new(&[1000, LARGE]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| {
        let mut body = honest.body(seen).to_vec();
        match seen.range() {
            Some((0, last)) => {
                body[5] ^= 1;
                part(0, last, LARGE, body)
            }
            _ => honest.serve(seen),
        }
    })
    .await;
    let bench = Bench::new();
    let error = bench.error(&registry.name()).await;
    let want = content.order[1];
    let text = format!("digest mismatch, file must be downloaded again: want {want}, got sha256:");
    assert!(error.starts_with(&text), "{error}");
    assert!(bench.store().blobs().size(&want).is_none() && bench.partials() == 0);
    assert!(bench.store().blobs().size(&content.order[0]).is_some(), "a good blob stays");
    assert!(bench.store().tags().list().is_empty());
}

#[tokio::test]
async fn parts_that_are_not_what_was_asked_for() {
    type Lie = fn(usize, usize, Vec<u8>) -> axum::response::Response;
    let lies: [(&str, Lie); 5] = [
        ("another place", |first, last, body| part(first + 1, last + 1, LARGE, body)),
        ("another total", |first, last, body| part(first, last, LARGE + 1, body)),
        ("no place", |_, _, body| (StatusCode::PARTIAL_CONTENT, body).into_response()),
        ("another length", |first, last, body| part(first, last - 1, LARGE, body)),
        ("packed", |first, last, body| {
            let mut response = part(first, last, LARGE, body);
            response.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
            response
        }),
    ];
    for (what, lie) in lies {
        let content = Content::new(&[LARGE]);
        for often in [2, usize::MAX] {
            let (honest, lying) = (content.clone(), first(often));
            let registry = Registry::new(move |seen| match seen.range() {
                Some((first, last)) if lying() => lie(first, last, honest.body(seen).to_vec()),
                _ => honest.serve(seen),
            })
            .await;
            let bench = Bench::new();
            if often == 2 {
                bench.pull(&registry.name()).await.1.expect(what);
                bench.holds(&registry.name(), &content);
            } else {
                let error = bench.error(&registry.name()).await;
                assert!(error.starts_with("max retries exceeded: the server's answer is broken: "), "{what}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn lengths_must_agree_with_the_manifest() {
    let content = Content::new(&[1000]);
    let digest = content.order[0];
    // Shorter and longer, told beforehand; longer, not told.
    for (length, told) in [(900, true), (1100, true), (1001, false)] {
        let honest = content.clone();
        let registry = Registry::new(move |seen| {
            if !seen.path.ends_with(&digest.to_string()) {
                return honest.serve(seen);
            }
            let body = Bytes::from(vec![7; length]);
            match told {
                true => body.into_response(),
                false => Body::from_stream(stream::iter([Ok::<_, std::io::Error>(body)])).into_response(),
            }
        })
        .await;
        let bench = Bench::new();
        let error = bench.error(&registry.name()).await;
        let actual = if told { length.to_string() } else { "more".into() };
        assert_eq!(error, format!("blob {digest} is {actual} bytes long, and the manifest says 1000"));
        assert_eq!(registry.blobs_seen().len(), 1);
    }

    // No length at all is well, as long as the bytes are.
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => Body::from_stream(stream::iter([Ok::<_, std::io::Error>(honest.body(seen))])).into_response(),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn redirects() {
    let content = Content::new(&[LARGE]);
    let store = Registry::honest(&content).await;
    for status in [301, 302, 303, 307, 308] {
        let (honest, there) = (content.clone(), store.url(""));
        let registry = Registry::new(move |seen| match (seen.is_blob(), seen.query.as_str()) {
            (true, "") => redirect(status, &format!("{}?again", seen.path)),
            (true, _) => redirect(status, &format!("{there}{}?signature=x", seen.path)),
            _ => honest.serve(seen),
        })
        .await;
        let bench = Bench::new();
        bench.pull(&registry.name()).await.1.unwrap();
        bench.holds(&registry.name(), &content);
        assert_eq!(registry.blobs_seen().len(), 4, "the direct address is remembered");
    }

    let own = "http://127.0.0.1:1/";
    for (location, error) in [
        ("", "refused to go to ADDRESS: too many redirects"),
        ("http://169.254.169.254/latest", "refused to go to 169.254.169.254: a link-local address"),
        ("http://me:secret@127.0.0.1/", "refused to go to 127.0.0.1: a redirect with a password in it"),
        ("ftp://127.0.0.1/", "refused to go to 127.0.0.1: a redirect that is not to http"),
        (own, "max retries exceeded: Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused"),
    ] {
        let honest = content.clone();
        let registry = Registry::new(move |seen| match seen.is_blob() {
            true => redirect(307, location),
            false => honest.serve(seen),
        })
        .await;
        let seen = Bench::new().error(&registry.name()).await;
        assert_eq!(seen, error.replace("ADDRESS", &registry.address.to_string()));
    }
}

#[tokio::test]
async fn an_address_that_expires_is_asked_for_again() {
    let content = Content::new(&[LARGE]);
    let (honest, count) = (content.clone(), AtomicUsize::new(0));
    let store = Registry::new(move |seen| match count.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => (StatusCode::FORBIDDEN, "expired").into_response(),
        _ => honest.serve(seen),
    })
    .await;
    let (honest, there) = (content.clone(), store.url(""));
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => redirect(307, &format!("{there}{}", seen.path)),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn a_blob_of_the_wrong_length_is_healed() {
    let content = Content::new(&[LARGE]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    let path = bench.store().blobs().path(&content.order[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"short").unwrap();
    bench.pull(&registry.name()).await.1.unwrap();
    bench.holds(&registry.name(), &content);
    assert!(bench.store().tags().get(&ModelName::parse(&registry.name()).unwrap()).is_ok());
}
