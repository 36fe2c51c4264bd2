//! Stores that take nothing, or not all: read-only, forbidden, full, on an overlay; and a server that has no more file
//! descriptors. What is there is served, what cannot be done is said, and it goes well once there is room.
//!
//! What is mounted is mounted in a namespace of the server's own: nothing of it outlives the server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hanzod::types::Digest;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use super::damaged::{is_whole, with_rights};
use super::harness::{Home, Server, Talk, good, tiny, wrapped};
use super::moving::registry;
use super::store::{check, files};

/// A server that finds `mounts` done: commands of a shell, which knows the store as `$1`. `None`, and said why, where nobody
/// may mount.
fn mounted(home: &Home, mounts: &str) -> Option<Server> {
    fs::create_dir_all(home.store()).unwrap();
    let store = home.store().display().to_string();
    let own: &[&str] = match rustix::process::geteuid().is_root() {
        true => &["unshare", "--mount"],
        false => &["unshare", "--mount", "--map-root-user"],
    };
    let script = |then: &str| format!("set -e; {mounts}; {then}");
    let probe = script("true");
    let probe = Command::new(own[0]).args(&own[1..]).args(["sh", "-c", &probe, "sh", &store]).output();
    match probe {
        Ok(done) if done.status.success() => {}
        Ok(done) => {
            println!("skipped: this needs root, or mounts in namespaces: {}", String::from_utf8_lossy(&done.stderr));
            return None;
        }
        Err(error) => {
            println!("skipped: `unshare`: {error}");
            return None;
        }
    }
    let script = script("shift; exec \"$@\"");
    let wrapper = [own, &["sh", "-c", &script, "sh", &store]].concat();
    Some(Server::start_with(wrapped(&wrapper, &home.program(&["serve", "--listen", "127.0.0.1:0"])), 1))
}

/// The store as the server sees it.
fn seen_by(server: &Server, home: &Home) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", server.id().as_raw_nonzero()));
    root.join(home.store().strip_prefix("/").unwrap())
}

/// A server with `tiny` and `other`, which have no weights in common, for others to pull from.
fn source(home: &Home) -> Server {
    home.create("tiny", "tiny-q4_k_m.gguf");
    home.create("other", "tiny-q8_0.gguf");
    registry(home, &[("HANZOD_REGISTRY", "on")])
}

fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

/// All that reads goes well, and all that writes is refused with these words.
async fn only_reads(server: &mut Server, serving: &Server, refusal: &str) {
    let models = ["folder:latest", "tiny:latest"];
    assert_eq!(server.names().await, models);
    for model in models {
        let (status, about) = server.post("/api/show", json!({"model": model})).await;
        assert_eq!(status, 200, "{about}");
        assert!(
            about["capabilities"].as_array().unwrap().contains(&json!("tools")),
            "its weights' template is read: {about}"
        );
    }
    is_whole(server, "tiny").await;
    #[cfg(feature = "mistral")]
    assert_eq!(ask(server, "folder").await, "Pong");

    let there = Digest::of(&fs::read(tiny().join("tiny-q4_k_m.gguf")).unwrap()).to_string();
    let absent = format!("/api/blobs/{}", Digest::of(b"absent"));
    let name = |model: &str| format!("{}/library/{model}:latest", serving.address());
    // Of `tiny` all is there but the name.
    for model in ["tiny", "other"] {
        let (status, answer) = server.pull(&name(model)).await;
        assert!(status == 500 && error(&answer).contains(refusal), "{model}: {status} {answer}");
    }
    for (path, request) in [
        ("/api/create", json!({"model": "new", "from": "tiny", "system": "Be new.", "stream": false})),
        ("/api/create", json!({"model": "new", "files": {"a.gguf": there}, "stream": false})),
        ("/api/copy", json!({"source": "tiny", "destination": "new"})),
        (&absent, json!("absent")),
    ] {
        let (status, answer) = server.post(path, request.clone()).await;
        // JSON's text of the last one is another content: it must not even come to that.
        assert!(status == 500 && error(&answer).contains(refusal), "{path} {request}: {status} {answer}");
    }
    let (status, answer) = server.remove("tiny").await;
    assert!(status == 500 && error(&answer).contains(refusal), "{status} {answer}");
    let (status, answer) = server.post("/api/hanzod/prune", json!({"partials_older_than": "0"})).await;
    assert_eq!((status, &answer["removed"]), (200, &json!([])), "{answer}");
    let (_, answer) = server.post("/api/hanzod/verify", json!({"stream": false})).await;
    assert_eq!(answer["status"], "success", "{answer}");
    assert_eq!(server.names().await, models);
    assert!(server.is_running());
}

impl Server {
    async fn remove(&self, model: &str) -> (u16, Value) {
        let request = self.http.delete(format!("{}/api/delete", self.urls[0]));
        let answer = request.body(json!({"model": model}).to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

#[cfg(feature = "mistral")]
async fn ask(server: &Server, model: &str) -> String {
    let messages = json!([{"role": "user", "content": "Ping"}]);
    let request = json!({"model": model, "messages": messages, "think": false, "stream": false,
                         "options": {"temperature": 0}});
    let (status, answer) = server.post("/api/chat", request).await;
    assert_eq!(status, 200, "{answer}");
    answer["message"]["content"].as_str().unwrap().to_owned()
}

/// A home with a model of each kind of weights, of which no server has had a look yet.
fn home() -> Home {
    let home = Home::new();
    home.create("tiny", "tiny-q4_k_m.gguf");
    let folder = tiny().join("tiny-safetensors");
    good(home.program(&["create", "folder"]).current_dir(folder).output().unwrap());
    fs::remove_dir_all(home.store().join("hanzod")).unwrap();
    home
}

#[tokio::test]
async fn f33_a_store_that_is_mounted_read_only() {
    let (from, home) = (Home::new(), home());
    let serving = source(&from);
    let before = files(&home.store());
    let mounts = "mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\"";
    let Some(mut server) = mounted(&home, mounts) else { return };
    only_reads(&mut server, &serving, "Read-only file system").await;
    assert_eq!(files(&home.store()), before);
}

/// The folders below one, and itself.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    below.flat_map(|folder| folders(&folder)).chain([folder.to_owned()]).collect()
}

#[tokio::test]
async fn f32_f33_a_store_in_which_nothing_may_be_written() {
    let (from, home) = (Home::new(), home());
    let serving = source(&from);
    let before = files(&home.store());
    let rights = |mode: u32| {
        folders(&home.store()).iter().for_each(|path| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap());
    };
    rights(0o555);
    let mut server = Server::start_with(with_rights(&home), 1);
    only_reads(&mut server, &serving, "Permission denied").await;
    assert_eq!(files(&home.store()), before);
    rights(0o755);
    let name = format!("{}/library/other:latest", serving.address());
    assert_eq!(server.pull(&name).await.0, 200);
    assert_eq!(server.remove("folder").await.0, 200);
    assert_eq!(check(&home.store()), 2);
    is_whole(&server, &name).await;
}

#[tokio::test]
async fn f32_a_disk_without_room_for_another_file() {
    let (from, home) = (Home::new(), Home::new());
    let serving = source(&from);
    let [tiny, other] = ["tiny", "other"].map(|model| format!("{}/library/{model}:latest", serving.address()));
    let Some(mut server) = mounted(&home, "mount -t tmpfs -o size=512m,nr_inodes=100 tmpfs \"$1\"") else { return };
    let store = seen_by(&server, &home);
    assert_eq!(server.pull(&tiny).await.0, 200);
    let fillers: Vec<PathBuf> = (0..).map(|number| store.join(format!("filler-{number}"))).take(100).collect();
    let fillers: Vec<PathBuf> = fillers.into_iter().take_while(|path| fs::write(path, b"").is_ok()).collect();
    assert!(fillers.len() < 100, "there is always room");

    // A little more room each time, until there is enough.
    let (mut refused, mut partials) = (0, 0);
    for filler in &fillers {
        let (status, answer) = server.pull(&other).await;
        if status == 200 {
            break;
        }
        assert!(error(&answer).contains("No space left on device"), "{status} {answer}");
        refused += 1;
        assert_eq!(server.names().await, [&*tiny]);
        assert_eq!(check(&store), 1);
        partials += usize::from(!files(&store.join("hanzod/partial")).is_empty());
        fs::remove_file(filler).unwrap();
    }
    assert!(refused > 3, "it was refused {refused} times only");
    assert!(partials > 0, "what had come was kept");
    assert_eq!(check(&store), 2);
    assert!(files(&store.join("hanzod/partial")).is_empty());
    assert!(server.is_running());
    for model in [&tiny, &other] {
        is_whole(&server, model).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f32_a_server_without_another_file_descriptor() {
    let (from, home) = (Home::new(), Home::new());
    let serving = source(&from);
    let name = format!("{}/library/other:latest", serving.address());
    home.create("tiny", "tiny-q4_k_m.gguf");
    let mut server = Server::start(&home);
    let limit = getrlimit(Resource::Nofile);
    let allow = |most: Option<u64>| {
        prlimit(Some(server.id()), Resource::Nofile, Rlimit { current: most, ..limit }).unwrap();
    };
    let mut talk = Talk::with(&server);
    assert_eq!(talk.post("/api/show", json!({"model": "tiny"})).0, 200);

    // The first limit is below what is open already, so that nothing more can be. Then one more each time, until it is enough.
    const FIRST: u64 = 4;
    let open = fs::read_dir(format!("/proc/{}/fd", server.id().as_raw_nonzero())).unwrap().count() as u64;
    assert!(open > FIRST, "{open} descriptors are open");
    let pull = json!({"model": name, "insecure": true, "stream": false});
    let (mut most, mut refused) = (FIRST, 0);
    loop {
        allow(Some(most));
        let (status, answer) = talk.post("/api/pull", pull.clone());
        if status == 200 {
            break;
        }
        // Certificates that cannot be read are named as such.
        let lacking = error(&answer).contains("Too many open files");
        let told = lacking || error(&answer).contains("cannot start the HTTP client");
        assert!(status == 500 && told, "of {most}: {status} {answer}");
        refused += usize::from(lacking);
        assert!(most < open + 100, "of {most} descriptors, {open} of them for others, not enough for a pull");
        // What is known needs no descriptor.
        assert_eq!(talk.post("/api/show", json!({"model": "tiny"})).0, 200);
        most += 1;
    }
    assert!(refused > 0, "a connection was all that a pull needs");
    assert_eq!(check(&home.store()), 2);
    allow(limit.maximum);
    assert!(server.is_running());
    is_whole(&server, &name).await;
}

#[tokio::test]
async fn f42_a_store_on_an_overlay() {
    let (from, image) = (Home::new(), Home::new());
    let serving = source(&from);
    let other = format!("{}/library/other:latest", serving.address());
    // As a container sees models that came in its image.
    image.create("tiny", "tiny-q4_k_m.gguf");
    let before = files(&image.store());
    let mounts = "mkdir -p \"$1-above\"; mount -t tmpfs tmpfs \"$1-above\"; mkdir \"$1-above/upper\" \"$1-above/work\"; \
                  mount -t overlay overlay -o \"lowerdir=$1,upperdir=$1-above/upper,workdir=$1-above/work\" \"$1\"";
    let Some(server) = mounted(&image, mounts) else { return };
    let store = seen_by(&server, &image);
    is_whole(&server, "tiny").await;
    assert_eq!(server.pull(&other).await.0, 200);
    assert_eq!(server.post("/api/copy", json!({"source": "tiny", "destination": "second"})).await.0, 200);
    let create = json!({"model": "third", "from": "tiny", "system": "Be third.", "stream": false});
    assert_eq!(server.post("/api/create", create).await.0, 200);
    for model in ["tiny", "second"] {
        assert_eq!(server.remove(model).await.0, 200);
    }
    assert_eq!(check(&store), 2);
    for model in ["third", &other] {
        is_whole(&server, model).await;
        assert_eq!(server.remove(model).await.0, 200);
    }
    assert!(files(&store.join("blobs")).is_empty() && files(&store.join("manifests")).is_empty());
    // What went came from below, and is there to come again.
    let name = format!("{}/library/tiny:latest", serving.address());
    assert_eq!(server.pull(&name).await.0, 200);
    is_whole(&server, &name).await;
    assert_eq!(check(&store), 1);
    assert_eq!(files(&image.store()), before);
}
