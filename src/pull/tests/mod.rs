//! Pulls against a local registry that can lie, stall and break off.

mod auth;
mod deletes;
mod direct;
mod faults;
mod flights;
mod hub;
mod hub_cache;
mod hub_refusals;
mod mirrors;
mod push;
mod rates;
mod raw;
mod refusals;
mod registry;

use std::path::Path;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};

use self::registry::Content;
use super::{PullError, PullEvent, PullSettings, Puller, Source, SourceKind};
use crate::store::Store;
use crate::types::ModelName;

/// A store in a folder of its own, and a puller with small ranges. Its times are long: a busy machine is no stall.
struct Bench {
    folder: tempfile::TempDir,
    puller: Puller,
}

const RANGE: u64 = 64 << 10;

fn settings(folder: &Path) -> PullSettings {
    PullSettings {
        header: Duration::from_secs(60),
        stall: Duration::from_secs(60),
        backoff: Duration::from_millis(1),
        retries: 3,
        streams: 4,
        range: RANGE..=RANGE,
        sync: 2 * RANGE,
        reserve: 0,
        tick: Duration::from_millis(5),
        ..PullSettings::new(folder.join("id_ed25519"))
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut PullSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        change(&mut settings);
        let puller = Puller::new(Store::open(&folder.path().join("models")).unwrap(), settings);
        Self { folder, puller }
    }

    /// As after a restart: the same folder, nothing in memory.
    fn restarted(self) -> Self {
        let settings = settings(self.folder.path());
        let store = Store::open(&self.folder.path().join("models")).unwrap();
        Self { puller: Puller::new(store, settings), folder: self.folder }
    }

    fn store(&self) -> &Store {
        self.puller.store()
    }

    fn stream(&self, name: &str) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        self.puller.pull(ModelName::parse(name).unwrap(), true)
    }

    async fn pull(&self, name: &str) -> (Vec<PullEvent>, Result<(), PullError>) {
        collect(self.stream(name)).await
    }

    /// A new one, which [brings](Self::brings) the model.
    async fn that_brings(name: &str, content: &Content) -> Self {
        let bench = Self::new();
        bench.brings(name, content).await;
        bench
    }

    /// The model comes, and is what it should be.
    async fn brings(&self, name: &str, content: &Content) {
        self.pull(name).await.1.unwrap();
        self.holds(name, content);
    }

    fn from(
        &self,
        kind: SourceKind,
        text: &str,
    ) -> impl Stream<Item = Result<PullEvent, PullError>> + Send + 'static + use<> {
        self.puller.pull_from(Source::parse(kind, text).unwrap(), None, false)
    }

    /// Nothing is in the store, and nothing on its way.
    fn is_empty(&self) {
        assert!(self.store().tags().list().is_empty());
        assert_eq!((self.store().blobs().list(), self.partials()), (Vec::new(), 0));
        assert_eq!(self.puller.transfers_under_way(), 0);
    }

    async fn error(&self, name: &str) -> String {
        let (_, ended) = self.pull(name).await;
        ended.expect_err("the pull should fail").to_string()
    }

    fn partials(&self) -> usize {
        std::fs::read_dir(self.store().layout().partials()).map_or(0, Iterator::count)
    }

    /// The store holds `content` under `name`, byte for byte, and nothing is left over.
    fn holds(&self, name: &str, content: &Content) {
        let name = ModelName::parse(name).unwrap();
        assert_eq!(self.store().tags().bytes(&name).unwrap().0, content.manifest);
        for (digest, body) in &content.blobs {
            assert!(std::fs::read(self.store().blobs().path(digest)).unwrap() == body[..], "{digest}");
        }
        assert_eq!((self.partials(), self.puller.transfers_under_way()), (0, 0));
    }
}

/// Of each file or blob: progress never goes back, and ends when all is there.
fn only_forward(events: &[PullEvent]) {
    let mut last = std::collections::HashMap::new();
    for event in events {
        let (PullEvent::File { key, total, completed, .. } | PullEvent::Layer { digest: key, total, completed }) =
            event
        else {
            continue;
        };
        let before = last.insert(*key, (*completed, *total)).unwrap_or((0, *total));
        assert!(before.0 <= *completed && completed <= total && before.1 == *total, "{event:?} after {before:?}");
    }
    assert!(!last.is_empty() && last.values().all(|(completed, total)| completed == total), "{last:?}");
}

async fn collect<E>(stream: impl Stream<Item = Result<E, PullError>>) -> (Vec<E>, Result<(), PullError>) {
    let mut stream = std::pin::pin!(stream);
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Err(error)),
        }
    }
    (events, Ok(()))
}
