//! The order of system calls by which content and manifests come into the store, as `strace` saw them: written, synced,
//! made read-only, renamed, the folder synced; and a manifest only after all that it names.

use std::path::{Path, PathBuf};

use super::calls::{self, Call, can_watch};
use super::harness::{Home, good};
use crate::registry::{Registry, pushed};

const CALLS: &str = "openat,creat,write,writev,pwrite64,pwritev,copy_file_range,sendfile,ftruncate,fsync,fdatasync,\
    rename,renameat,renameat2,link,linkat,chmod,fchmod,fchmodat";

/// What happened to a file, in order.
#[derive(Debug, PartialEq)]
enum Event {
    Opened(PathBuf, String),
    Written(PathBuf),
    Synced(PathBuf),
    Moved(PathBuf, PathBuf),
    Mode(PathBuf, String),
}

/// Runs the program and gives what it did to files under its store.
fn watch(home: &Home, arguments: &[&str]) -> Vec<Event> {
    let (output, calls) = calls::watch(&home.program(arguments), CALLS, 0);
    good(output);
    let store = home.store();
    events(&calls).into_iter().filter(|event| under(&store, event)).collect()
}

fn under(store: &Path, event: &Event) -> bool {
    match event {
        Event::Opened(path, _) | Event::Written(path) | Event::Synced(path) | Event::Mode(path, _) => {
            path.starts_with(store)
        }
        Event::Moved(_, target) => target.starts_with(store),
    }
}

/// A call counts where it ends; but what is written is written from its beginning on.
fn events(calls: &[Call]) -> Vec<Event> {
    let mut events: Vec<(usize, Event)> = Vec::new();
    for call in calls {
        let Some(event) = event(call) else { continue };
        events.push((if matches!(event, Event::Written(_)) { call.begin } else { call.end }, event));
    }
    events.sort_by_key(|(line, _)| *line);
    events.into_iter().map(|(_, event)| event).collect()
}

fn event(call: &Call) -> Option<Event> {
    let names = call.names();
    Some(match call.name.as_str() {
        "openat" | "creat" => Event::Opened(names.first()?.clone(), call.argument(2).to_owned()),
        "write" | "writev" | "pwrite64" | "pwritev" | "ftruncate" | "sendfile" => Event::Written(call.file(0)?),
        "copy_file_range" => Event::Written(call.file(2)?),
        "fsync" | "fdatasync" => Event::Synced(call.file(0)?),
        "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
            Event::Moved(names.first()?.clone(), names.get(1)?.clone())
        }
        "fchmod" => Event::Mode(call.file(0)?, call.last().to_owned()),
        "chmod" | "fchmodat" => Event::Mode(names.first()?.clone(), call.last().to_owned()),
        _ => return None,
    })
}

/// Holds the events against the promise, and gives the final names in the order in which they came.
fn hold(home: &Home, events: &[Event]) -> Vec<PathBuf> {
    let (blobs, manifests) = (home.store().join("blobs"), home.store().join("manifests"));
    let is_blob =
        |path: &Path| path.parent() == Some(&blobs) && name(path).starts_with("sha256-") && path.extension().is_none();
    let mut published = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Opened(path, how) if is_blob(path) => {
                assert!(!how.contains("O_CREAT") && !how.contains("O_TRUNC"), "opened for writing in its place: {how}");
            }
            Event::Moved(source, target) if is_blob(target) || target.starts_with(&manifests) => {
                let before = &events[..at];
                let written = before.iter().rposition(|event| *event == Event::Written(source.clone()));
                let synced = before.iter().rposition(|event| *event == Event::Synced(source.clone()));
                let synced = synced.unwrap_or_else(|| panic!("{} was not synced", target.display()));
                assert!(
                    written.is_none_or(|written| written < synced),
                    "{} was written after its sync",
                    target.display()
                );
                // Every folder that may be new, up to the one that stood there.
                let above = target.ancestors().skip(1).take_while(|above| *above != home.store());
                let last = above.map(|folder| at + synced_after(&events[at..], folder, target)).max();
                let last = last.expect("a parent");
                if is_blob(target) {
                    let made = before.iter().any(
                        |event| matches!(event, Event::Mode(path, mode) if path == source && mode.contains("0444")),
                    );
                    assert!(made, "{} was not made read-only before it had its name", target.display());
                    let early = events[..last]
                        .iter()
                        .any(|event| matches!(event, Event::Moved(_, to) if to.starts_with(&manifests)));
                    assert!(!early, "a manifest came before {}", target.display());
                }
                published.push(target.clone());
            }
            _ => {}
        }
    }
    published
}

/// How long after the first of `events` the folder was synced.
fn synced_after(events: &[Event], folder: &Path, target: &Path) -> usize {
    let synced = events.iter().position(|event| *event == Event::Synced(folder.to_owned()));
    synced.unwrap_or_else(|| panic!("{}, the folder of {}, was not synced", folder.display(), target.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[test]
fn what_create_makes_is_on_the_disk_before_it_has_a_name() {
    if !can_watch() {
        return;
    }
    let home = Home::new();
    let modelfile = home.modelfile("tiny", "tiny-q4_k_m.gguf");
    let events = watch(&home, &["create", "tiny", "-f", modelfile.to_str().unwrap()]);
    let published = hold(&home, &events);
    let (manifest, blobs) = published.split_last().unwrap();
    assert!(manifest.ends_with("library/tiny/latest") && blobs.len() >= 3, "{published:?}");
    let on_disk = std::fs::read_dir(home.store().join("blobs")).unwrap().count();
    assert_eq!(on_disk, blobs.len(), "no blob came by another way");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pull_brings_is_on_the_disk_before_it_has_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(folder.path()) else { return };
    if !can_watch() {
        return;
    }
    let (model, count) = pushed(&registry, folder.path()).await;
    let home = Home::new();
    let events = tokio::task::spawn_blocking(move || {
        let events = watch(&home, &["pull", "--insecure", &model]);
        let published = hold(&home, &events);
        assert_eq!(published.len(), count + 1, "{published:?}");
        events
    });
    assert!(!events.await.unwrap().is_empty());
}
