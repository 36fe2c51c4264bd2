//! Models that are removed while others, or they themselves, are being pulled.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::flights::{gated, until};
use super::registry::Content;
use super::{Bench, RANGE, collect, only_forward};
use crate::store::Store;
use crate::types::ModelName;

const LARGE: usize = 8 * RANGE as usize + 3;
const SHARED: usize = 7000;
const OWN: usize = 5000;

/// Puts a model into the store as if it had been pulled.
fn put(store: &Store, name: &str, content: &Content) {
    for body in content.blobs.values() {
        store.blobs().put(body).unwrap();
    }
    store.tag(&ModelName::parse(name).unwrap(), &content.manifest).unwrap();
}

#[tokio::test]
async fn f36_the_model_itself_is_removed_meanwhile() {
    let (former, content) = (Content::new(&[SHARED, OWN]), Content::new(&[SHARED, LARGE]));
    let gate = Arc::new(Semaphore::new(3));
    let registry = gated(&content, &gate).await;
    let bench = Bench::new();
    put(bench.store(), &registry.name(), &former);
    let mut pull = Box::pin(bench.stream(&registry.name()));
    until(&mut pull, 2 * RANGE).await;
    bench.store().remove(&ModelName::parse(&registry.name()).unwrap()).unwrap();
    assert!(bench.store().tags().list().is_empty());
    assert!(bench.store().blobs().size(&former.order[1]).is_none(), "what only the former had goes");
    gate.add_permits(1000);
    collect(pull).await.1.unwrap();
    bench.holds(&registry.name(), &content);
    assert_eq!(bench.store().blobs().list().len(), content.blobs.len(), "and nothing else is there");
    let asked = registry.blobs_seen();
    assert!(asked.iter().all(|seen| seen.path.ends_with(&content.order[1].to_string())), "what was there stayed");
}

#[tokio::test]
async fn f37_another_model_with_the_same_blobs_is_removed_meanwhile() {
    let (other, content) = (Content::new(&[SHARED, OWN]), Content::new(&[SHARED, LARGE]));
    // By this process, by another one, and by a program that knows nothing of pulls.
    for (knows, here) in [(true, true), (true, false), (false, false)] {
        let gate = Arc::new(Semaphore::new(3));
        let registry = gated(&content, &gate).await;
        let bench = Bench::new();
        put(bench.store(), "other", &other);
        let mut pull = Box::pin(bench.stream(&registry.name()));
        until(&mut pull, 2 * RANGE).await;
        let process = Store::open(bench.store().layout().root()).unwrap();
        let remover = if here { bench.store() } else { &process };
        remover.remove(&ModelName::parse("other").unwrap()).unwrap();
        if !knows {
            std::fs::remove_file(bench.store().blobs().path(&content.order[0])).unwrap();
        }
        assert_eq!(bench.store().blobs().size(&content.order[0]).is_some(), knows);
        gate.add_permits(1000);
        let (events, ended) = collect(pull).await;
        ended.unwrap();
        only_forward(&events);
        bench.holds(&registry.name(), &content);
        assert_eq!(bench.store().blobs().list().len(), content.blobs.len());
        let shared =
            registry.blobs_seen().iter().filter(|seen| seen.path.ends_with(&content.order[0].to_string())).count();
        assert_eq!(shared > 0, !knows, "it is fetched where it had gone, and only there");
    }
}
