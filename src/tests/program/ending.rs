//! How the server ends: what runs may end, nothing new begins, and it says that all went well.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hanzod::types::Digest;
use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::harness::{Home, Server, send, wait_until};
use super::store::check;

/// Tells the server to stop and waits until it takes nobody in any more.
fn stop(server: &Server, signal: Signal) {
    kill_process(server.id(), signal).unwrap();
    wait_until_closed(server);
}

fn wait_until_closed(server: &Server) {
    wait_until("no more connections", || TcpStream::connect(server.address()).is_err());
}

#[test]
fn idle_connections_do_not_hold_it_up() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let server = Server::start(&home);
        let _silent = send(server.address(), b"");
        let mut used = send(server.address(), b"GET /api/version HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut answer = [0; 15];
        used.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let start = Instant::now();
        stop(&server, signal);
        assert_eq!(server.ended().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(20), "it waited for connections that ask for nothing");
    }
}

#[test]
fn a_signal_right_after_the_start_is_heard() {
    let home = Home::new();
    for _ in 0..5 {
        let server = Server::start(&home);
        kill_process(server.id(), Signal::TERM).unwrap();
        assert_eq!(server.ended().code(), Some(0));
    }
}

/// `hanzod serve 2>&1 | head -2`, and log collectors that die.
#[test]
fn it_goes_on_when_nobody_reads_its_log() {
    use std::io::{BufRead as _, BufReader};
    let home = Home::new();
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| Some(line.strip_prefix("hanzod is listening on http://")?.to_owned())).unwrap();
    drop(lines);
    for _ in 0..3 {
        let mut used = send(&address, b"GET /api/version HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        used.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 OK"), "{answer}");
    }
    kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

const CONTENT: &[u8] = b"half and half";

/// An upload of which the server has the first half.
fn half_an_upload(home: &Home, server: &Server) -> TcpStream {
    let (digest, length) = (Digest::of(CONTENT), CONTENT.len());
    let head = format!("POST /api/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    let upload = send(server.address(), &[head.as_bytes(), &CONTENT[..4]].concat());
    let blobs = home.store().join("blobs");
    wait_until("the upload's beginning", || std::fs::read_dir(&blobs).is_ok_and(|mut files| files.next().is_some()));
    upload
}

#[test]
fn a_request_that_has_begun_is_answered() {
    let home = Home::new();
    let server = Server::start(&home);
    let mut upload = half_an_upload(&home, &server);
    stop(&server, Signal::TERM);
    upload.write_all(&CONTENT[4..]).unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(server.ended().code(), Some(0));
    let blob = home.store().join("blobs").join(Digest::of(CONTENT).file_name());
    assert_eq!(std::fs::read(blob).unwrap(), CONTENT);
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let home = Home::new();
    let server = Server::start(&home);
    let _upload = half_an_upload(&home, &server);
    let start = Instant::now();
    stop(&server, Signal::INT);
    kill_process(server.id(), Signal::INT).unwrap();
    assert_eq!(server.ended().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "it waited for the upload all the same");
}

/// A registry that begins to send a blob and never ends.
async fn stuck_registry() -> String {
    use axum::body::Body;
    use axum::response::IntoResponse as _;
    use futures_util::{StreamExt as _, stream};

    let digest = Digest::of(CONTENT);
    let layer =
        json!({"mediaType": "application/vnd.ollama.image.model", "digest": digest.to_string(), "size": 1 << 20});
    let config = json!({"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest.to_string(),
        "size": 1 << 20});
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).to_string();
    let answer = move |request: axum::extract::Request| async move {
        if request.uri().path().contains("/manifests/") {
            return manifest.into_response();
        }
        let bytes = stream::iter([Ok::<_, std::convert::Infallible>(vec![0; 1000])]).chain(stream::pending());
        ([("content-length", (1 << 20).to_string())], Body::from_stream(bytes)).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l12_a_pull_that_hangs_is_cut_off() {
    let address = stuck_registry().await;
    let home = Home::new();
    let server = Server::start(&home);
    let request = json!({"model": format!("{address}/library/x"), "insecure": true}).to_string();
    let head = format!("POST /api/pull HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", request.len());
    let pull = std::io::BufReader::new(send(server.address(), (head + &request).as_bytes()));
    let mut lines = std::io::BufRead::lines(pull);
    assert!(lines.any(|line| line.unwrap().contains("\"total\"")), "it has begun");
    stop(&server, Signal::TERM);
    kill_process(server.id(), Signal::TERM).unwrap();
    assert_eq!(server.ended().code(), Some(0));
    assert_eq!(check(&home.store()), 0);
    // The next one finds nothing wrong.
    assert_eq!(home.good(&["list"]).lines().count(), 1);
}

#[test]
fn l12_what_is_being_made_is_made_whole_or_not_at_all() {
    for millis in [0, 20, 40, 80, 160] {
        let home = Home::new();
        let server = Server::start(&home);
        let modelfile = home.modelfile("tiny", "tiny-f16.gguf");
        let mut create = server.command(&home, &["create", "tiny", "-q", "q4_K_M", "-f", modelfile.to_str().unwrap()]);
        let mut create = create.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        stop(&server, Signal::TERM);
        let children = super::harness::children(server.id());
        assert_eq!(server.ended().code(), Some(0));
        // A server that takes nobody in ends what it has begun, and its client is told.
        let made = create.wait().unwrap().success();
        let there = home.good(&["list"]).contains("tiny:latest");
        assert!(there || !made, "success was said, and there is no model");
        assert_eq!(check(&home.store()), usize::from(there));
        wait_until("the end of its children", || {
            children.iter().all(|child| super::harness::stat(child.as_raw_nonzero().get()).is_none())
        });
    }
}

#[cfg(feature = "llama")]
mod with_an_engine {
    use std::os::unix::process::CommandExt as _;

    use rustix::process::kill_process_group;

    use super::*;
    use crate::program::asking::{lives, long};
    use crate::program::harness::children;

    /// Digits of an answer: enough to be at it still when the signal comes, and few enough for a busy machine to end in time.
    const LENGTH: usize = 100;

    /// A model that is on its way when the signal comes is waited for, and so is what it was loaded for.
    #[tokio::test]
    async fn l12_a_load_that_has_begun_ends() {
        for signals in [1, 2] {
            let home = Home::new();
            home.create("tiny", "tiny-f16.gguf");
            let server = Server::start(&home);
            let request = json!({"model": "tiny", "prompt": "Ping", "think": false, "stream": false}).to_string();
            let head = "POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length:";
            let mut asks = send(server.address(), format!("{head} {}\r\n\r\n{request}", request.len()).as_bytes());
            wait_until("a runner", || !children(server.id()).is_empty());
            let runner = children(server.id())[0];
            for _ in 0..signals {
                stop(&server, Signal::TERM);
            }
            let mut answer = String::new();
            asks.read_to_string(&mut answer).ok();
            assert!(signals == 2 || answer.contains("\"response\":\"Pong\""), "{answer}");
            assert_eq!(server.ended().code(), Some(0));
            wait_until("the runner's end", || !lives(runner));
        }
    }

    /// Ctrl-C in a terminal and a service manager's stop reach the children too: they must go on.
    #[tokio::test]
    async fn answers_that_run_end_whole() {
        for (signal, to_all) in [(Signal::TERM, false), (Signal::TERM, true), (Signal::INT, true)] {
            let home = Home::new();
            home.create("tiny", "tiny-f16.gguf");
            let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
            command.process_group(0);
            let server = Server::start_with(command, 1);
            let mut streams = Vec::new();
            for _ in 0..2 {
                let mut stream = server.stream("/api/generate", long("tiny", LENGTH)).await;
                let first = stream.next().await.unwrap();
                streams.push((first["response"].as_str().unwrap().to_owned(), stream));
            }
            let runners = children(server.id());
            assert_eq!(runners.len(), 1);
            match to_all {
                true => kill_process_group(server.id(), signal).unwrap(),
                false => kill_process(server.id(), signal).unwrap(),
            }
            wait_until_closed(&server);
            for (first, stream) in streams {
                let (rest, last) = stream.rest().await;
                let list: Vec<i64> = serde_json::from_str(&(first + &rest)).unwrap();
                assert_eq!((list.len(), last["done_reason"].as_str()), (LENGTH, Some("stop")), "{last}");
            }
            assert_eq!(server.ended().code(), Some(0), "{signal:?}, to all: {to_all}");
            wait_until("the runner's end", || !lives(runners[0]));
        }
    }
}
