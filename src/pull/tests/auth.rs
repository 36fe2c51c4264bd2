//! Tokens: how they are got, and where they do not go.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use super::super::{Credentials, Secret};
use super::registry::{Content, Registry, Seen, redirect};
use super::{Bench, RANGE};
use crate::types::Digest;

const LARGE: usize = 4 * RANGE as usize;

fn challenge(text: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, text.to_owned())]).into_response()
}

fn own_host(seen: &Seen) -> String {
    let host = seen.header("host").unwrap();
    challenge_text(&format!("http://{host}/token"))
}

fn challenge_text(realm: &str) -> String {
    format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"repository:team/tiny:pull\"")
}

/// Each token is good for `uses` requests.
async fn guarded(content: &Content, uses: usize, grant: impl Fn(&Seen) -> bool + Send + Sync + 'static) -> Registry {
    let (honest, issued, used) = (content.clone(), AtomicUsize::new(0), AtomicUsize::new(0));
    Registry::new(move |seen| {
        if seen.path == "/token" {
            if !grant(seen) {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            used.store(0, Ordering::Relaxed);
            return format!("{{\"token\":\"t{}\"}}", issued.fetch_add(1, Ordering::Relaxed) + 1).into_response();
        }
        let good = format!("Bearer t{}", issued.load(Ordering::Relaxed));
        if seen.header("authorization") == Some(&good) && used.fetch_add(1, Ordering::Relaxed) < uses {
            return honest.serve(seen);
        }
        challenge(&own_host(seen))
    })
    .await
}

fn tokens(registry: &Registry) -> Vec<Seen> {
    registry.seen().into_iter().filter(|seen| seen.path == "/token").collect()
}

#[tokio::test]
async fn a_token_for_a_signature() {
    let content = Content::new(&[LARGE]);
    let registry = guarded(&content, usize::MAX, |seen| seen.header("authorization").is_some()).await;
    let bench = Bench::that_brings(&registry.name(), &content).await;

    let asked = tokens(&registry);
    assert_eq!(asked.len(), 1, "one token for all requests");
    let (public, signature) = asked[0].header("authorization").unwrap().split_once(':').unwrap();
    let public = STANDARD.decode(public).unwrap();
    let key: [u8; 32] = public[public.len() - 32..].try_into().unwrap();
    let message =
        format!("GET,{}?{},{}", registry.url("/token"), asked[0].query, STANDARD.encode(Digest::of(b"").hex()));
    let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    VerifyingKey::from_bytes(&key).unwrap().verify_strict(message.as_bytes(), &signature).unwrap();
    assert!(asked[0].query.contains("scope=repository%3Ateam%2Ftiny%3Apull&service=the+registry&ts="));

    // The next pull of the same scope finds it.
    bench.pull(&registry.name()).await.1.unwrap();
    assert_eq!(tokens(&registry).len(), 1);
}

#[tokio::test]
async fn f18_a_token_that_expires_is_renewed() {
    let content = Content::new(&[8 * RANGE as usize]);
    let registry = guarded(&content, 3, |_| true).await;
    let bench = Bench::with(|settings| settings.streams = 1);
    bench.brings(&registry.name(), &content).await;
    assert!(tokens(&registry).len() >= 3);
}

#[tokio::test]
async fn a_server_that_wants_no_signature() {
    let content = Content::new(&[1000]);
    let registry = guarded(&content, usize::MAX, |seen| seen.header("authorization").is_none()).await;
    Bench::that_brings(&registry.name(), &content).await;
}

#[tokio::test]
async fn refused_for_good() {
    let text = "pull model manifest: unauthorized: access denied";
    let registry = guarded(&Content::new(&[]), 0, |_| true).await;
    assert_eq!(Bench::new().error(&registry.name()).await, text);
    assert!(tokens(&registry).len() <= 3);
    let registry = guarded(&Content::new(&[]), 0, |_| false).await;
    assert_eq!(Bench::new().error(&registry.name()).await, text);
    let registry = Registry::new(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    assert_eq!(Bench::new().error(&registry.name()).await, text);
}

#[tokio::test]
async fn f18_nobody_else_is_asked_for_a_token() {
    let thief = Registry::new(|_| "{\"token\":\"t\"}".into_response()).await;
    let realm = challenge_text(&thief.url("/token"));
    let registry = Registry::new(move |_| challenge(&realm)).await;
    let (theirs, ours) = (thief.address, registry.address);
    assert_eq!(
        Bench::new().error(&registry.name()).await,
        format!("pull model manifest: realm host \"{theirs}\" does not match original host \"{ours}\"")
    );
    assert!(thief.seen().is_empty());

    // Unless it was configured.
    let bench = Bench::with(|settings| settings.realms = vec![(ours.to_string(), theirs.to_string())]);
    assert!(bench.error(&registry.name()).await.contains("unauthorized"));
    assert!(!thief.seen().is_empty());
}

#[tokio::test]
async fn f18_no_secret_follows_a_redirect() {
    let content = Content::new(&[LARGE]);
    let store = Registry::honest(&content).await;
    let (honest, there) = (content.clone(), store.url(""));
    let registry = Registry::new(move |seen| match seen.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") if seen.is_blob() => redirect(307, &format!("{there}{}", seen.path)),
        Some("Basic bWU6aHVudGVyMg==") => honest.serve(seen),
        _ => challenge("Basic realm=\"x\""),
    })
    .await;
    let own = Credentials::Basic { user: "me".into(), password: Secret::new("hunter2".into()) };
    let host = registry.address.to_string();
    let bench = Bench::with(|settings| settings.credentials = [(host, own)].into());
    bench.brings(&registry.name(), &content).await;
    assert!(!store.seen().is_empty() && store.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(Bench::new().error(&registry.name()).await.contains("unauthorized"), "not without");
}

#[tokio::test]
async fn a_token_of_the_users_own() {
    let content = Content::new(&[1000]);
    let honest = content.clone();
    let registry = Registry::new(move |seen| match seen.header("authorization") {
        Some("Bearer mine") => honest.serve(seen),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    })
    .await;
    let (host, own) = (registry.address.to_string(), Credentials::Token(Secret::new("mine".into())));
    let bench = Bench::with(|settings| settings.credentials = [(host, own)].into());
    bench.pull(&registry.name()).await.1.unwrap();
    assert_eq!(registry.seen().len(), 3);
}
