//! Clients that connect and say nothing, or say it very slowly: others are answered meanwhile, and what they hold is given
//! back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::gauges;
use super::harness::{Home, Server, send, wait_until, wrapped};

const VERSION: &[u8] = b"GET /api/version HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Whether the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let closed = match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

fn answered(stream: &mut TcpStream) {
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn l04_slow_and_silent_clients_keep_nobody_out() {
    let home = Home::new();
    let server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let files = gauges::files(server.id());
    let silent: Vec<TcpStream> = (0..300).map(|_| send(server.address(), b"")).collect();
    let mut heads: Vec<TcpStream> =
        (0..100).map(|_| send(server.address(), b"GET /api/version HTTP/1.1\r\nhost: local")).collect();
    let head = b"POST /api/show HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let bodies: Vec<TcpStream> = (0..100).map(|_| send(server.address(), head)).collect();
    // One that has asked already, and may ask again at any time.
    let mut used = send(server.address(), VERSION);
    answered(&mut used);

    // As long as the heads are waited for, and longer than a head that comes byte by byte may take.
    let mut still = 0;
    while heads.iter_mut().any(|head| !is_closed(head)) {
        assert_eq!(server.get("/api/version").await.0, 200);
        for head in &mut heads {
            head.write_all(b"h").ok();
        }
        still += 1;
        assert!(still < 300, "heads that never end are waited for");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = Vec::new();
    used.set_nonblocking(true).unwrap();
    used.read_to_end(&mut rest).unwrap_err();
    used.set_nonblocking(false).unwrap();
    used.write_all(VERSION).unwrap();
    answered(&mut used);
    assert!(gauges::files(server.id()) >= files + 400, "the others are still there");
    drop((silent, heads, bodies, used));
    wait_until("as many open files as before", || gauges::files(server.id()) <= files + 2);
}

/// Shells of macOS, and some of Linux, begin with 256 files.
#[tokio::test]
async fn few_files_at_the_start_are_no_bound() {
    let home = Home::new();
    let program = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    let limited = wrapped(&["/bin/sh", "-c", "ulimit -S -n 256; exec \"$0\" \"$@\""], &program);
    let server = Server::start_with(limited, 1);
    // It says where it listens before it takes anybody in.
    assert_eq!(server.get("/api/version").await.0, 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id().as_raw_nonzero())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] =
        [3, 4].map(|word| files.split_whitespace().nth(word).unwrap().parse::<u64>().unwrap_or(u64::MAX));
    assert_eq!(soft, hard.min(16_384));
}

/// With few files to open, those who use their connections have precedence.
#[tokio::test]
async fn idle_connections_make_room_for_others() {
    let home = Home::new();
    let program = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    let limited = wrapped(&["/bin/sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""], &program);
    let server = Server::start_with(limited, 1);
    let (mut idle, mut kept) = (Vec::new(), 0);
    for _ in 0..350 {
        idle.push(send(server.address(), b""));
        // Each finds its place before the next one comes.
        let mut asks = send(server.address(), VERSION);
        answered(&mut asks);
        kept += usize::from(!is_closed(idle.last_mut().unwrap()));
    }
    assert!(is_closed(&mut idle[0]), "the first have been closed");
    // Where the machine takes its time, one may be old enough to go at once.
    assert!(kept > 250, "of those that had just come {kept} were kept");
    assert!(gauges::files(server.id()) < 200);
}

/// The status, the head and the JSON of an answer after which the connection is closed.
fn told(stream: &mut TcpStream) -> (String, String, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head[..head.find("\r\n").unwrap()].to_owned(), head.to_lowercase(), serde_json::from_str(body).unwrap())
}

/// With all connections in use, who comes is told so at once; when one is free again, who comes is served.
#[tokio::test]
async fn who_finds_all_connections_in_use_is_told_so() {
    const TEXT: &str = "server busy, please try again.  maximum pending requests exceeded";
    let home = Home::new();
    let program = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    let limited = wrapped(&["/bin/sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""], &program);
    let server = Server::start_with(limited, 1);
    // Their requests have begun and do not end.
    let head = b"POST /api/show HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let mut used: Vec<TcpStream> = (0..100).map(|_| send(server.address(), head)).collect();
    let files = gauges::files(server.id());
    let begun = std::time::Instant::now();
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let body = format!("{{\"messages\": \"{}\"}}", "x".repeat(100_000));
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        let (status, head, body) = told(&mut send(server.address(), (head + &body).as_bytes()));
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{path}");
        assert!(head.contains("\r\nconnection: close"), "{head}");
        match path {
            "/api/chat" => assert_eq!(body, json!({ "error": TEXT })),
            _ => assert_eq!(body["error"]["message"], TEXT, "{body}"),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "nobody waits until a body is given up");
    // Some who then say nothing hold neither files nor the others up.
    let silent: Vec<TcpStream> = (0..60).map(|_| send(server.address(), b"")).collect();
    assert_eq!(told(&mut send(server.address(), VERSION)).0, "HTTP/1.1 503 Service Unavailable");
    assert!(gauges::files(server.id()) < 200);
    drop(silent);
    wait_until("those who said nothing to be gone", || gauges::files(server.id()) <= files);
    drop(used.pop());
    wait_until("a free place", || {
        let mut asks = send(server.address(), VERSION);
        let mut answer = [0; 12];
        asks.read_exact(&mut answer).unwrap();
        &answer == b"HTTP/1.1 200"
    });
}
