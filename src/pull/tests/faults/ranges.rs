//! Answers that are not the part that was asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::super::registry::{Content, Registry, Seen, broken_off, part};
use super::super::{Bench, RANGE, only_forward};
use super::{LARGE, asked, first, spoiled};

#[tokio::test]
async fn f08_a_server_without_ranges() {
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
    Bench::that_brings(&registry.name(), &content).await;
    assert_eq!(registry.blobs_seen().len(), 3, "twice the layer, once the config");
}

#[tokio::test]
async fn f08_a_whole_body_in_answer_to_a_later_range() {
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
    Bench::that_brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn f09_parts_that_are_not_what_was_asked_for() {
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

/// As a server that knows `If-Range` would answer, whose content is called `etag`.
fn tagged(content: &Content, seen: &Seen, etag: &str) -> Response {
    let mut asked = seen.clone();
    if seen.header("if-range").is_some_and(|known| known != etag) {
        asked.headers.remove("range");
    }
    let mut response = content.serve(&asked);
    response.headers_mut().insert(header::ETAG, etag.parse().unwrap());
    response
}

#[tokio::test]
async fn f11_another_content_meanwhile() {
    // Early, late, and at the very end.
    for parts in [2, 8, 10] {
        let content = Content::new(&[LARGE]);
        let (honest, stale, early) = (content.clone(), spoiled(&content), first(parts));
        let registry = Registry::new(move |seen| match seen.range() {
            Some(_) if early() => tagged(&stale, seen, "\"one\""),
            Some(_) => tagged(&honest, seen, "\"two\""),
            None => honest.serve(seen),
        })
        .await;
        let bench = Bench::with(|settings| settings.streams = 2);
        let (events, ended) = bench.pull(&registry.name()).await;
        ended.unwrap();
        only_forward(&events);
        bench.holds(&registry.name(), &content);
        let seen = registry.blobs_seen();
        assert!(seen.iter().any(|seen| seen.header("if-range") == Some("\"one\"")));
        let refused = seen.iter().filter(|seen| seen.header("if-range").is_some()).count();
        assert!(asked(&seen) <= 2 * LARGE + refused.min(2) * RANGE as usize, "{parts}: {}", asked(&seen));
    }
}

#[tokio::test]
async fn f11_the_same_content_by_many_names() {
    let content = Content::new(&[LARGE]);
    let (honest, count) = (content.clone(), AtomicUsize::new(0));
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => tagged(&honest, seen, &format!("\"{}\"", count.fetch_add(1, Ordering::Relaxed))),
        false => honest.serve(seen),
    })
    .await;
    Bench::that_brings(&registry.name(), &content).await;
    assert!(asked(&registry.blobs_seen()) < 2 * LARGE, "begun anew once, while little was there");
}

#[tokio::test]
async fn f12_refusals_on_the_way() {
    for status in [403, 404, 410, 416] {
        let content = Content::new(&[LARGE]);
        let (honest, count) = (content.clone(), AtomicUsize::new(0));
        let store = Registry::new(move |seen| match count.fetch_add(1, Ordering::Relaxed) % 3 {
            2 => (StatusCode::from_u16(status).unwrap(), "expired").into_response(),
            _ => honest.serve(seen),
        })
        .await;
        let registry = Registry::leading_to(&store, &content).await;
        Bench::that_brings(&registry.name(), &content).await;
        assert!(registry.blobs_seen().len() > 2, "the address was asked for again");
    }
}
