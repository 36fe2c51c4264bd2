//! Servers that are not there, or whose answers never begin.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::super::raw::{self, Raw};
use super::super::{Bench, collect};
use crate::types::ModelName;

/// The error of a pull over HTTPS, and how long it took.
async fn over_tls(bench: &Bench, name: &str) -> (String, Duration) {
    let start = Instant::now();
    let ended = collect(bench.puller.pull(ModelName::parse(name).unwrap(), false)).await.1;
    (ended.expect_err("the pull should fail").to_string(), start.elapsed())
}

#[tokio::test]
async fn f40_nobody_there() {
    let bench = Bench::with(|settings| settings.connect = Duration::from_secs(10));
    let (error, time) = over_tls(&bench, "registry.invalid/team/tiny:latest").await;
    assert!(error.starts_with("pull model manifest: Get \"https://registry.invalid/v2/team/tiny/"), "{error}");
    assert!(time < Duration::from_secs(30));
    let (error, _) = over_tls(&bench, "127.0.0.1:9/team/tiny:latest").await;
    assert!(error.ends_with("connect: connection refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn f40_a_handshake_that_does_not_begin() {
    let silent = Raw::new(|mut stream| async move {
        let mut nothing = Vec::new();
        stream.read_to_end(&mut nothing).await.ok();
    })
    .await;
    let bench = Bench::with(|settings| settings.header = Duration::from_secs(30));
    let (error, time) = over_tls(&bench, &silent.name()).await;
    assert!(error.contains("timed out"), "{error}");
    assert!(time < Duration::from_secs(30), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn f41_a_head_that_drips() {
    let registry = Raw::new(|mut stream| async move {
        raw::request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        while stream.write_all(b"x-more: to come\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    let bench = Bench::with(|settings| settings.header = Duration::from_secs(30));
    let start = Instant::now();
    assert_eq!(bench.error(&registry.name()).await, "pull model manifest: no data for 30 seconds");
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
}

#[tokio::test]
async fn f41_a_head_of_a_megabyte() {
    let registry = Raw::new(|mut stream| async move {
        raw::request(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\nx-more: {}\r\n\r\n", "x".repeat(1 << 20));
        stream.write_all(head.as_bytes()).await.ok();
    })
    .await;
    let error = Bench::new().error(&registry.name()).await;
    assert!(error.contains("message head is too large"), "{error}");
}
