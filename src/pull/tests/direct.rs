//! GGUF files at addresses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;

use super::super::{PullEvent, SourceKind};
use super::registry::{Registry, Seen, part, redirect};
use super::{Bench, RANGE, collect, only_forward};
use crate::store::MediaType;
use crate::types::{Digest, ModelName};

pub(super) fn tiny() -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-q4_k_m.gguf");
    std::fs::read(path).unwrap().into()
}

/// All of it, or the range that is asked for.
pub(super) fn serve(seen: &Seen, body: &Bytes) -> Response {
    match seen.range() {
        None => body.clone().into_response(),
        Some((first, _)) if first >= body.len() => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
        Some((first, last)) => {
            let last = last.min(body.len() - 1);
            part(first, last, body.len(), body.slice(first..=last))
        }
    }
}

fn tagged(mut response: Response, etag: &str) -> Response {
    response.headers_mut().insert(header::ETAG, HeaderValue::from_str(etag).unwrap());
    response
}

fn bench() -> Bench {
    Bench::with(|settings| settings.private_addresses = true)
}

impl Bench {
    async fn direct_error(&self, address: &str) -> String {
        let (_, ended) = collect(self.from(SourceKind::Direct, address)).await;
        ended.expect_err("the pull should fail").to_string()
    }

    /// The model is there, of these weights alone.
    fn has_model(&self, name: &str, weights: &[u8]) {
        let tag = self.store().tags().get(&ModelName::parse(name).unwrap()).unwrap();
        assert_eq!(tag.manifest.layers.len(), 1);
        let layer = &tag.manifest.layers[0];
        assert_eq!((&layer.media_type, layer.digest), (&MediaType::Model, Digest::of(weights)));
        assert!(std::fs::read(self.store().blobs().path(&layer.digest)).unwrap() == weights);
        let config = self.store().blobs().read(&tag.manifest.config.digest, 4096).unwrap();
        assert!(String::from_utf8(config).unwrap().contains("\"model_format\":\"gguf\""));
        assert_eq!((self.partials(), self.puller.transfers_under_way()), (0, 0));
    }
}

#[tokio::test]
async fn an_address_becomes_a_model() {
    let body = tiny();
    let (served, bench) = (body.clone(), bench());
    let store = Registry::new(move |seen| tagged(serve(seen, &served), "\"one\"")).await;
    let signed = store.url("/signed?key=1");
    let registry = Registry::new(move |_| redirect(302, &signed)).await;
    let address = registry.url("/files/Tiny%20Q4.gguf");
    let (events, ended) = collect(bench.from(SourceKind::Direct, &address)).await;
    ended.unwrap();
    only_forward(&events);
    assert_eq!(events.first(), Some(&PullEvent::Manifest));
    assert_eq!(events[events.len() - 3..], [PullEvent::Verifying, PullEvent::Writing, PullEvent::Done]);
    bench.has_model("Tiny-20Q4", &body);
    // The head, the first range, and then the ranges go where the redirect led.
    assert_eq!(registry.seen().len(), 2);
    assert!(store.seen().iter().all(|seen| seen.query == "key=1" && seen.header("authorization").is_none()));

    // By its digest it need not be fetched again.
    let before = store.seen().len();
    let known = format!("{address}?sha256={}", Digest::of(&body).hex().to_uppercase());
    let (events, ended) = collect(bench.from(SourceKind::Direct, &known)).await;
    ended.unwrap();
    only_forward(&events);
    assert_eq!(store.seen().len(), before + 1);
    assert!(registry.seen().iter().all(|seen| seen.query.is_empty()), "the digest is ours to check");
}

#[tokio::test]
async fn what_is_not_what_it_should_be_leaves_nothing() {
    let body = tiny();
    let registry = Registry::new(move |seen| match seen.path.as_str() {
        "/page.gguf" => "<html>GGUF</html>".into_response(),
        "/empty.gguf" => serve(seen, &Bytes::new()),
        "/cut.gguf" => serve(seen, &body.slice(..body.len() / 2)),
        "/whole.gguf" => serve(seen, &body),
        "/x-00001-of-00002.gguf" | "/x-00002-of-00002.gguf" => serve(seen, &body),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let bench = bench();
    for (path, why) in [
        ("/page.gguf", "supplied file was not in GGUF format"),
        ("/empty.gguf", "supplied file was not in GGUF format"),
        ("/cut.gguf", "cut.gguf"),
        ("/absent.gguf", "has no such file"),
        (&format!("/whole.gguf?sha256={}", "0".repeat(64)), "digest mismatch"),
        ("/x-00001-of-00002.gguf", "only one model can be created from"),
    ] {
        let error = bench.direct_error(&registry.url(path)).await;
        assert!(error.contains(why), "{path}: {error}");
        bench.is_empty();
    }
    let of_page = registry.seen().iter().filter(|seen| seen.path == "/page.gguf").count();
    assert_eq!(of_page, 1, "its first bytes are enough");
}

/// The bytes of the body that were served, and a pull that is dropped after some.
async fn begun(bench: &Bench, registry: &Registry) {
    let mut events = Box::pin(bench.from(SourceKind::Direct, &registry.url("/x.gguf")));
    while let Some(event) = events.next().await {
        if matches!(event.unwrap(), PullEvent::File { completed, .. } if completed >= 3 * RANGE) {
            return;
        }
    }
    panic!("the pull ended");
}

#[tokio::test]
async fn goes_on_only_with_the_same_state() {
    let body = tiny();
    let pieces = body.len().div_ceil(RANGE as usize);
    for (states, again) in [(["\"a\"", "\"a\""], false), (["\"a\"", "\"b\""], true), (["W/\"a\"", "W/\"a\""], true)] {
        let (served, round) = (body.clone(), Arc::new(AtomicUsize::new(0)));
        let state = round.clone();
        let registry =
            Registry::new(move |seen| tagged(serve(seen, &served), states[state.load(Ordering::Relaxed)])).await;
        let bench = bench();
        begun(&bench, &registry).await;
        while bench.puller.transfers_under_way() > 0 {
            tokio::task::yield_now().await;
        }
        let kept = if states[0].starts_with("W/") { 0 } else { 2 };
        // Writes under way end, and with them the lock.
        for _ in 0..6000 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            if bench.partials() == kept {
                break;
            }
        }
        assert_eq!(bench.partials(), kept, "the bytes and the journal, if they are of use");
        round.store(1, Ordering::Relaxed);
        let before = registry.seen().len();
        let (events, ended) = collect(bench.from(SourceKind::Direct, &registry.url("/x.gguf"))).await;
        ended.unwrap();
        only_forward(&events);
        let asked = registry.seen().len() - before - 1;
        assert_eq!(asked == pieces, again, "{states:?}: {asked} of {pieces} pieces were asked for");
        let layer = bench.store().tags().get(&ModelName::parse("x").unwrap()).unwrap().manifest.layers[0].digest;
        assert_eq!(layer, Digest::of(&body));
    }
}

#[tokio::test]
async fn f11_a_file_that_changes_meanwhile_is_begun_anew_once() {
    // Another body by another name; the first is longer, and no model.
    let (new, count) = (tiny(), AtomicUsize::new(0));
    let (old, body) = (Bytes::from([&new[..], &new[..]].concat()), new.clone());
    let registry = Registry::new(move |seen| match count.fetch_add(1, Ordering::Relaxed) {
        0..5 => tagged(serve(seen, &old), "\"a\""),
        _ => tagged(serve(seen, &new), "\"b\""),
    })
    .await;
    let bench = bench();
    collect(bench.from(SourceKind::Direct, &registry.url("/x.gguf"))).await.1.unwrap();
    bench.has_model("x", &body);
    let known = registry.seen().iter().any(|seen| seen.header("if-range") == Some("\"a\""));
    assert!(known, "parts are asked for of the same file only");

    let (body, count) = (tiny(), AtomicUsize::new(0));
    let registry = Registry::new(move |seen| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        tagged(serve(seen, &body), &format!("\"{}\"", number / 3))
    })
    .await;
    let bench = self::bench();
    let error = bench.direct_error(&registry.url("/x.gguf")).await;
    assert_eq!(error, "the file has changed on its server meanwhile");
    bench.is_empty();
}

#[tokio::test]
async fn a_request_does_not_reach_what_only_we_can() {
    let registry = Registry::new(|_| "GGUF".into_response()).await;
    let bench = Bench::new();
    let port = registry.address.port();
    for (address, why) in [
        (registry.url("/x.gguf"), "not https"),
        (format!("https://127.0.0.1:{port}/x.gguf"), "a private address"),
        (format!("https://[::ffff:127.0.0.1]:{port}/x.gguf"), "a private address"),
        (format!("https://2130706433:{port}/x.gguf"), "a private address"),
        (format!("https://localhost:{port}/x.gguf"), "a private address"),
        ("https://169.254.169.254/x.gguf".into(), "a link-local address"),
    ] {
        let error = bench.direct_error(&address).await;
        assert!(error.starts_with("refused to go to ") && error.ends_with(why), "{address}: {error}");
    }
    assert!(registry.seen().is_empty());
    bench.is_empty();
}
