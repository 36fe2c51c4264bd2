//! Many clients that create, copy, pull and remove models of one server, all at once and as chance has it; then the store is
//! looked through.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use hanzod::store::Layout;
use hanzod::types::{Digest, ModelName};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use super::damaged::is_whole;
use super::harness::{Home, Server, tiny};
use super::moving::registry;
use super::store::check;

const CLIENTS: u64 = 16;
/// Of each.
const REQUESTS: usize = 25;

/// What the clients have to hand.
struct Scene<'a> {
    server: &'a Server,
    /// Of the server that is pulled from.
    origin: &'a str,
    /// Files that are uploaded, each of another digest.
    files: Vec<Vec<u8>>,
}

/// What was asked, and whether it went well.
type Deed = (&'static str, bool);

impl Scene<'_> {
    async fn deed(&self, random: &mut ChaCha8Rng) -> Deed {
        let mut below = |count: u32| random.next_u32() % count;
        let mut name = || format!("storm-{}", below(6));
        let (one, two) = (name(), name());
        let pulled = format!("{}/library/{}:latest", self.origin, ["tiny", "other", "third"][below(3) as usize]);
        let system = format!("You are number {}.", below(4));
        let file = &self.files[below(3) as usize];
        match below(8) {
            0 => {
                let request = json!({"model": one, "from": "kept", "system": system, "stream": false});
                self.post("create from what is kept", "/api/create", request, &[]).await
            }
            1 => {
                let request = json!({"model": one, "from": two, "system": system, "stream": false});
                // What is absent is looked for where models come from; what goes meanwhile is missed.
                let excuses = ["file does not exist", "not found", "is missing", "o such file"];
                self.post("create from what may go", "/api/create", request, &excuses).await
            }
            2 => self.upload(&one, file).await,
            3 => {
                let request = json!({"source": one, "destination": two});
                self.post("copy", "/api/copy", request, &["not found", "is missing"]).await
            }
            4 | 5 => self.delete("remove", &one).await,
            6 => {
                let request = json!({"model": pulled, "insecure": true, "stream": false});
                self.post("pull", "/api/pull", request, &[]).await
            }
            _ => self.delete("remove what was pulled", &pulled).await,
        }
    }

    /// Errors are right that say one of `excuses`.
    async fn post(&self, what: &'static str, path: &str, request: Value, excuses: &[&str]) -> Deed {
        let (status, answer) = self.server.post(path, request.clone()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 200 || excuses.iter().any(|excuse| error.contains(excuse)), "{request}: {status} {answer}");
        (what, status == 200)
    }

    async fn upload(&self, model: &str, file: &[u8]) -> Deed {
        let digest = Digest::of(file);
        let (status, answer) = self.server.post(&format!("/api/blobs/{digest}"), file).await;
        assert!([200, 201].contains(&status), "{status} {answer}");
        let request = json!({"model": model, "files": {"model.gguf": digest.to_string()}, "stream": false});
        // No name leads to an upload until the model is made: a removal may take it along.
        self.post("create from an upload", "/api/create", request, &["o such file", "is missing"]).await
    }

    async fn delete(&self, what: &'static str, model: &str) -> Deed {
        let status = self.server.delete("/api/delete", json!({"model": model})).await;
        assert!([200, 404].contains(&status), "{model}: {status}");
        (what, status == 200)
    }
}

/// The tiny model under another name in its own metadata.
fn files_to_upload() -> Vec<Vec<u8>> {
    let content = fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap();
    let key = b"general.name";
    let at = content.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    // Behind the key its type and its length stand, four and eight bytes.
    let file = |letter: u8| [&content[..at + 12], &[letter], &content[at + 13..]].concat();
    (b'a'..=b'c').map(file).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f39_a_storm_leaves_a_sound_store() {
    let (source, home) = (Home::new(), Home::new());
    source.create("tiny", "tiny-q4_k_m.gguf");
    source.create("other", "tiny-q8_0.gguf");
    let serving = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let third = json!({"model": "third", "from": "tiny", "system": "Be third.", "stream": false});
    assert_eq!(serving.post("/api/create", third).await.0, 200);
    home.create("kept", "tiny-q4_k_m.gguf");
    home.create("lonely", "tiny-f16.gguf");
    let manifest = |model: &str| {
        let path = Layout::new(&home.store()).manifest(&ModelName::parse(model).unwrap());
        (fs::metadata(&path).unwrap().modified().unwrap(), fs::read(path).unwrap())
    };
    let before = ["kept", "lonely"].map(manifest);

    let server = registry(&home, &[("HANZOD_DEFAULT_REGISTRY", &serving.urls[0])]);
    let scene = Scene { server: &server, origin: serving.address(), files: files_to_upload() };
    let client = async |number: u64| {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let mut deeds = Vec::new();
        for _ in 0..REQUESTS {
            deeds.push(scene.deed(&mut random).await);
        }
        deeds
    };
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (what, well) in join_all((0..CLIENTS).map(&client)).await.into_iter().flatten() {
        let (good, all) = counts.entry(what).or_default();
        (*good, *all) = (*good + u32::from(well), *all + 1);
    }
    println!("{counts:?}");
    assert!(counts.len() == 7 && counts.values().all(|(good, _)| *good > 0), "{counts:?}");

    let look = async |server: &Server| {
        let names = server.names().await;
        assert_eq!(check(&home.store()), names.len(), "every manifest is whole, and listed");
        for name in &names {
            assert_eq!(server.post("/api/show", json!({"model": name})).await.0, 200, "{name}");
        }
        let (_, verified) = server.post("/api/hanzod/verify", json!({"stream": false})).await;
        assert_eq!((&verified["status"], &verified["damaged"]), (&json!("success"), &json!([])), "{verified}");
        assert_eq!(["kept", "lonely"].map(manifest), before, "what nobody touched is as it was");
        names
    };
    let names = look(&server).await;
    // What no model names is young, and goes once it is not.
    let two_days_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    for blob in fs::read_dir(home.store().join("blobs")).unwrap().flatten() {
        File::open(blob.path()).unwrap().set_modified(two_days_ago).unwrap();
    }
    let (_, pruned) = server.post("/api/hanzod/prune", json!({"partials_older_than": "0"})).await;
    assert_eq!(pruned["kept"], Value::Null, "{pruned}");
    let (_, room) = server.get("/api/hanzod/df").await;
    assert_eq!(room["loose"], json!([]), "{room}");
    assert_eq!(look(&server).await, names);
    drop(server);
    let server = Server::start(&home);
    assert_eq!(look(&server).await, names);
    for model in ["kept", "lonely"] {
        is_whole(&server, model).await;
    }
}
