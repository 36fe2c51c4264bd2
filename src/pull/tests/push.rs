//! Pushes: what is sent, and what is not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::super::PushEvent;
use super::registry::{Registry, Seen, noise};
use super::{Bench, collect};
use crate::store::{Descriptor, Manifest, MediaType, testing};
use crate::types::{Digest, ModelName};

const LARGE: usize = 300_000;

/// Takes uploads as a registry does. Sessions are numbered by where they are.
#[derive(Default)]
struct Shelf {
    blobs: Mutex<HashMap<String, Bytes>>,
    session: Mutex<Vec<u8>>,
}

impl Shelf {
    fn answer(&self, seen: &Seen, address: &str) -> Response {
        let accepted = |at: usize| {
            let location = format!("{address}/v2/team/tiny/blobs/uploads/x?at={at}");
            (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
        };
        let mut session = self.session.lock().unwrap();
        match seen.method.as_str() {
            "HEAD" | "GET" => {
                let name = seen.path.rsplit('/').next().unwrap();
                let there = self.blobs.lock().unwrap().contains_key(name);
                if there { StatusCode::OK } else { StatusCode::NOT_FOUND }.into_response()
            }
            "POST" if seen.query.contains("mount=") => StatusCode::CREATED.into_response(),
            "POST" => {
                session.clear();
                accepted(0)
            }
            "PATCH" => {
                let place = format!("{}-{}", session.len(), session.len() + seen.body.len() - 1);
                assert_eq!(
                    (seen.header("content-range"), seen.query.clone()),
                    (Some(&*place), format!("at={}", session.len()))
                );
                session.extend_from_slice(&seen.body);
                accepted(session.len())
            }
            _ if seen.path.contains("/manifests/") => {
                self.blobs.lock().unwrap().insert("manifest".into(), seen.body.clone());
                StatusCode::CREATED.into_response()
            }
            _ => {
                let digest = Digest::of(&session);
                assert!(seen.query.ends_with(&format!("digest={}", digest.to_string().replace(':', "%3A"))));
                self.blobs.lock().unwrap().insert(digest.to_string(), Bytes::from(std::mem::take(&mut *session)));
                StatusCode::CREATED.into_response()
            }
        }
    }
}

fn fill(bench: &Bench, name: &str, from: Option<String>) -> Manifest {
    let layer = |kind, content: &[u8]| testing::layer(bench.store(), kind, content);
    let taken = Descriptor { from, ..layer(MediaType::System, b"taken") };
    let name = testing::model(bench.store(), name, vec![layer(MediaType::Model, &noise(LARGE)), taken]);
    bench.store().tags().get(&name).unwrap().manifest
}

#[tokio::test]
async fn what_the_registry_lacks_is_sent() {
    let (shelf, broken, locked) = (Shelf::default(), AtomicBool::new(false), AtomicBool::new(false));
    // Relative locations; the second chunk fails once; a token is wanted before the first upload.
    let registry = Registry::new(move |seen| {
        if seen.path == "/token" {
            return "{\"token\":\"push\"}".into_response();
        }
        if seen.method == "POST" && !locked.swap(true, Ordering::Relaxed) {
            let realm = format!("Bearer realm=\"http://{}/token\",scope=\"s\"", seen.header("host").unwrap());
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, realm)]).into_response();
        }
        if seen.query == "at=100000" && !broken.swap(true, Ordering::Relaxed) {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        if seen.path.contains("/manifests/") {
            assert_eq!(shelf.blobs.lock().unwrap().len(), 2, "the manifest comes last");
        }
        shelf.answer(seen, "")
    })
    .await;
    let bench = Bench::with(|settings| settings.upload = 100_000);
    let from = format!("{}/team/base:latest", registry.address);
    let manifest = fill(&bench, &registry.name(), Some(from));
    let name = ModelName::parse(&registry.name()).unwrap();
    let (events, ended) = collect(bench.puller.push(name.clone(), true)).await;
    ended.unwrap();
    let lasts: Vec<_> = manifest.descriptors().map(|blob| (blob.digest, blob.size)).collect();
    let told = events.iter().filter_map(|event| match event {
        PushEvent::Layer { digest, total, completed } if completed == total => Some((*digest, *total)),
        _ => None,
    });
    let mut told: Vec<_> = told.collect();
    told.dedup();
    assert_eq!(told, lasts);
    assert_eq!(events[events.len() - 2..], [PushEvent::Manifest, PushEvent::Done]);
    let seen = registry.seen();
    let mounts: Vec<_> = seen.iter().filter(|seen| seen.query.contains("from=team%2Fbase")).collect();
    assert_eq!(mounts.len(), 1);
    let sent = seen.iter().find(|seen| seen.path.ends_with("/manifests/latest")).unwrap();
    assert_eq!(sent.body, bench.store().tags().bytes(&name).unwrap().0);
    assert_eq!(sent.header("authorization"), Some("Bearer push"));
    assert_eq!(seen.iter().filter(|seen| seen.method == "PATCH").count(), 2 + 3 + 1, "two wasted, three, the config");
}

#[tokio::test]
async fn an_upload_is_gone_on_with() {
    // Every chunk fails once; the registry has it nevertheless, or it has not.
    for kept in [true, false] {
        let (shelf, failed, at) = (Shelf::default(), Mutex::new((String::new(), 0)), Mutex::new(0));
        let registry = Registry::new(move |seen| match seen.method.as_str() {
            "GET" => {
                let location = format!("/v2/team/tiny/blobs/uploads/x?at={}", at.lock().unwrap());
                let range = format!("0-{}", at.lock().unwrap().max(1) - 1);
                (StatusCode::NO_CONTENT, [(header::LOCATION, location), (header::RANGE, range)]).into_response()
            }
            "PATCH" => {
                let this = (seen.query.clone(), seen.body.len());
                let first = std::mem::replace(&mut *failed.lock().unwrap(), this.clone()) != this;
                if first && !kept {
                    return StatusCode::BAD_GATEWAY.into_response();
                }
                let response = shelf.answer(seen, "");
                *at.lock().unwrap() = shelf.session.lock().unwrap().len();
                if first { StatusCode::BAD_GATEWAY.into_response() } else { response }
            }
            "POST" => {
                *at.lock().unwrap() = 0;
                shelf.answer(seen, "")
            }
            _ => shelf.answer(seen, ""),
        })
        .await;
        let bench = Bench::with(|settings| {
            settings.upload = 50_000;
            settings.retries = 1;
        });
        fill(&bench, &registry.name(), None);
        let name = ModelName::parse(&registry.name()).unwrap();
        collect(bench.puller.push(name, true)).await.1.unwrap();
        let sent: usize =
            registry.seen().iter().map(|seen| if seen.method == "PATCH" { seen.body.len() } else { 0 }).sum();
        let blobs = LARGE + 5 + 2;
        assert_eq!(if kept { blobs } else { 2 * blobs }, sent, "{kept}");
        assert_eq!(registry.seen().iter().filter(|seen| seen.method == "POST").count(), 3, "one session for each");
    }
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_token() {
    let shelf = Shelf::default();
    let there = Registry::new(|_| StatusCode::FORBIDDEN.into_response()).await;
    let address = there.url("");
    let registry = Registry::new(move |seen| match seen.header("authorization") {
        _ if seen.path == "/token" => "{\"token\":\"push\"}".into_response(),
        Some("Bearer push") => shelf.answer(seen, &address),
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, realm)]).into_response()
        }
    })
    .await;
    let bench = Bench::new();
    fill(&bench, &registry.name(), None);
    let (_, ended) = collect(bench.puller.push(ModelName::parse(&registry.name()).unwrap(), true)).await;
    assert_eq!(ended.unwrap_err().to_string(), "403: ");
    assert_eq!(there.seen().len(), 1);
    assert!(there.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_model_that_is_not_there() {
    let bench = Bench::new();
    let (events, ended) = collect(bench.puller.push(ModelName::parse("none").unwrap(), false)).await;
    assert_eq!(events, [PushEvent::Retrieving, PushEvent::NotRetrieved]);
    assert_eq!(ended.unwrap_err().to_string(), "model 'none:latest' not found");
}
