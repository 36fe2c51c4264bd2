//! Pulls that must not begin, and registries that say no.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;

use super::Bench;
use super::faults::first;
use super::registry::{Content, Registry, redirect};

#[tokio::test]
async fn a_busy_registry_gets_time() {
    let content = Content::new(&[1000]);
    let (honest, busy) = (content.clone(), first(2));
    let registry = Registry::new(move |seen| match busy() {
        true => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "busy").into_response(),
        false => honest.serve(seen),
    })
    .await;
    Bench::that_brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn what_a_registry_says_no_with() {
    let cases: [(u16, &str, &str); 4] = [
        (404, "x", "pull model manifest: file does not exist"),
        (412, "{\"errors\":1}", "pull model manifest: 412: {\"errors\":1}"),
        (403, "no\u{7}", "pull model manifest: 403: no"),
        (204, "", "pull model manifest: the server's answer is broken: status 204 for a manifest"),
    ];
    for (status, body, error) in cases {
        let registry = Registry::new(move |_| (StatusCode::from_u16(status).unwrap(), body).into_response()).await;
        let bench = Bench::new();
        assert_eq!(bench.error(&registry.name()).await, error);
        assert_eq!(registry.seen().len(), 1);
    }
    // A blob that is refused is not asked for again and again.
    let content = Content::new(&[1000]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => (StatusCode::NOT_FOUND, "gone").into_response(),
        false => honest.serve(seen),
    })
    .await;
    assert_eq!(Bench::new().error(&registry.name()).await, "404: gone");
    assert_eq!(registry.blobs_seen().len(), 1);

    assert_eq!(
        Bench::new().error("127.0.0.1:9/library/x:latest").await,
        "pull model manifest: Get \"http://127.0.0.1:9/v2/library/x/manifests/latest\": \
         dial tcp 127.0.0.1:9: connect: connection refused"
    );
    assert_eq!(
        Bench::new().error("169.254.169.254/library/x:latest").await,
        "pull model manifest: refused to go to 169.254.169.254: a link-local address"
    );
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_seen_first() {
    let content = Content::new(&[1000]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::with(|settings| settings.reserve = u64::MAX / 2);
    let error = bench.error(&registry.name()).await;
    assert!(error.starts_with("not enough disk space: 1023 bytes are needed, "), "{error}");
    assert!(registry.blobs_seen().is_empty());
}

#[tokio::test]
async fn only_the_registries_that_are_allowed() {
    let content = Content::new(&[1000]);
    let registry = Registry::honest(&content).await;
    let only = |hosts: &str| Bench::with(|settings| settings.hosts = hosts.parse().unwrap());
    let host = registry.address;
    let refused = |host| format!("refused to go to {host}: not among the hosts of HANZOD_PULL_HOSTS");
    let error = only("default,registry.example").error(&registry.name()).await;
    assert_eq!(error, format!("pull model manifest: {}", refused(host)));
    assert!(registry.seen().is_empty());
    only(&format!("default,{host}")).pull(&registry.name()).await.1.unwrap();

    // Nor is one gone to that an allowed one names.
    let elsewhere = Registry::honest(&content).await;
    let (other, honest) = (elsewhere.address, content.clone());
    let registry = Registry::new(move |seen| match seen.is_blob() {
        true => redirect(307, &format!("http://{other}{}", seen.path)),
        false => honest.serve(seen),
    })
    .await;
    assert_eq!(only(&registry.address.to_string()).error(&registry.name()).await, refused(other));
    assert!(elsewhere.seen().is_empty());
    only(&format!("{},{other}", registry.address)).pull(&registry.name()).await.1.unwrap();
}
