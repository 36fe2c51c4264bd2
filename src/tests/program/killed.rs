//! A pull that is killed, over and over: what has a name is whole at every moment, what has come is not fetched
//! again, and in the end the model is there without anybody's help.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use super::harness::{Home, PATIENCE, Server};
use super::served::{Registry, noise};
use super::store::check;

const KILLS: u64 = 200;
/// A kill comes when so many bytes have been sent, or fewer.
const MOST: u64 = 12 << 20;
/// What a kill may cost: the bytes between the wire and the journal, on every connection.
const LOST: u64 = 4 << 20;
const PIECE: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(5);

/// Pulls until the model is there, or until that is enough. Notes how far each blob was said to be.
async fn pull(server: &Server, model: &str, enough: impl Fn() -> bool, seen: &mut HashMap<String, u64>) -> bool {
    let request = server.http.post(format!("{}/api/pull", server.urls[0]));
    let body = json!({ "model": model, "insecure": true }).to_string();
    let mut here = HashMap::new();
    let mut text = Vec::new();
    let mut answer = request.body(body).send().await.unwrap().bytes_stream();
    let mut looks = tokio::time::interval(Duration::from_millis(1));
    loop {
        let bytes = tokio::select! {
            bytes = answer.next() => bytes,
            _ = looks.tick() => if enough() { return false } else { continue },
        };
        let Some(bytes) = bytes else { return false };
        text.extend_from_slice(&bytes.unwrap());
        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&text[..at]).unwrap();
            text.drain(..=at);
            assert!(line.get("error").is_none(), "{line}");
            if line["status"] == "success" {
                return true;
            }
            let (Some(digest), Some(completed)) = (line["digest"].as_str(), line["completed"].as_u64()) else {
                continue;
            };
            let before = here.insert(digest.to_owned(), completed);
            assert!(before.is_none_or(|before| before <= completed), "progress went back from {before:?}: {line}");
            let earlier = seen.entry(digest.to_owned()).or_insert(0);
            assert!(completed + LOST >= *earlier, "{earlier} bytes had come: {line}");
            *earlier = completed;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_lose_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(200);
    let layers = [
        ("model", noise(&mut random, 40 << 20)),
        ("projector", noise(&mut random, 5 << 20)),
        ("license", b"as you like".to_vec()),
    ];
    let registry = Registry::new(&layers, PIECE, PAUSE);
    let model = format!("{}/library/random:latest", registry.serve().await);
    let home = Home::new();
    let (mut seen, mut arrived, mut interrupted) = (HashMap::new(), 0, 0);
    for kill in 0..KILLS {
        let server = Server::start(&home);
        let (before, more) = (registry.sent(), u64::from(random.next_u32()) % MOST);
        let whole = pull(&server, &model, || registry.sent() >= before + more, &mut seen).await;
        // Dropped, the server is killed: SIGKILL, in whatever it does.
        drop(server);
        interrupted += u64::from(!whole && registry.sent() > before);
        let manifests = check(&home.store());
        assert!(manifests == 1 || !whole, "kill {kill}: success was said, and there is no model");
        if manifests == 1 {
            arrived += 1;
            home.good(&["rm", &model]);
            seen.clear();
        }
    }
    let server = Server::start(&home);
    let last = tokio::time::timeout(PATIENCE, pull(&server, &model, || false, &mut seen));
    assert!(last.await.unwrap(), "it did not end");
    assert_eq!(check(&home.store()), 1);
    let (sent, wanted) = (registry.sent(), registry.size() * (arrived + 1));
    println!("{interrupted} of {KILLS} in mid-transfer, {arrived} models arrived; {sent} bytes sent for {wanted}");
    assert!(interrupted >= KILLS / 10, "only {interrupted} kills fell into a transfer");
    assert!(sent <= wanted + interrupted * LOST, "{sent} bytes were sent for {wanted}");
    drop(server);
    assert_eq!(std::fs::read_dir(home.store().join("blobs")).unwrap().count(), 4, "nothing is left behind");
}
