//! Where the server listens, and what it says about it.

use std::net::TcpListener;
use std::process::Command;

use super::harness::{Home, Server, bad};

/// `serve` with these settings of the two usual addresses.
fn serve(home: &Home, own: &str, compatible: &str) -> Command {
    let mut command = home.program(&["serve"]);
    command.env("HANZOD_HOST", own).env("OLLAMA_HOST", compatible);
    command
}

/// Whether every address answers.
async fn answers(server: &Server) -> bool {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for url in &server.urls {
        let answer = http.get(format!("{url}/api/version")).send().await.unwrap();
        assert!(answer.text().await.unwrap().contains("\"version\""));
    }
    true
}

/// A port that is taken while the listener lives.
fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn two_addresses_at_once_and_each_can_be_off() {
    let home = Home::new();
    let both = Server::start_with(serve(&home, "127.0.0.1:0", "127.0.0.1:0"), 2);
    assert_ne!(both.urls[0], both.urls[1]);
    assert!(answers(&both).await);
    for (own, compatible) in [("off", "127.0.0.1:0"), ("127.0.0.1:0", "off")] {
        let one = Server::start_with(serve(&home, own, compatible), 1);
        assert!(answers(&one).await);
        assert_eq!(one.said().matches("hanzod is listening on ").count(), 1);
    }
    let nowhere = serve(&home, "off", "off").output().unwrap();
    assert!(bad(nowhere).contains("nowhere to listen"));
}

#[tokio::test]
async fn arguments_go_before_the_environment() {
    let home = Home::new();
    let (_held, address) = taken();
    let mut command = home.program(&["serve", "--host", "127.0.0.1", "--port", "0"]);
    command.env("HANZOD_HOST", &address);
    let server = Server::start_with(command, 1);
    assert!(answers(&server).await);

    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0", "--listen", "0"]);
    command.env("HANZOD_HOST", &address).env("OLLAMA_HOST", &address);
    let server = Server::start_with(command, 2);
    assert!(answers(&server).await);
    assert!(!server.said().contains(&address), "{}", server.said());
}

#[tokio::test]
async fn an_address_that_is_taken_is_left_out_and_said() {
    let home = Home::new();
    let (_held, address) = taken();
    for (own, compatible) in [("127.0.0.1:0", address.as_str()), (address.as_str(), "127.0.0.1:0")] {
        let server = Server::start_with(serve(&home, own, compatible), 1);
        assert!(answers(&server).await);
        let said = server.said();
        let about: Vec<&str> = said.lines().filter(|line| line.contains(&address)).collect();
        assert!(about.len() == 1 && about[0].contains("in use"), "{said}");
    }
    let (_other, second) = taken();
    let words = bad(serve(&home, &address, &second).output().unwrap());
    assert!(words.contains(&address) && words.contains(&second) && words.contains("in use"), "{words}");
    assert!(!words.contains("listening"), "{words}");
}

#[tokio::test]
async fn a_setting_that_cannot_be_meant_stops_the_start() {
    let home = Home::new();
    let words = bad(serve(&home, "127.0.0.1:0", "off").env("OLLAMA_NUM_PARALLEL", "many").output().unwrap());
    assert!(words.contains("OLLAMA_NUM_PARALLEL") && words.contains("many"), "{words}");
    let file = home.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let words = bad(serve(&home, "127.0.0.1:0", "off").env("OLLAMA_MODELS", &file).output().unwrap());
    assert!(words.contains("file"), "{words}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_server_is_small() {
    let home = Home::new();
    let start = std::time::Instant::now();
    let server = Server::start(&home);
    assert_eq!(server.get("/api/version").await.0, 200);
    let took = start.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id().as_raw_nonzero())).unwrap();
    let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    println!("first answer after {took:?}, idle with {memory}");
    assert!(super::harness::children(server.id()).is_empty(), "nothing is loaded, so nothing runs");
    // The log is for files as well: colours are for terminals.
    assert!(!server.said().contains('\x1b'), "{}", server.said());
}
