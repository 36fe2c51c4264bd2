//! Models that are carried from one machine to another: as files, and over our own registry.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hanzod::store::{Descriptor, Manifest, MediaType, Store};
use hanzod::types::ModelName;
use serde_json::Value;

use super::harness::{Home, Server, bad, good, tiny};
use crate::registry::Registry;

fn digest(home: &Home, model: &str) -> String {
    let list: Value = serde_json::from_str(&home.good(&["list", "--json"])).unwrap();
    let models = list["models"].as_array().unwrap().clone();
    let found = models.into_iter().find(|found| found["name"] == model).unwrap();
    found["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_carries_a_model_with_and_without_servers() {
    let (from, to) = (Home::new(), Home::new());
    from.create("tiny", "tiny-q4_k_m.gguf");
    let file = from.path().join("tiny.tar");
    let path = file.to_str().unwrap();
    from.good(&["export", "tiny", path]);
    assert_eq!(to.good(&["import", path]), "imported 'tiny:latest'\n");
    assert_eq!(digest(&from, "tiny:latest"), digest(&to, "tiny:latest"));

    let (one, two) = (Server::start(&from), Server::start(&to));
    let mut out = one.command(&from, &["export", "tiny", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut import = two.command(&to, &["import", "-", "Team/Second:x", "--json"]);
    let done: Value = serde_json::from_str(&good(import.stdin(out.stdout.take().unwrap()).output().unwrap())).unwrap();
    assert!(out.wait().unwrap().success());
    assert_eq!(done["models"], serde_json::json!(["Team/Second:x"]));
    assert_eq!(digest(&to, "Team/Second:x"), digest(&from, "tiny:latest"));

    let words = bad(one.command(&from, &["export", "nobody", path]).output().unwrap());
    assert!(words.contains("not found"), "{words}");
    assert!(std::fs::metadata(&file).unwrap().len() > 1 << 20, "what was there is left");
    let weights = tiny().join("tiny-q4_k_m.gguf");
    let words = bad(two.command(&to, &["import", weights.to_str().unwrap(), "x"]).output().unwrap());
    assert!(words.contains("not a model's archive"), "{words}");
}

#[test]
fn a_file_of_this_machine_is_linked() {
    let home = Home::new();
    let folder = home.path().join(".lmstudio/models/maker/Tiny-GGUF");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tiny.gguf");
    std::fs::copy(tiny().join("tiny-q4_k_m.gguf"), &file).unwrap();
    let found: Value = serde_json::from_str(&home.good(&["link", "--scan", "--json"])).unwrap();
    assert_eq!(found["files"][0]["path"], file.to_str().unwrap());
    // A server has no part in it, and finds the model all the same.
    let server = Server::start(&home);
    good(server.command(&home, &["link", file.to_str().unwrap(), "linked"]).output().unwrap());
    let words = good(server.command(&home, &["df"]).output().unwrap());
    assert!(words.contains("linked:latest"), "{words}");
    good(server.command(&home, &["verify"]).output().unwrap());
    good(server.command(&home, &["rm", "linked"]).output().unwrap());
    assert!(file.exists());
}

/// A server that serves its store to others.
pub(super) fn registry(home: &Home, settings: &[(&str, &str)]) -> Server {
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.envs(settings.iter().copied());
    Server::start_with(command, 1)
}

/// Passes bytes on to `to`, but breaks off the connection that passes `limit` bytes in all; later ones go through. Gives its own
/// address, and the count of what came back.
fn breaking(to: String, limit: u64) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let passed = Arc::new(AtomicU64::new(0));
    let counted = passed.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (to, counted) = (to.clone(), counted.clone());
            std::thread::spawn(move || {
                let mut server = TcpStream::connect(to).unwrap();
                let (mut there, mut from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut there).map(drop));
                let (mut client, mut buffer) = (client, vec![0; 16 << 10]);
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    let before = counted.fetch_add(count as u64, Ordering::SeqCst);
                    if (before < limit && before + count as u64 >= limit) || client.write_all(&buffer[..count]).is_err()
                    {
                        break;
                    }
                }
                client.shutdown(Shutdown::Both).ok();
                server.shutdown(Shutdown::Both).ok();
            });
        }
    });
    (address, passed)
}

#[tokio::test]
async fn one_server_pulls_from_another_and_goes_on_where_it_broke_off() {
    let (from, to) = (Home::new(), Home::new());
    let name = "team/large:x";
    let store = Store::open(&from.store()).unwrap();
    let size = 24 << 20;
    let layer = |kind, content: &[u8]| Descriptor::new(kind, store.blobs().put(content).unwrap(), content.len() as u64);
    let noise: Vec<u8> = (0..size as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (config, weights) = (layer(MediaType::Config, b"{}"), layer(MediaType::Model, &noise));
    store.tag(&ModelName::parse(name).unwrap(), &Manifest::new(config, vec![weights]).to_bytes()).unwrap();

    let closed = Server::start(&from);
    let words = bad(to.run(&["pull", &format!("{}/{name}", closed.address())]));
    assert!(words.contains("file does not exist"), "{words}");

    let serving = registry(&from, &[("HANZOD_REGISTRY", "on")]);
    let (address, passed) = breaking(serving.address().to_owned(), 10 << 20);
    let server = Server::start(&to);
    good(server.command(&to, &["pull", &format!("{address}/{name}")]).output().unwrap());
    let (had, has) = (digest(&from, name), digest(&to, &format!("{address}/{name}")));
    assert_eq!(had, has);
    good(server.command(&to, &["verify"]).output().unwrap());
    let passed = passed.load(Ordering::SeqCst);
    assert!(passed > 24 << 20 && passed < 36 << 20, "{passed} bytes for {size}: it did not go on where it was");
}

#[tokio::test]
async fn a_server_between_pulls_what_it_lacks_and_serves_it() {
    let (source, between, client) = (Home::new(), Home::new(), Home::new());
    source.create("tiny", "tiny-q4_k_m.gguf");
    let upstream = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let settings = [("HANZOD_REGISTRY", "pull-through"), ("HANZOD_REGISTRY_UPSTREAM", upstream.address())];
    let middle = registry(&between, &settings);
    let name = format!("{}/library/tiny:latest", middle.address());
    let two = Home::new();
    let mut other = two.program(&["pull", &name]).stderr(Stdio::null()).spawn().unwrap();
    client.good(&["pull", &name]);
    assert!(other.wait().unwrap().success());
    assert_eq!(digest(&client, &name), digest(&source, "tiny:latest"));
    assert_eq!(digest(&between, &format!("{}/library/tiny:latest", upstream.address())), digest(&client, &name));
    let missing = format!("{}/library/nobody", middle.address());
    assert!(bad(client.run(&["pull", &missing])).contains("file does not exist"));
    // What it has it serves without asking anybody.
    drop(upstream);
    client.good(&["rm", &name]);
    client.good(&["pull", &name]);
}

/// Debian's registry as a mirror of ours: a client that is not our own.
#[test]
fn a_real_registry_mirrors_ours() {
    let (source, client) = (Home::new(), Home::new());
    source.create("tiny", "tiny-q4_k_m.gguf");
    let serving = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let more = format!("proxy:\n  remoteurl: {}\n", serving.urls[0]);
    let Some(mirror) = Registry::start_with(source.path(), &more) else { return };
    let name = format!("{}/library/tiny:latest", mirror.address);
    client.good(&["pull", &name]);
    drop(mirror);
    assert_eq!(digest(&client, &name), digest(&source, "tiny:latest"));
    client.good(&["verify"]);
}
