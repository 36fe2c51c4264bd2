//! Names that several write and remove at once, and what may stand in a manifest's place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Barrier;
use std::thread::scope;

use super::tags::place;
use super::{Store, StoreError, testing};
use crate::types::{Digest, ModelName};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

/// Writes a model whose blobs nobody takes away meanwhile.
fn tag(store: &Store, model: &str, weights: &[u8]) -> Digest {
    let _pins = [&b"{}"[..], weights].map(|content| store.pin(Digest::of(content)));
    testing::weights(store, model, weights)
}

/// Where many syncs cost nothing, if there is such a place.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn no_blob_goes_while_a_name_for_it_comes() {
    let folder = folder();
    let store = Store::open(folder.path()).unwrap();
    // So many names that a look at all of them takes longer than the making of one.
    tag(&store, "others:0", b"another");
    let other = store.layout().manifest(&name("others:0"));
    for number in 1..400 {
        fs::copy(&other, other.with_file_name(number.to_string())).unwrap();
    }
    let is_whole = |model: &str| {
        let manifest = store.tags().get(&name(model)).unwrap().manifest;
        manifest.descriptors().all(|blob| store.blobs().size(&blob.digest) == Some(blob.size))
    };
    scope(|scope| {
        for model in ["one", "two", "three"] {
            let (store, is_whole) = (&store, &is_whole);
            scope.spawn(move || {
                for round in 0..40 {
                    tag(store, model, b"shared");
                    assert!(is_whole(model), "{model} in round {round}");
                    // A copy has no pins: it has its blobs, or it is refused.
                    let manifest = store.tags().bytes(&name(model)).unwrap().0;
                    let copy = format!("copy-of-{model}");
                    store.tag(&name(&copy), &manifest).unwrap();
                    store.remove(&name(model)).unwrap();
                    assert!(is_whole(&copy), "{copy} in round {round}");
                    store.remove(&name(&copy)).unwrap();
                }
            });
        }
    });
    assert_eq!((store.tags().list().len(), store.blobs().list().len()), (400, 2));
}

#[test]
fn of_two_who_remove_one_name_one_finds_it_gone() {
    let folder = folder();
    // As two processes: each knows only its own threads.
    let stores = [(); 2].map(|()| Store::open(folder.path()).unwrap());
    for round in 0..200 {
        tag(&stores[0], "one", b"x");
        let start = Barrier::new(4);
        let removed: Vec<_> = scope(|scope| {
            let remove = |number: usize| {
                let (store, start) = (&stores[number % 2], &start);
                scope.spawn(move || {
                    start.wait();
                    store.remove(&name("one"))
                })
            };
            [0, 1, 2, 3].map(remove).into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(removed.iter().filter(|removed| removed.is_ok()).count(), 1, "round {round}: {removed:?}");
        let absent = |removed: &&Result<(), StoreError>| matches!(removed, Err(StoreError::NotFound(_)));
        assert_eq!(removed.iter().filter(absent).count(), 3, "round {round}: {removed:?}");
    }
    assert!(stores[0].blobs().list().is_empty());
}

#[test]
fn what_stands_in_the_way_of_a_name_goes_if_it_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = || tempfile::NamedTempFile::new_in(folder.path()).unwrap();
    let path = folder.path().join("host/namespace/model/tag");
    // Another program may have removed the folders since they were made.
    place(file(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    place(file(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir_all(path.join("something")).unwrap();
    assert_eq!(place(file(), &path).unwrap_err().kind(), std::io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "what could not get its name has gone");
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

type Damage = fn(&Path);

#[test]
fn what_is_no_manifest_is_passed_over_and_replaced() {
    let damages: [(&str, Damage); 8] = [
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("half", |path| fs::write(path, &fs::read(path).unwrap()[..40]).unwrap()),
        ("huge", |path| fs::write(path, vec![b' '; 9 << 20]).unwrap()),
        ("binary", |path| fs::write(path, [0xff, 0, 0x80, 7].repeat(200)).unwrap()),
        ("folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("pipe", |path| {
            fs::remove_file(path).unwrap();
            fifo(path);
        }),
        ("link to nowhere", |path| {
            fs::remove_file(path).unwrap();
            symlink("nowhere", path).unwrap();
        }),
        ("link to itself", |path| {
            fs::remove_file(path).unwrap();
            symlink(path, path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (good, bad) = (tag(&store, "good", b"good"), tag(&store, "bad", b"bad"));
        let path = store.layout().manifest(&name("bad"));
        damage(&path);
        // In this process, which has read it, and in one that has not.
        for store in [&store, &Store::open(folder.path()).unwrap()] {
            let listed: Vec<_> = store.tags().list().iter().map(|tag| tag.name.short()).collect();
            assert_eq!(listed, ["good:latest"], "{what}");
            assert!(store.tags().get(&name("bad")).is_err() && store.model(&name("bad")).is_err(), "{what}");
        }
        store.remove(&name("good")).unwrap();
        let there = [good, bad].map(|digest| store.blobs().size(&digest).is_some());
        assert_eq!(there, [true, true], "{what}: nothing goes while it is not known what is in use");
        tag(&store, "bad", b"bad");
        assert_eq!(store.tags().get(&name("bad")).unwrap().manifest.layers[0].digest, bad, "{what}");
        damage(&path);
        store.remove(&name("bad")).unwrap();
        assert!(fs::symlink_metadata(&path).is_err() && store.tags().names().is_empty(), "{what}");
    }
}

#[test]
fn names_that_differ_in_case_only_are_one_or_each_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = tag(&store, "Foo", b"first");
    assert_eq!(tag(&store, "fOO:LATEST", b"first"), first);
    let names = |store: &Store| {
        let mut names: Vec<_> = store.tags().list().iter().map(|tag| tag.name.short()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&store), ["Foo:latest"], "one name, in the spelling it came with");
    assert_eq!(store.tags().get(&name("foo")).unwrap().name.short(), "Foo:latest");

    // Another program, or a file system that took both: then each spelling is itself.
    let second = tag(&store, "bar", b"second");
    let path = store.layout().manifest(&name("bar"));
    let twin = store.layout().manifest(&name("foo"));
    fs::create_dir_all(twin.parent().unwrap()).unwrap();
    if fs::read_dir(twin.parent().unwrap()).unwrap().next().is_some() {
        println!("skipped: this file system does not tell names apart by case");
        return;
    }
    fs::rename(path, twin).unwrap();
    fs::remove_dir(store.layout().manifest(&name("bar")).parent().unwrap()).unwrap();
    let weights = |model: &str| store.tags().get(&name(model)).unwrap().manifest.layers[0].digest;
    assert_eq!((weights("Foo"), weights("foo")), (first, second));
    assert_eq!(names(&store), ["Foo:latest", "foo:latest"], "none is hidden");
    store.remove(&name("foo")).unwrap();
    assert_eq!((weights("foo"), names(&store)), (first, vec!["Foo:latest".to_owned()]));
    assert_eq!(store.blobs().size(&second), None);
}
