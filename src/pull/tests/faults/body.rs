//! Bodies that break off, that are too long, or that are not what they should be.

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use futures_util::stream;
use tokio::io::AsyncWriteExt as _;

use super::super::super::PullEvent;
use super::super::raw::{self, Raw};
use super::super::registry::{Content, Registry, broken_off, part};
use super::super::{Bench, RANGE, only_forward};
use super::{LARGE, asked, endless, first, spoiled};
use crate::types::{Digest, ModelName};

#[tokio::test]
async fn f01_a_plain_registry_will_do() {
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
async fn f01_so_will_one_that_leads_elsewhere() {
    let content = Content::new(&[LARGE]);
    let store = Registry::honest(&content).await;
    let registry = Registry::leading_to(&store, &content).await;
    Bench::that_brings(&registry.name(), &content).await;
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
async fn f02_a_body_that_is_cut_in_half_once() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(1));
    let registry = Registry::new(move |seen| match seen.range() {
        Some(_) if once() => broken_off(honest.serve(seen), &honest.body(seen), RANGE as usize / 2),
        _ => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    only_forward(&events);
    bench.holds(&registry.name(), &content);
    assert_eq!(asked(&registry.blobs_seen()) - LARGE, RANGE as usize / 2, "only what did not come is asked for again");
}

#[tokio::test]
async fn f03_connections_that_all_break_off() {
    let content = Content::new(&[LARGE]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => broken_off(honest.serve(seen), &honest.body(seen), 20_000),
        false => honest.serve(seen),
    })
    .await;
    Bench::that_brings(&registry.name(), &content).await;
    // Nothing was fetched twice: each request began where the one before it had ended.
    let mut starts: Vec<usize> = registry.blobs_seen().iter().filter_map(|seen| Some(seen.range()?.0)).collect();
    let requests = starts.len();
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), requests);
}

#[tokio::test]
async fn f04_a_hundred_resets() {
    let content = Content::new(&[LARGE]);
    let (honest, turn) = (content.clone(), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let registry = Raw::new(move |mut stream| {
        let (honest, turn) = (honest.clone(), turn.clone());
        async move {
            while let Some(seen) = raw::request(&mut stream).await {
                let (status, body) = match seen.range() {
                    Some((first, last)) => {
                        let range = format!("206 Partial\r\ncontent-range: bytes {first}-{last}/{LARGE}");
                        (range, honest.body(&seen))
                    }
                    None if seen.is_blob() => ("200 OK".to_owned(), honest.body(&seen)),
                    None => ("200 OK".to_owned(), honest.manifest.clone()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                let number = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let cut = seen.range().filter(|_| number <= 100).map(|_| 1 + number * 7919 % (body.len() / 8));
                let sent = &body[..cut.unwrap_or(body.len())];
                stream.write_all(&[head.as_bytes(), sent].concat()).await.unwrap();
                if cut.is_some() {
                    // What is still in the socket goes with it.
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    stream.set_zero_linger().unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let bench = Bench::with(|settings| settings.retries = 6);
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    only_forward(&events);
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn f10_a_byte_more_or_less_than_was_told() {
    for (change, error) in [(-1, None), (1, Some("is more bytes long"))] {
        let content = Content::new(&[LARGE]);
        let (honest, lying) = (content.clone(), first(2));
        let registry = Registry::new(move |seen| match seen.range() {
            Some((first, last)) if lying() => {
                let mut body = honest.body(seen).to_vec();
                body.resize(body.len().checked_add_signed(change).unwrap(), 0);
                let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(body))]));
                part(first, last, LARGE, body)
            }
            _ => honest.serve(seen),
        })
        .await;
        let bench = Bench::new();
        match error {
            None => {
                bench.brings(&registry.name(), &content).await;
            }
            Some(why) => {
                let error = bench.error(&registry.name()).await;
                assert!(error.contains(why), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn f14_wrong_bytes_are_an_error_and_nothing_is_left() {
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
async fn f15_wrong_bytes_once_cost_nobody_a_hand() {
    let content = Content::new(&[1000, LARGE]);
    let (honest, once) = (content.clone(), first(1));
    let registry = Registry::new(move |seen| match seen.range() {
        Some((from, last)) if once() => {
            let mut body = honest.body(seen).to_vec();
            body[5] ^= 1;
            part(from, last, LARGE, body)
        }
        _ => honest.serve(seen),
    })
    .await;
    let bench = Bench::new();
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    only_forward(&events);
    bench.holds(&registry.name(), &content);
    assert_eq!(asked(&registry.blobs_seen()), 2 * LARGE);
}

#[tokio::test]
async fn what_came_first_is_what_stays() {
    // Parts of one content, then all of another in answer to a part: what was hashed already is not written over, so
    // neither the one nor the other gets the blob's name.
    let content = Content::new(&[LARGE]);
    let (stale, turn) = (spoiled(&content), first(4));
    let honest = content.clone();
    let registry = Registry::new(move |seen| {
        let mut whole = seen.clone();
        whole.headers.remove("range");
        match seen.is_blob() {
            true if seen.range().is_some() && turn() => honest.serve(seen),
            true => stale.serve(&whole),
            false => honest.serve(seen),
        }
    })
    .await;
    let bench = Bench::new();
    let error = bench.error(&registry.name()).await;
    assert!(error.starts_with("digest mismatch"), "{error}");
    assert_eq!((bench.store().blobs().size(&content.order[0]), bench.partials()), (None, 0));
}

#[tokio::test]
async fn f16_packed_and_endless_bodies() {
    let content = Content::new(&[1000]);
    let packed = |body: Bytes| ([(header::CONTENT_ENCODING, "gzip")], body).into_response();
    let gzip: &'static [u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    for (what, error) in [
        ("packed manifest", "manifest is not readable"),
        ("packed blob", "a blob with a content encoding"),
        ("endless manifest", "longer than"),
        ("endless blob", "is more bytes long"),
        ("endless refusal", "500: xxx"),
        ("endless token", "longer than"),
    ] {
        let honest = content.clone();
        let registry = Registry::new(move |seen| match (what, seen.is_blob(), seen.path.as_str()) {
            ("packed manifest", false, _) => packed(Bytes::from_static(gzip)),
            ("packed blob", true, _) => packed(honest.body(seen)),
            ("endless manifest", false, _) | ("endless blob", true, _) | (_, _, "/token") => endless().into_response(),
            ("endless refusal", ..) => (StatusCode::INTERNAL_SERVER_ERROR, endless()).into_response(),
            ("endless token", ..) => {
                let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, realm)]).into_response()
            }
            _ => honest.serve(seen),
        })
        .await;
        let seen = Bench::with(|settings| settings.retries = 1).error(&registry.name()).await;
        assert!(seen.contains(error) && seen.len() < 5000, "{what}: {seen}");
    }
}

#[tokio::test]
async fn f21_a_body_that_ends_with_its_connection() {
    let content = Content::new(&[LARGE]);
    let honest = content.clone();
    let registry = Raw::new(move |mut stream| {
        let honest = honest.clone();
        async move {
            let Some(seen) = raw::request(&mut stream).await else { return };
            let mut whole = seen.clone();
            whole.headers.remove("range");
            let body = if seen.is_blob() { honest.body(&whole) } else { honest.manifest.clone() };
            // The client may go before it has all.
            stream.write_all(&[b"HTTP/1.0 200 OK\r\n\r\n", &body[..]].concat()).await.ok();
        }
    })
    .await;
    Bench::that_brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn f34_a_blob_of_the_wrong_length_is_healed() {
    let content = Content::new(&[LARGE]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    let path = bench.store().blobs().path(&content.order[0]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"short").unwrap();
    bench.brings(&registry.name(), &content).await;
    assert!(bench.store().tags().get(&ModelName::parse(&registry.name()).unwrap()).is_ok());
}
