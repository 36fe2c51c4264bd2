//! Servers that are silent, slow or busy. Where the settings are the usual ones the clock is not: it leaps to the next
//! thing that is waited for.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::super::super::PullSettings;
use super::super::registry::{Content, Registry, Seen, rebody, stalled};
use super::super::{Bench, RANGE, only_forward};
use super::{LARGE, asked, first};

/// What a user has, but for the size of ranges.
fn usual(settings: &mut PullSettings) {
    let usual = PullSettings::new(settings.key.clone());
    *settings = PullSettings { range: RANGE..=RANGE, half: RANGE / 16, reserve: 0, streams: 4, ..usual };
}

/// A body that comes in pieces of `size` bytes, `wait` between two.
fn dripping(response: Response, whole: Bytes, size: usize, wait: Duration) -> Response {
    let pieces: Vec<Bytes> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
    let drip = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(wait).await;
        Ok::<_, std::io::Error>(piece)
    });
    rebody(response, whole.len(), Body::from_stream(drip))
}

#[tokio::test(start_paused = true)]
async fn f05_silence_once() {
    // In one of several ranges, and in a blob that is fetched in one.
    for size in [LARGE, RANGE as usize / 2] {
        let content = Content::new(&[size]);
        let (honest, once) = (content.clone(), first(1));
        let registry = Registry::new(move |seen| match seen.is_blob() && once() {
            true => stalled(honest.serve(seen), &honest.body(seen), 10_000),
            false => honest.serve(seen),
        })
        .await;
        let bench = Bench::with(usual);
        let start = Instant::now();
        let (events, ended) = bench.pull(&registry.name()).await;
        ended.unwrap();
        only_forward(&events);
        bench.holds(&registry.name(), &content);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn f06_silence_for_ever() {
    let content = Content::new(&[LARGE]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => stalled(honest.serve(seen), &honest.body(seen), 0),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::with(usual);
    let start = Instant::now();
    assert_eq!(bench.error(&registry.name()).await, "max retries exceeded: no data for 30 seconds");
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
    assert_eq!(bench.puller.transfers_under_way(), 0);
}

#[tokio::test]
async fn f06_stalls_are_left_for_another_connection() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(2));
    let registry = Registry::new(move |seen| match seen.is_blob() && once() {
        true => stalled(honest.serve(seen), &honest.body(seen), 10_000),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::with(|settings| {
        settings.stall = Duration::from_millis(300);
        // A busy machine may add some.
        settings.retries = 100;
    });
    bench.brings(&registry.name(), &content).await;

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

#[tokio::test(start_paused = true)]
async fn f07_a_drip_on_one_of_four_connections() {
    let content = Content::new(&[LARGE]);
    let (honest, once) = (content.clone(), first(1));
    let registry = Registry::new(move |seen| match seen.is_blob() && once() {
        true => dripping(honest.serve(seen), honest.body(seen), 1, Duration::from_secs(1)),
        false => honest.serve(seen),
    })
    .await;
    let bench = Bench::with(usual);
    let start = Instant::now();
    bench.brings(&registry.name(), &content).await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(asked(&registry.blobs_seen()) < 2 * LARGE);
}

#[tokio::test]
async fn f07_a_drip_counts_as_a_stall() {
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
    bench.brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn the_tail_is_shared() {
    // One connection gets 4 KiB a second, the others as much as they like, but for 20 ms.
    let content = Content::new(&[4 * RANGE as usize]);
    let (honest, once) = (content.clone(), first(1));
    let registry = Registry::new(move |seen| match seen.range() {
        Some(_) if once() => dripping(honest.serve(seen), honest.body(seen), 1 << 10, Duration::from_millis(250)),
        Some(_) => dripping(honest.serve(seen), honest.body(seen), 16 << 10, Duration::from_millis(20)),
        None => honest.serve(seen),
    })
    .await;
    let bench = Bench::with(usual);
    let start = Instant::now();
    bench.brings(&registry.name(), &content).await;
    assert!(start.elapsed() < Duration::from_secs(12), "alone it would be 16 s: {:?}", start.elapsed());
    let starts = |seen: &Seen| seen.range().filter(|(first, _)| first % RANGE as usize != 0);
    let halves: Vec<_> = registry.blobs_seen().iter().filter_map(starts).collect();
    assert!(!halves.is_empty() && halves.iter().all(|(first, _)| *first < RANGE as usize), "{halves:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_ends_the_other() {
    // The original comes back to life, and has its range before the one that was to replace it; or it does not.
    for wakes in [true, false] {
        let content = Content::new(&[RANGE as usize * 2]);
        let (honest, once, twice) = (content.clone(), first(1), first(3));
        let registry = Registry::new(move |seen| match seen.range() {
            Some(_) if once() => {
                let wait = Duration::from_secs(if wakes { 4 } else { 25 });
                dripping(honest.serve(seen), honest.body(seen), RANGE as usize, wait)
            }
            Some((0, _)) if twice() => {
                let wait = Duration::from_secs(if wakes { 25 } else { 1 });
                dripping(honest.serve(seen), honest.body(seen), RANGE as usize, wait)
            }
            _ => honest.serve(seen),
        })
        .await;
        let bench = Bench::with(|settings| {
            usual(settings);
            settings.half = RANGE;
        });
        let start = Instant::now();
        bench.brings(&registry.name(), &content).await;
        assert!(start.elapsed() < Duration::from_secs(10), "{wakes}: {:?}", start.elapsed());
        assert!(asked(&registry.blobs_seen()) <= 4 * RANGE as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn f13_busy_servers_are_given_the_time_they_ask_for() {
    for (status, asks, least) in [(429, Some("3"), 9), (503, Some("3"), 9), (500, None, 4)] {
        let content = Content::new(&[LARGE]);
        let (honest, busy) = (content.clone(), first(3));
        let registry = Registry::new(move |seen| {
            if !seen.is_blob() || !busy() {
                return honest.serve(seen);
            }
            let mut response = (StatusCode::from_u16(status).unwrap(), "busy").into_response();
            if let Some(asks) = asks {
                response.headers_mut().insert(header::RETRY_AFTER, asks.parse().unwrap());
            }
            response
        })
        .await;
        let bench = Bench::with(usual);
        let start = Instant::now();
        bench.brings(&registry.name(), &content).await;
        assert!(start.elapsed() >= Duration::from_secs(least), "{status}: {:?}", start.elapsed());
    }
}
