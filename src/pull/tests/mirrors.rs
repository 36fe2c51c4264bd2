//! Addresses that stand in for a registry, and certificates that are the user's own.

use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use super::super::{Credentials, Secret};
use super::registry::{Content, Registry, Seen, broken_off};
use super::{Bench, RANGE};
use crate::types::ModelName;

const LARGE: usize = 6 * RANGE as usize;

fn bench(origin: &Registry, mirrors: &[&Registry]) -> Bench {
    let host = origin.address.to_string();
    let own = Credentials::Token(Secret::new("mine".into()));
    Bench::with(|settings| {
        settings.mirrors = vec![(host.clone(), mirrors.iter().map(|mirror| mirror.url("")).collect())];
        settings.credentials = [(host, own)].into();
    })
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_shown_nothing() {
    let content = Content::new(&[LARGE]);
    let (origin, mirror) = (Registry::honest(&content).await, Registry::honest(&content).await);
    let bench = bench(&origin, &[&mirror]);
    bench.pull(&origin.name()).await.1.unwrap();
    bench.holds(&origin.name(), &content);
    assert!(origin.seen().is_empty() && !mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_mirror_that_fails_is_left_for_the_next() {
    type Lie = fn(&Content, &Seen) -> axum::response::Response;
    let lies: [(&str, Lie); 7] = [
        ("has nothing", |_, _| StatusCode::NOT_FOUND.into_response()),
        ("wants a token", |_, _| StatusCode::UNAUTHORIZED.into_response()),
        ("has no manifest that can be read", |content, seen| match seen.is_blob() {
            true => content.serve(seen),
            false => "<html>".into_response(),
        }),
        ("has no blobs", |content, seen| match seen.is_blob() {
            true => StatusCode::NOT_FOUND.into_response(),
            false => content.serve(seen),
        }),
        ("breaks off", |content, seen| match seen.is_blob() {
            true => broken_off(content.serve(seen), &content.body(seen), 1000),
            false => content.serve(seen),
        }),
        ("has blobs of another length", |content, seen| match seen.is_blob() {
            true => "short".into_response(),
            false => content.serve(seen),
        }),
        ("has other bytes", |content, seen| match seen.is_blob() {
            true => {
                let mut other = content.clone();
                other
                    .blobs
                    .values_mut()
                    .for_each(|body| *body = body.iter().map(|byte| !byte).collect::<Vec<u8>>().into());
                other.serve(seen)
            }
            false => content.serve(seen),
        }),
    ];
    for (what, lie) in lies {
        let content = Content::new(&[LARGE]);
        let honest = content.clone();
        let mirror = Registry::new(move |seen| lie(&honest, seen)).await;
        let origin = Registry::honest(&content).await;
        let bench = bench(&origin, &[&mirror]);
        let ended = bench.pull(&origin.name()).await.1;
        assert!(ended.is_ok(), "{what}: {ended:?}");
        bench.holds(&origin.name(), &content);
        assert!(!mirror.seen().is_empty() && !origin.seen().is_empty(), "{what}");
        assert!(origin.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer mine")), "{what}");
    }
}

#[tokio::test]
async fn mirrors_stand_in_line() {
    let content = Content::new(&[LARGE]);
    let (origin, second) = (Registry::honest(&content).await, Registry::honest(&content).await);
    let first = Registry::new(|_| StatusCode::BAD_GATEWAY.into_response()).await;
    let bench = bench(&origin, &[&first, &second]);
    bench.pull(&origin.name()).await.1.unwrap();
    assert_eq!((first.seen().len(), origin.seen().len()), (1, 0));
}

#[tokio::test]
async fn another_registry_by_default() {
    let content = Content::new(&[1000]);
    let registry = Registry::honest(&content).await;
    let bench = Bench::with(|settings| settings.default_registry = Some(registry.url("/models/")));
    bench.pull("tiny").await.1.unwrap();
    bench.holds("tiny", &content);
    assert_eq!(registry.seen()[0].path, "/models/v2/library/tiny/manifests/latest");
    let name = &bench.store().tags().list()[0].name;
    assert_eq!((name, name.short()), (&ModelName::parse("tiny").unwrap(), "tiny:latest".into()));
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let registry = Registry::honest(&Content::new(&[1000])).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for (content, why) in [(None, "No such file"), (Some("nothing"), "there is no certificate in it")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let bench = Bench::with(|settings| settings.ca_file = Some(path.clone()));
        let error = bench.error(&registry.name()).await;
        assert!(error.contains("ca.pem") && error.contains(why), "{error}");
    }
}
