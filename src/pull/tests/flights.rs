//! Who shares a transfer, who goes on with one, and what stays when nobody wants it any more.

use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Semaphore;

use super::super::{PullError, PullEvent};
use super::registry::{Content, Registry, Seen, rebody};
use super::{Bench, RANGE, collect};

const LARGE: usize = 20 * RANGE as usize + 3;

/// A registry whose blobs' ranges come only as permits are given.
pub(super) async fn gated(content: &Content, gate: &Arc<Semaphore>) -> Registry {
    let (honest, gate) = (content.clone(), gate.clone());
    Registry::new(move |seen| {
        if seen.range().is_none() {
            return honest.serve(seen);
        }
        let (whole, gate) = (honest.body(seen), gate.clone());
        let length = whole.len();
        let body = futures_util::stream::once(async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, std::io::Error>(whole)
        });
        rebody(honest.serve(seen), length, axum::body::Body::from_stream(body))
    })
    .await
}

/// A model whose first ranges come at once, and the others as more permits are given.
async fn with_permits(count: usize) -> (Content, Arc<Semaphore>, Registry, Bench) {
    let (content, gate) = (Content::new(&[LARGE]), Arc::new(Semaphore::new(count)));
    let registry = gated(&content, &gate).await;
    (content, gate, registry, Bench::new())
}

pub(super) async fn until(events: &mut (impl Stream<Item = Result<PullEvent, PullError>> + Unpin), bytes: u64) {
    while let Some(event) = events.next().await {
        if matches!(event.unwrap(), PullEvent::Layer { completed, .. } if completed >= bytes) {
            return;
        }
    }
    panic!("the pull ended");
}

fn ranges(seen: &[Seen]) -> Vec<usize> {
    let mut starts: Vec<usize> = seen.iter().filter_map(|seen| Some(seen.range()?.0)).collect();
    starts.sort_unstable();
    starts
}

#[tokio::test]
async fn f22_eight_clients_one_transfer() {
    let (content, gate, registry, bench) = with_permits(0).await;
    let pulls: Vec<_> = (0..8).map(|_| tokio::spawn(collect(bench.stream(&registry.name())))).collect();
    // They all wait, for one transfer.
    while registry.seen().iter().filter(|seen| !seen.is_blob()).count() < 8 || registry.blobs_seen().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.puller.transfers_under_way(), 1);
    gate.add_permits(1000);
    for pull in join_all(pulls).await {
        let (events, ended) = pull.unwrap();
        ended.unwrap();
        assert_eq!(events.last(), Some(&PullEvent::Done));
    }
    bench.holds(&registry.name(), &content);
    let starts = ranges(&registry.blobs_seen());
    let pieces: Vec<usize> = (0..LARGE).step_by(RANGE as usize).collect();
    assert_eq!(starts, pieces, "each range once");
}

#[tokio::test]
async fn f24_models_that_share_a_layer_bring_it_once() {
    let (content, gate, registry, bench) = with_permits(0).await;
    let names: Vec<_> = (0..8).map(|model| registry.name().replace("tiny", &format!("tiny-{model}"))).collect();
    let pulls: Vec<_> = names.iter().map(|name| tokio::spawn(collect(bench.stream(name)))).collect();
    while registry.seen().iter().filter(|seen| !seen.is_blob()).count() < 8 || registry.blobs_seen().is_empty() {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1000);
    for pull in join_all(pulls).await {
        pull.unwrap().1.unwrap();
    }
    assert_eq!(bench.store().tags().list().len(), 8);
    names.iter().for_each(|name| bench.holds(name, &content));
    assert_eq!(ranges(&registry.blobs_seen()).len(), LARGE.div_ceil(RANGE as usize), "each range once");
}

#[tokio::test]
async fn f25_one_goes_and_the_other_stays() {
    let (content, gate, registry, bench) = with_permits(3).await;
    let mut one = Box::pin(bench.stream(&registry.name()));
    let mut other = Box::pin(bench.stream(&registry.name()));
    until(&mut one, 3 * RANGE).await;
    until(&mut other, 3 * RANGE).await;
    drop(one);
    gate.add_permits(1000);
    collect(other).await.1.unwrap();
    bench.holds(&registry.name(), &content);
    let starts = ranges(&registry.blobs_seen());
    assert_eq!(starts.len(), LARGE.div_ceil(RANGE as usize), "nothing twice");
}

#[tokio::test]
async fn what_was_left_is_gone_on_with() {
    let (content, _gate, registry, bench) = with_permits(5).await;
    let mut stream = Box::pin(bench.stream(&registry.name()));
    until(&mut stream, 5 * RANGE).await;
    let journal = bench.store().layout().partial(&content.order[0]).with_extension("journal");
    while !std::fs::read_to_string(&journal).unwrap().contains("\nsynced ") {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    assert_eq!(bench.puller.transfers_under_way(), 0);
    assert!(bench.store().tags().list().is_empty());
    assert_eq!(bench.partials(), 2, "the bytes and the journal");

    let bench = bench.restarted();
    let registry = Registry::honest(&content).await;
    let (events, ended) = bench.pull(&registry.name()).await;
    ended.unwrap();
    bench.holds(&registry.name(), &content);
    assert_eq!(ranges(&registry.blobs_seen()).len(), LARGE.div_ceil(RANGE as usize) - 5);
    let first = events.iter().find_map(|event| match event {
        PullEvent::Layer { completed, .. } if *completed > 0 => Some(*completed),
        _ => None,
    });
    assert!(first >= Some(5 * RANGE), "progress begins where it was");
}

#[tokio::test]
async fn a_partial_that_is_wrong_is_begun_anew() {
    let (content, gate, registry, bench) = with_permits(5).await;
    let mut stream = Box::pin(bench.stream(&registry.name()));
    until(&mut stream, 5 * RANGE).await;
    drop(stream);
    let partial = bench.store().layout().partial(&content.order[0]);
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&partial, bytes).unwrap();
    gate.add_permits(1000);
    bench.brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn f23_another_process_is_waited_for() {
    let content = Content::new(&[LARGE]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    // The lock belongs to the open file, so a second one of ours is as good as another process.
    let theirs = bench.store().blobs().partial(&content.order[0]).unwrap();
    flock(theirs.file(), FlockOperation::LockExclusive).unwrap();
    let pull = tokio::spawn(collect(bench.stream(&registry.name())));
    while bench.puller.transfers_under_way() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(registry.blobs_seen().is_empty());
    // The other one finishes: nothing is left to fetch but the config.
    std::fs::write(theirs.path(), &content.blobs[&content.order[0]]).unwrap();
    theirs.commit(content.order[0]).unwrap();
    pull.await.unwrap().1.unwrap();
    assert_eq!(registry.blobs_seen().len(), 1);
    bench.holds(&registry.name(), &content);
}

#[tokio::test]
async fn a_damaged_blob_comes_anew_and_nothing_else_does() {
    let content = Content::new(&[LARGE, 7000]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::new();
    bench.pull(&registry.name()).await.1.unwrap();
    let (blob, asked) = (bench.store().blobs().path(&content.order[0]), registry.blobs_seen().len());
    let damage = |write: &dyn Fn(&std::fs::File)| {
        std::fs::remove_file(&blob).ok();
        let file = std::fs::File::create(&blob).unwrap();
        write(&file);
    };
    let mut body = content.blobs[&content.order[0]].to_vec();
    body[LARGE / 2] ^= 1;
    let flipped = |mut file: &std::fs::File| std::io::Write::write_all(&mut file, &body).unwrap();
    let (short, empty) = (|file: &std::fs::File| file.set_len(9).unwrap(), |_: &std::fs::File| {});
    let damages: [&dyn Fn(&std::fs::File); 3] = [&flipped, &short, &empty];
    for (count, write) in damages.into_iter().enumerate() {
        damage(write);
        let (events, ended) = bench.pull(&registry.name()).await;
        ended.unwrap();
        super::only_forward(&events);
        bench.holds(&registry.name(), &content);
        let all = registry.blobs_seen();
        assert!(all[asked..].iter().all(|seen| seen.path.ends_with(&content.order[0].to_string())));
        let aside = std::fs::read_dir(bench.store().layout().damaged()).unwrap().count();
        assert_eq!(aside, count + 1, "what was there is kept aside");
    }
}
