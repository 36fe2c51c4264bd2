//! The hub's cache: what others put there is not fetched, what is pulled is put there, and without the hub it must do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

use super::super::assemble::{Origin, RemoteFile};
use super::super::hub_cache::{Found, HubCache, Share, SharedFile, take_in};
use super::super::repository::Repository;
use super::super::transfer::{GitHash, Wanted};
use super::super::{PullEvent, SourceKind};
use super::direct::tiny;
use super::hub::{COMMIT, Hub, LFS, oid, pull, sharded};
use super::{Bench, collect, only_forward};
use crate::store::{MediaType, Shared, StoreError, share};
use crate::types::{Digest, ModelName};

const SECOND: &str = "model-00002-of-00002.safetensors";

fn bench(endpoint: &str, cache: &Path, offline: bool) -> Bench {
    Bench::with(|settings| {
        settings.hub.endpoint = endpoint.to_owned();
        settings.hub.cache = Some(cache.to_owned());
        settings.hub.offline = offline;
    })
}

fn etag(body: &Bytes) -> String {
    if body.len() > LFS { Digest::of(body).hex() } else { oid(body) }
}

fn repository(cache: &Path) -> PathBuf {
    cache.join("models--Org--Repo")
}

/// Puts a file there as the hub's own tools do.
fn put(cache: &Path, path: &str, body: &Bytes) {
    let (blobs, snapshot) = (repository(cache).join("blobs"), repository(cache).join("snapshots").join(COMMIT));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository(cache).join("refs")).unwrap();
    fs::write(repository(cache).join("refs/main"), COMMIT).unwrap();
    fs::write(blobs.join(etag(body)), body).unwrap();
    symlink(format!("../../blobs/{}", etag(body)), snapshot.join(path)).unwrap();
}

impl Bench {
    /// The model has these files and no others.
    fn has_files(&self, name: &str, files: &BTreeMap<String, Bytes>) {
        let tag = self.store().tags().get(&ModelName::parse(name).unwrap()).unwrap();
        let layers: Vec<_> = tag.manifest.layers_of(MediaType::File).collect();
        for layer in &layers {
            let body = &files[layer.name.as_deref().unwrap()];
            assert!(fs::read(self.store().blobs().path(&layer.digest)).unwrap() == body[..], "{:?}", layer.name);
        }
        assert_eq!((layers.len(), self.partials(), self.puller.transfers_under_way()), (5, 0, 0));
    }
}

#[tokio::test]
async fn what_is_pulled_is_there_for_others() {
    let content = sharded();
    let hub = Hub::new(&content).await;
    let cache = tempfile::tempdir().unwrap();
    let first = bench(&hub.site.url(""), cache.path(), false);
    pull(&first, "Org/Repo").await.unwrap();
    first.has_files("Org/Repo", &content.listed);

    let folder = repository(cache.path());
    assert_eq!(fs::read_to_string(folder.join("refs/main")).unwrap(), COMMIT);
    let snapshot = folder.join("snapshots").join(COMMIT);
    let names: Vec<_> = fs::read_dir(&snapshot).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 5, "the model's files, and no others: {names:?}");
    for name in names {
        let (name, path) = (name.to_str().unwrap(), snapshot.join(&name));
        let body = &content.listed[name];
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(etag(body)));
        assert!(fs::read(&path).unwrap() == body[..]);
    }
    // One file, where the file system does not let two have the same blocks.
    let of_store = fs::metadata(first.store().blobs().path(&Digest::of(&content.listed[SECOND]))).unwrap();
    let of_cache = fs::metadata(snapshot.join(SECOND)).unwrap();
    let (blob, probe) = (snapshot.join(SECOND), cache.path().join("probe"));
    match share(&fs::File::open(&blob).unwrap(), &blob.canonicalize().unwrap(), &probe, false).unwrap() {
        Shared::Blocks => {}
        shared => assert_eq!((shared, of_store.ino()), (Shared::File, of_cache.ino())),
    }
    let blobs = fs::read_dir(folder.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(blobs.len(), 5, "nothing half-written is left: {blobs:?}");

    // Removed here, it stays there, and comes back without a byte from the hub; offline, without a request.
    first.store().remove(&ModelName::parse("Org/Repo").unwrap()).unwrap();
    assert_eq!(first.store().blobs().list(), []);
    let before = hub.fetched().len();
    only_forward(&pull(&first, "Org/Repo").await.unwrap());
    assert_eq!(hub.fetched().len(), before);
    let requests = hub.site.seen().len();
    for revision in ["", "@main", &format!("@{COMMIT}")] {
        let offline = bench(&hub.site.url(""), cache.path(), true);
        only_forward(&pull(&offline, &format!("Org/Repo{revision}")).await.unwrap());
        offline.has_files("Org/Repo", &content.listed);
    }
    assert_eq!((hub.site.seen().len(), hub.fetched().len()), (requests, before));
}

#[tokio::test]
async fn what_other_tools_have_fetched_is_not_fetched_again() {
    let content = sharded();
    let hub = Hub::new(&content).await;
    let cache = tempfile::tempdir().unwrap();
    for (path, body) in content.listed.iter().filter(|(path, _)| *path != SECOND) {
        put(cache.path(), path, body);
    }
    // One that is cut, one that is wrong.
    let blob = |path: &str| repository(cache.path()).join("blobs").join(etag(&content.listed[path]));
    fs::write(blob("tokenizer.json"), &content.listed["tokenizer.json"][1..]).unwrap();
    fs::write(blob("config.json"), vec![b' '; content.listed["config.json"].len()]).unwrap();

    let bench = bench(&hub.site.url(""), cache.path(), false);
    only_forward(&pull(&bench, "Org/Repo").await.unwrap());
    bench.has_files("Org/Repo", &content.listed);
    let mut fetched = hub.fetched();
    fetched.sort();
    fetched.dedup();
    let of_site = [format!("/{SECOND}"), "/config.json".into(), "/tokenizer.json".into()];
    let mut wanted = of_site.to_vec();
    wanted.sort();
    assert_eq!(fetched, wanted);
    for path in ["tokenizer.json", "config.json", SECOND] {
        assert!(fs::read(blob(path)).unwrap() == content.listed[path][..], "{path} is right there by now");
    }
}

#[test]
fn what_others_write_into_a_file_that_was_taken_in_is_found() {
    let bench = bench("http://127.0.0.1:1", Path::new("/nowhere"), true);
    let path = bench.folder.path().join("file");
    fs::write(&path, b"content").unwrap();
    let writer = fs::File::options().write(true).open(&path).unwrap();
    let wanted = Wanted::digest(Digest::of(b"content"), 7);
    let taken = take_in(bench.store(), &path, &wanted).unwrap();
    assert!(matches!(taken, Found::Taken(pin) if pin.digest() == wanted.key));
    writer.write_at(b"C", 0).unwrap();
    let found = bench.store().blobs().check(&wanted.key, 7);
    match fs::read(bench.store().blobs().path(&wanted.key)).unwrap().as_slice() {
        // Blocks are shared until one of the two is written to.
        b"content" => found.unwrap(),
        _ => assert!(matches!(found, Err(StoreError::Damaged { .. })), "{found:?}"),
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"another").unwrap();
    assert!(matches!(take_in(bench.store(), &path, &wanted).unwrap(), Found::Wrong));
}

#[tokio::test]
async fn a_cache_that_is_no_folder_is_left_alone() {
    let content = sharded();
    let hub = Hub::new(&content).await;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("file");
    fs::write(&cache, "").unwrap();
    let plain = bench(&hub.site.url(""), &cache, false);
    pull(&plain, "Org/Repo").await.unwrap();
    plain.has_files("Org/Repo", &content.listed);

    // A folder in a blob's place is none of ours, and where nothing is to be shared nothing is written.
    let cache = folder.path().join("cache");
    fs::create_dir_all(repository(&cache).join("blobs").join(etag(&content.listed["config.json"]))).unwrap();
    pull(&bench(&hub.site.url(""), &cache, false), "Org/Repo").await.unwrap();
    assert!(!repository(&cache).join("refs").exists(), "no revision without its files");
    let reader = Bench::with(|settings| {
        settings.hub.endpoint = hub.site.url("");
        settings.hub.cache = Some(folder.path().join("read"));
        settings.hub.share = false;
    });
    pull(&reader, "Org/Repo").await.unwrap();
    assert!(!folder.path().join("read").exists());
}

#[tokio::test]
async fn across_file_systems_it_is_copied() {
    let content = sharded();
    let hub = Hub::new(&content).await;
    let plain = bench(&hub.site.url(""), Path::new("/nowhere"), true);
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let home = device(plain.store().layout().root());
    let places = ["/dev/shm", "/run", "/var/tmp"].into_iter().filter_map(|place| tempfile::tempdir_in(place).ok());
    let Some(cache) = places.into_iter().find(|place| device(place.path()) != home) else {
        println!("skipped: there is no other file system here");
        return;
    };
    pull(&bench(&hub.site.url(""), cache.path(), false), "Org/Repo").await.unwrap();
    let snapshot = repository(cache.path()).join("snapshots").join(COMMIT);
    assert!(fs::read(snapshot.join(SECOND)).unwrap() == content.listed[SECOND][..]);
    let offline = bench(&hub.site.url(""), cache.path(), true);
    pull(&offline, "Org/Repo").await.unwrap();
    offline.has_files("Org/Repo", &content.listed);

    // Where a copy has no room, the model is there all the same.
    fs::remove_dir_all(repository(cache.path())).unwrap();
    let full = Bench::with(|settings| {
        settings.hub.endpoint = hub.site.url("");
        settings.hub.cache = Some(cache.path().to_owned());
    });
    let share = |bench: &Bench, reserve| {
        let found = HubCache::new(cache.path());
        let repository = Repository::parse("Org/Repo", None).unwrap();
        let commit = GitHash::parse(COMMIT).unwrap();
        let (path, body) = (SECOND.to_owned(), &content.listed[SECOND]);
        let digest = bench.store().blobs().put(body).unwrap();
        let wanted = Wanted::digest(digest, body.len() as u64);
        let files = [SharedFile { path, wanted, digest, wrong: false }];
        let revision = "main".to_owned();
        let repository = found.repository(&repository);
        Share { repository, revision, commit, reserve }.write(bench.store(), &files);
    };
    share(&full, u64::MAX);
    assert!(!snapshot.exists() && !repository(cache.path()).join("refs").exists());
    share(&full, 0);
    assert!(fs::read(snapshot.join(SECOND)).unwrap() == content.listed[SECOND][..]);
}

#[tokio::test]
async fn what_is_missing_offline_is_named() {
    let content = sharded();
    let cache = tempfile::tempdir().unwrap();
    let bench = bench("http://127.0.0.1:1", cache.path(), true);
    let error = pull(&bench, "Org/Repo@v1").await.unwrap_err();
    let folder = repository(cache.path());
    let expected = format!(
        "Org/Repo on the hub: revision `v1` is not in its cache at `{}`; HF_HUB_OFFLINE is set",
        folder.display()
    );
    assert_eq!(error, expected);

    for (path, body) in content.listed.iter().filter(|(path, _)| *path != SECOND) {
        put(cache.path(), path, body);
    }
    let error = pull(&bench, "Org/Repo").await.unwrap_err();
    assert!(error.contains(&format!("`{SECOND}` is missing; HF_HUB_OFFLINE is set")), "{error}");

    // With the list that the hub's tools keep, every file of it can be missed.
    let entry = |body: &Bytes| match body.len() > LFS {
        true => {
            json!({ "size": body.len(), "blob_id": "f".repeat(40), "lfs_sha256": etag(body), "lfs_size": body.len() })
        }
        false => json!({ "size": body.len(), "blob_id": etag(body) }),
    };
    let files: BTreeMap<_, _> = content.listed.iter().map(|(path, body)| (path, entry(body))).collect();
    fs::create_dir_all(folder.join("trees")).unwrap();
    let tree = json!({ "format_version": 1, "files": files }).to_string();
    fs::write(folder.join("trees").join(format!("{COMMIT}.json")), tree).unwrap();
    let lacks = |path: &str| format!("`{path}` is not, or not whole, in its cache at `{}`", folder.display());
    let error = pull(&bench, "Org/Repo").await.unwrap_err();
    assert!(error.contains(&lacks(SECOND)) && error.ends_with("; HF_HUB_OFFLINE is set"), "{error}");

    put(cache.path(), SECOND, &content.listed[SECOND]);
    let config = folder.join("blobs").join(etag(&content.listed["config.json"]));
    fs::write(&config, vec![b' '; content.listed["config.json"].len()]).unwrap();
    let error = pull(&bench, "Org/Repo").await.unwrap_err();
    assert!(error.contains(&lacks("config.json")), "{error}");
    assert!(bench.store().tags().list().is_empty());
    fs::write(&config, &content.listed["config.json"]).unwrap();
    pull(&bench, "Org/Repo").await.unwrap();
    bench.has_files("Org/Repo", &content.listed);
}

#[tokio::test]
async fn without_a_network_the_cache_will_do() {
    let cache = tempfile::tempdir().unwrap();
    let bench = bench("http://127.0.0.1:1", cache.path(), false);
    let name = "hf.co/Org/Repo:Q4_K_M";
    let refused = "connect: connection refused";
    assert!(pull(&bench, name).await.unwrap_err().contains(refused));
    put(cache.path(), "tiny-Q4_K_M.gguf", &tiny());
    // Where links cannot be made a file stands in the snapshot itself.
    let snapshot = repository(cache.path()).join("snapshots").join(COMMIT);
    fs::copy(snapshot.join("tiny-Q4_K_M.gguf"), snapshot.join("x-Q8_0.gguf")).unwrap();
    for quant in ["Q4_K_M", "Q8_0", "x-q8_0.gguf"] {
        only_forward(&pull(&bench, &format!("Org/Repo:{quant}")).await.unwrap());
    }
    assert!(pull(&bench, "Org/Repo:Q2_K").await.unwrap_err().contains(refused));

    // By the registry's name as well, since this is not the hub that the registry is of; and it keeps that name.
    let (events, ended) = collect(bench.from(SourceKind::Registry, name)).await;
    ended.unwrap();
    only_forward(&events);
    let tag = bench.store().tags().get(&ModelName::parse(name).unwrap()).unwrap();
    assert_eq!(tag.manifest.layers[0].digest, Digest::of(&tiny()));
}

#[tokio::test]
async fn what_another_program_removes_before_the_name_is_written_is_brought_again() {
    let content = sharded();
    let hub = Hub::new(&content).await;
    let blob = |path: &str| Digest::of(&content.listed[path]);
    // From the hub, and from its cache, with nobody else to ask.
    for offline in [false, true] {
        let cache = tempfile::tempdir().unwrap();
        if offline {
            content.listed.iter().for_each(|(path, body)| put(cache.path(), path, body));
        }
        let bench = bench(&hub.site.url(""), cache.path(), offline);
        let mut events = Box::pin(bench.from(SourceKind::HuggingFace, "Org/Repo"));
        let asked = || hub.fetched().iter().filter(|path| path.ends_with(SECOND)).count();
        let mut before = None;
        while let Some(event) = events.next().await {
            if event.unwrap() != PullEvent::Writing {
                continue;
            }
            before = Some(asked());
            // One that LFS keeps and one of git's, as a program does that knows nothing of this one.
            for path in [SECOND, "config.json"] {
                fs::remove_file(bench.store().blobs().path(&blob(path))).unwrap();
            }
        }
        bench.has_files("Org/Repo", &content.listed);
        assert_eq!(before.unwrap() < asked(), !offline, "not from the hub when its cache has it");
    }
}

#[tokio::test]
async fn what_came_stays_when_the_name_cannot_be_written() {
    let hub = Hub::new(&sharded()).await;
    let bench = hub.bench();
    let name = ModelName::parse("Org/Repo").unwrap();
    // A file stands where the manifest's folder would.
    let folder = bench.store().layout().manifest(&name).parent().unwrap().to_owned();
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(&folder, "").unwrap();
    assert!(pull(&bench, "Org/Repo").await.is_err());
    let of_lfs = |hub: &Hub| hub.fetched().iter().filter(|path| path.ends_with(".safetensors")).count();
    let before = of_lfs(&hub);
    assert!(before >= 2);
    fs::remove_file(&folder).unwrap();
    pull(&bench, "Org/Repo").await.unwrap();
    assert_eq!(of_lfs(&hub), before);
}

#[tokio::test]
async fn what_one_pull_has_taken_in_the_next_in_line_does_not_read_again() {
    let bench = bench("http://127.0.0.1:1", Path::new("/nowhere"), true);
    let path = bench.folder.path().join("file");
    fs::write(&path, b"content").unwrap();
    let wanted = Wanted::digest(Digest::of(b"content"), 7);
    let origin = Origin::Cache { folder: PathBuf::new(), why: String::new() };
    let file = RemoteFile::new("file", wanted, origin).or_at(vec![path.clone()]);
    assert!(bench.puller.take_in(&file).await.unwrap().0.is_some());
    fs::remove_file(&path).unwrap();
    let (taken, wrong) = bench.puller.take_in(&file).await.unwrap();
    assert!(taken.is_some_and(|pin| pin.digest() == wanted.key) && !wrong);
}
