//! Downloads that were left, and what becomes of them as time goes by: or as a clock jumps, since their age is that of their
//! files.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::harness::{Home, PATIENCE, Server, wait_until};
use super::moving::registry;
use super::store::{check, files};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Pulls until `bytes` of the largest blob are there, and goes. Gives how many were there at first, and in the end.
async fn pull_until(server: &Server, model: &str, bytes: u64) -> (u64, u64) {
    let body = json!({"model": model, "insecure": true, "limit_rate": "4M"}).to_string();
    let request = server.http.post(format!("{}/api/pull", server.urls[0])).body(body).send();
    let mut answer = request.await.unwrap().bytes_stream();
    let (mut first, mut text) = (None, Vec::new());
    loop {
        let piece = tokio::time::timeout(PATIENCE, answer.next()).await.unwrap();
        text.extend_from_slice(&piece.expect("the pull ended too early").unwrap());
        while let Some(at) = text.iter().position(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(&text[..at]).unwrap();
            text.drain(..=at);
            assert!(line.get("error").is_none(), "{line}");
            let large = line["total"].as_u64().is_some_and(|total| total > 1 << 20);
            let Some(completed @ 1..) = line["completed"].as_u64().filter(|_| large) else { continue };
            let first = *first.get_or_insert(completed);
            if completed >= bytes {
                return (first, completed);
            }
        }
    }
}

#[tokio::test]
async fn f38_a_download_that_was_left_outlives_jumps_of_the_clock_but_not_a_week() {
    let (source, home) = (Home::new(), Home::new());
    source.create("tiny", "tiny-f16.gguf");
    let serving = registry(&source, &[("HANZOD_REGISTRY", "on")]);
    let model = format!("{}/library/tiny:latest", serving.address());
    let partials = home.store().join("hanzod/partial");
    let left = |then: SystemTime| {
        let left = files(&partials);
        assert!(!left.is_empty(), "nothing was left");
        left.iter().for_each(|file| File::open(file).unwrap().set_modified(then).unwrap());
    };

    let mut seen = pull_until(&Server::start(&home), &model, 1 << 20).await.1;
    let now = SystemTime::now();
    for then in [now - 2 * HOUR, now + 2 * HOUR, now - 7 * DAY + HOUR] {
        left(then);
        let server = Server::start(&home);
        // What the server does at its start it does once more here, so that it is known to be done.
        let (_, pruned) = server.post("/api/hanzod/prune", json!({})).await;
        assert_eq!(pruned["removed"], json!([]), "{pruned}");
        let (first, last) = pull_until(&server, &model, seen + (512 << 10)).await;
        assert!(first >= seen, "{seen} bytes had come, and it went on with {first}");
        seen = last;
    }
    left(now - 8 * DAY);
    let server = Server::start(&home);
    wait_until("the end of what was left for a week", || files(&partials).is_empty());
    let (status, answer) = server.pull(&model).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(check(&home.store()), 1);
    assert_eq!(fs::read_dir(&partials).unwrap().count(), 0);
}
