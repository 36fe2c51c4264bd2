//! Stores beside the own one: their models are there, and nothing in them changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Descriptor, MediaType, PruneRules, Store, StoreError, testing};
use crate::types::{Digest, ModelName};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn tag(store: &Store, name: &str, weights: &[u8]) {
    let file =
        Descriptor { name: Some("model.safetensors".to_owned()), ..testing::layer(store, MediaType::File, weights) };
    testing::model(store, name, vec![file]);
}

/// Every file below a folder, with what tells whether it was touched.
fn state(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let seen = entry.metadata().unwrap();
        all.push((entry.path(), seen.len(), seen.modified().unwrap()));
        if seen.is_dir() {
            all.extend(state(&entry.path()));
        }
    }
    all.sort();
    all
}

#[test]
fn models_of_other_stores_are_there_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [own, first, second] = ["own", "first", "second"].map(|place| folder.path().join(place));
    for (place, models) in [(&first, &["a", "b", "same"][..]), (&second, &["c", "same"])] {
        let store = Store::open(place).unwrap();
        for model in models {
            let content = format!("{model} of {}", place.file_name().unwrap().to_string_lossy());
            tag(&store, model, content.as_bytes());
        }
        // As from another program: no notes of ours.
        fs::remove_dir_all(place.join("hanzod")).unwrap();
    }
    let before = (state(&first), state(&second));
    let extras = [first.clone(), second.clone(), folder.path().join("nowhere")];
    let store = Store::open_with(&own, &extras).unwrap();
    tag(&store, "A", b"mine");

    let mut names: Vec<String> = store.tags().list().iter().map(|tag| tag.name.short()).collect();
    names.sort();
    assert_eq!(names, ["A:latest", "b:latest", "c:latest", "same:latest"]);
    let weights = |model: &str| {
        let folder = store.model(&name(model)).unwrap().weights().unwrap().remove(0);
        fs::read_to_string(folder.join("model.safetensors")).unwrap()
    };
    assert_eq!(["a", "b", "c", "same"].map(weights), ["mine", "b of first", "c of second", "same of first"]);

    // Removing uncovers what was behind, and goes no further.
    store.remove(&name("a")).unwrap();
    assert_eq!(weights("a"), "a of first");
    let refused = store.remove(&name("a")).unwrap_err();
    assert!(matches!(&refused, StoreError::NotOurs { store, .. } if *store == first), "{refused}");
    assert!(matches!(store.remove(&name("nobody")), Err(StoreError::NotFound(_))));

    // A copy is a name of ours for blobs of theirs; taking it back takes nothing of theirs.
    let (manifest, _) = store.tags().bytes(&name("b")).unwrap();
    store.tag(&name("copy"), &manifest).unwrap();
    assert_eq!(weights("copy"), "b of first");
    let usage = store.usage();
    let room: Vec<_> =
        usage.models.iter().map(|model| (model.size, model.own, model.elsewhere, model.missing)).collect();
    assert_eq!((room, usage.used, usage.elsewhere), (vec![(0, 0, 12, 0)], 0, 12), "it takes no room here");
    store.remove(&name("copy")).unwrap();
    store.prune(&PruneRules { grace: Default::default(), partial_life: Default::default(), dry_run: false });
    let blob = Digest::of(b"c of second");
    store.blobs().touch(&blob);
    assert!(store.blobs().settle(&blob, None).unwrap());
    assert_eq!((state(&first), state(&second)), before, "nothing was written or removed there");

    // What is damaged there is mended here.
    let path = store.blobs().path(&blob);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"c OF second").unwrap();
    assert!(store.verify(Some(&name("c")), true, &mut |_| true).unwrap().findings.iter().all(|found| !found.moved));
    assert!(!store.blobs().settle(&blob, None).unwrap() && path.exists());
    store.blobs().put(b"c of second").unwrap();
    assert!(store.blobs().path(&blob).starts_with(&own));
    assert_eq!(weights("c"), "c of second");
}
