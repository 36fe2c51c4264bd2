//! A store that a disk or a hand has damaged: what is wrong is named where it is needed, the rest goes on, and a pull mends it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use hanzod::types::{Digest, ModelName};
use serde_json::{Value, json};

use super::harness::{Home, Server, good, tiny};
#[cfg(target_os = "linux")]
use super::harness::{wait_until, wrapped};
use super::moving::registry;
use super::store::check;

const ANOTHER_CONTENT: &[u8] = b"nobody may read this, or remove it";

/// What is done to the blob at the first path; the second is outside of the store.
type Damage = fn(&Path, &Path);

fn damages() -> [(&'static str, Damage); 9] {
    fn replaced(blob: &Path, make: impl FnOnce(&Path)) {
        fs::remove_file(blob).unwrap();
        make(blob);
    }
    fn written(blob: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = fs::read(blob).unwrap();
        change(&mut content);
        fs::set_permissions(blob, Permissions::from_mode(0o644)).unwrap();
        fs::write(blob, content).unwrap();
    }
    [
        ("a bit", |blob, _| {
            written(blob, |content| {
                let middle = content.len() / 2;
                content[middle] ^= 4;
            });
        }),
        ("truncated", |blob, _| written(blob, |content| content.truncate(content.len() / 2))),
        ("a byte more", |blob, _| written(blob, |content| content.push(0))),
        ("empty", |blob, _| written(blob, Vec::clear)),
        ("removed", |blob, _| replaced(blob, |_| {})),
        ("a folder", |blob, _| {
            replaced(blob, |blob| {
                fs::create_dir(blob).unwrap();
                fs::write(blob.join("inside"), b"x").unwrap();
            });
        }),
        ("a pipe", |blob, _| replaced(blob, fifo)),
        ("a link out of the store", |blob, outside| replaced(blob, |blob| symlink(outside, blob).unwrap())),
        ("a link to nowhere", |blob, _| replaced(blob, |blob| symlink("nowhere", blob).unwrap())),
    ]
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// The digests of the weights and of the config of a model in the store.
fn blobs_of(home: &Home, model: &str) -> [Digest; 2] {
    let name = ModelName::parse(model).unwrap();
    let path = hanzod::store::Layout::new(&home.store()).manifest(&name);
    let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    [&manifest["layers"][0], &manifest["config"]].map(|blob| blob["digest"].as_str().unwrap().parse().unwrap())
}

async fn load(server: &Server, model: &str) -> (u16, Value) {
    server.post("/api/generate", json!({"model": model, "prompt": "Ping", "stream": false})).await
}

/// That it can be asked; without an engine, that the engine is all that is missing.
pub(super) async fn is_whole(server: &Server, model: &str) {
    #[cfg(feature = "llama")]
    assert_eq!(server.ask(model, "Ping").await, "Pong");
    #[cfg(not(feature = "llama"))]
    {
        let (_, answer) = load(server, model).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(!error.contains("blob"), "{answer}");
    }
}

#[tokio::test]
async fn f34_a_blob_that_is_none_any_more() {
    let (source, home) = (Home::new(), Home::new());
    source.create("tiny", "tiny-q4_k_m.gguf");
    let serving = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let model = format!("{}/library/tiny:latest", serving.address());
    let outside = home.path().join("outside");
    fs::write(&outside, ANOTHER_CONTENT).unwrap();
    assert_eq!(Server::start(&home).pull(&model).await.0, 200);

    for which in [0, 1] {
        for (what, damage) in damages() {
            let digest = blobs_of(&home, &model)[which];
            damage(&home.store().join("blobs").join(digest.file_name()), &outside);
            let mut server = Server::start(&home);
            let what = format!("{} is {what}", ["the weights", "the config"][which]);
            // Twice: what was found is not forgotten.
            for _ in 0..2 {
                let (status, answer) = load(&server, &model).await;
                let error = answer["error"].as_str().unwrap_or_default();
                assert!(status == 500 && error.contains(&digest.to_string()), "{what}: {status} {answer}");
                assert!(!answer.to_string().contains("nobody may read"), "{what}: {answer}");
            }
            assert!(server.names().await.len() <= 1 && server.is_running(), "{what}");
            let (_, found) = server.post("/api/hanzod/verify", json!({"stream": false})).await;
            assert_eq!(found["damaged"][0]["digest"], digest.to_string(), "{what}: {found}");
            let (status, answer) = server.pull(&model).await;
            assert_eq!((status, &answer["status"]), (200, &json!("success")), "{what}: {answer}");
            assert_eq!(check(&home.store()), 1, "{what}");
            is_whole(&server, &model).await;
        }
    }
    // What was moved out of the way goes like anything that nobody needs, and nothing else goes with it.
    let server = Server::start(&home);
    let (_, pruned) = server.post("/api/hanzod/prune", json!({"partials_older_than": "0"})).await;
    assert_eq!(pruned["removed"].as_array().unwrap().len(), 2, "{pruned}");
    assert_eq!(fs::read_dir(home.store().join("hanzod/damaged")).unwrap().count(), 0);
    assert_eq!(fs::read(&outside).unwrap(), ANOTHER_CONTENT);
    is_whole(&server, &model).await;
}

#[tokio::test]
async fn f34_links_that_are_meant_go_on_working() {
    let home = Home::new();
    let original = home.path().join("original.gguf");
    fs::copy(tiny().join("tiny-q4_k_m.gguf"), &original).unwrap();
    home.good(&["link", original.to_str().unwrap(), "linked"]);
    home.create("moved", "tiny-q8_0.gguf");
    // A link that stays in the store, as a hand may leave it that sorts its files.
    let blob = home.store().join("blobs").join(blobs_of(&home, "moved")[0].file_name());
    let place = home.store().join("weights-of-moved");
    fs::rename(&blob, &place).unwrap();
    symlink("../weights-of-moved", &blob).unwrap();
    let server = Server::start(&home);
    for model in ["linked", "moved"] {
        is_whole(&server, model).await;
    }
    good(server.command(&home, &["verify"]).output().unwrap());
    assert_eq!(check(&home.store()), 2);
    for model in ["linked", "moved"] {
        assert_eq!(server.delete("/api/delete", json!({"model": model})).await, 200);
    }
    assert!(original.exists() && place.exists() && fs::symlink_metadata(&blob).is_err(), "only the names go");
}

/// A server for which the rights of files count, even if it is root's.
#[cfg(target_os = "linux")]
pub(super) fn with_rights(home: &Home) -> std::process::Command {
    let program = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    match rustix::process::geteuid().is_root() {
        true => wrapped(&["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"], &program),
        false => program,
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f35_manifests_that_are_none_any_more() {
    let damages: [(&str, Damage); 8] = [
        ("empty", |path, _| fs::write(path, b"").unwrap()),
        ("half", |path, _| fs::write(path, &fs::read(path).unwrap()[..99]).unwrap()),
        ("huge", |path, _| {
            let text = fs::read_to_string(path).unwrap().replacen('{', &("{".to_owned() + &" ".repeat(30 << 20)), 1);
            fs::write(path, text).unwrap();
        }),
        ("binary", |path, _| fs::write(path, [0xff, 0, 0x80, 0x07].repeat(64)).unwrap()),
        ("unreadable", |path, _| fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap()),
        ("folder", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("pipe", |path, _| {
            fs::remove_file(path).unwrap();
            fifo(path);
        }),
        ("strange", |path, outside| {
            fs::remove_file(path).unwrap();
            symlink(outside, path).unwrap();
        }),
    ];
    let (source, home) = (Home::new(), Home::new());
    source.create("good", "tiny-q4_k_m.gguf");
    damages.iter().for_each(|(what, _)| drop(source.good(&["cp", "good", what])));
    let serving = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let name = |what: &str| format!("{}/library/{what}:latest", serving.address());
    let server = Server::start(&home);
    assert_eq!(server.pull(&name("good")).await.0, 200);
    for (what, _) in &damages {
        assert_eq!(server.pull(&name(what)).await.0, 200);
    }
    drop(server);
    let outside = home.path().join("outside");
    fs::write(&outside, ANOTHER_CONTENT).unwrap();
    let manifests: PathBuf = home.store().join("manifests").join(serving.address()).join("library");
    damages.iter().for_each(|(what, damage)| damage(&manifests.join(what).join("latest"), &outside));

    let server = Server::start_with(with_rights(&home), 1);
    assert_eq!(server.names().await, [name("good")]);
    is_whole(&server, &name("good")).await;
    for (what, _) in &damages {
        // The one that cannot even be opened is named by its path.
        let named = |line: &str| line.contains("passed over") && line.contains(&format!("library/{what}"));
        wait_until(&format!("a line about the {what} one"), || server.said().lines().any(named));
        for path in ["/api/show", "/api/generate"] {
            let (status, answer) = server.post(path, json!({"model": name(what)})).await;
            assert_eq!(status, 500, "{what}: {answer}");
            assert!(answer["error"].as_str().unwrap().contains(&format!("library/{what}")), "{what}: {answer}");
            assert!(!answer.to_string().contains("nobody may read"), "{what}: {answer}");
        }
    }
    // While it is not known what is in use, nothing goes.
    let before = fs::read_dir(home.store().join("blobs")).unwrap().count();
    assert_eq!(server.delete("/api/delete", json!({"model": name("good")})).await, 200);
    assert_eq!(fs::read_dir(home.store().join("blobs")).unwrap().count(), before);
    for (what, _) in &damages {
        let (status, answer) = server.pull(&name(what)).await;
        assert_eq!(status, 200, "{what}: {answer}");
    }
    assert_eq!(check(&home.store()), damages.len());
    assert_eq!(server.names().await.len(), damages.len());
    assert_eq!(fs::read(&outside).unwrap(), ANOTHER_CONTENT);
}
