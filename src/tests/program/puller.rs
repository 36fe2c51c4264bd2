//! A pull in a process of its own, with ranges and times that are shorter than the program's: this test binary once more.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt as _;
use hanzod::pull::{PullError, PullEvent, PullSettings, Puller};
use hanzod::store::Store;
use hanzod::types::ModelName;

const TOLD: &str = "TEST_PULL";
pub const RANGE: u64 = 32 << 10;
pub const STREAMS: usize = 4;
/// Longer than a busy machine takes for a piece.
pub const STALL: Duration = Duration::from_secs(2);

pub fn settings(folder: &Path) -> PullSettings {
    PullSettings {
        stall: STALL,
        backoff: Duration::from_millis(1),
        streams: STREAMS,
        range: RANGE..=RANGE,
        sync: RANGE,
        reserve: 0,
        tick: Duration::from_millis(5),
        ..PullSettings::new(folder.join("id_ed25519"))
    }
}

/// Brings `model` into the store, or as many bytes of its first blob as are wanted.
pub fn program(store: &Path, model: &str, upto: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "program::puller::pulls_what_it_is_told_to", "--include-ignored", "--nocapture"]);
    command.env(TOLD, format!("{}\n{model}\n{upto}", store.display()));
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is a process of other tests"]
async fn pulls_what_it_is_told_to() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let [store, model, upto] = told.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let store = Store::open(Path::new(store)).unwrap();
    pull(&store, model, upto.parse().unwrap()).await.unwrap();
}

/// Gives up when the first blob is as far as that.
pub async fn pull(store: &Store, model: &str, upto: u64) -> Result<(), PullError> {
    let puller = Puller::new(store.clone(), settings(store.layout().root()));
    let mut events = puller.pull(ModelName::parse(model).unwrap(), true).boxed();
    while let Some(event) = events.next().await {
        if matches!(event?, PullEvent::Layer { completed, .. } if completed >= upto) {
            break;
        }
    }
    Ok(())
}
