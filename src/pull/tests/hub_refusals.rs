//! What the hub refuses, and the tokens that it is shown.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;

use super::Bench;
use super::hub::{Hub, pull, sharded, with};
use super::registry::{Registry, Seen};
use crate::pull::Secret;

#[tokio::test]
async fn the_hub_says_no() {
    let hub = Hub::new(&sharded()).await;
    let error = pull(&hub.bench(), "Org/Repo@other").await.unwrap_err();
    assert_eq!(error, "Org/Repo on the hub: it has no such revision");
    for (status, code, token, why) in [
        (401, "RepoNotFound", false, "or it is private: then set HF_TOKEN to a token that may read it"),
        (404, "RepoNotFound", true, "or it is private and the token that was sent may not read it"),
        (401, "", true, "the token that was sent is not valid"),
        (403, "GatedRepo", false, "/Qwen/Qwen3-0.6B: do so, then set HF_TOKEN to a token of that account"),
        (403, "GatedRepo", true, "the account of the token that was sent has not been given it"),
        (503, "", false, "503: service unavailable"),
    ] {
        let refuse = move |_: &Seen| {
            let answer = StatusCode::from_u16(status).unwrap().into_response();
            let said = if token && code.is_empty() { "Invalid credentials in Authorization header" } else { "No." };
            with(answer, &[("x-error-code", code.into()), ("x-error-message", said.into())])
        };
        let site = Registry::new(refuse).await;
        let bench = Bench::with(|settings| {
            settings.hub.endpoint = site.url("");
            settings.hub.token = token.then(|| Secret::new("hf_secret".into()));
        });
        let error = pull(&bench, "qwen3-0.6b").await.unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(site.seen().len(), if status == 503 { 4 } else { 1 });
        assert_eq!(site.seen()[0].path, "/api/models/Qwen/Qwen3-0.6B/revision/main");
        bench.is_empty();
    }
    let content = sharded();
    let site = Registry::new(move |seen| match seen.path.starts_with("/api/") {
        true => content.answer(seen, "", ""),
        false => with(StatusCode::FORBIDDEN.into_response(), &[("x-error-code", "GatedRepo".into())]),
    })
    .await;
    let bench = Bench::with(|settings| settings.hub.endpoint = site.url(""));
    let error = pull(&bench, "Org/Repo").await.unwrap_err();
    assert!(error.starts_with("Org/Repo on the hub: access is given to those who accept its conditions"), "{error}");
    assert_eq!(bench.store().blobs().list(), []);
}

#[tokio::test]
async fn names_of_files_stay_in_their_folder() {
    for path in ["..\\x.json", "x\n.json"] {
        let mut content = sharded();
        content.listed.insert(path.into(), "{}".into());
        let hub = Hub::new(&content).await;
        let bench = hub.bench();
        let error = pull(&bench, "Org/Repo").await.unwrap_err();
        assert!(error.contains("it has a file called"), "{error}");
        bench.is_empty();
    }
}

#[tokio::test]
async fn a_token_from_its_file() {
    let hub = Hub::new(&sharded()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hf_file\n").unwrap();
    let bench = Bench::with(|settings| {
        settings.hub.endpoint = hub.site.url("/");
        settings.hub.token_file = Some(file);
    });
    pull(&bench, "Org/Repo").await.unwrap();
    assert!(hub.site.seen().iter().all(|seen| seen.headers[header::AUTHORIZATION] == "Bearer hf_file"));
}
