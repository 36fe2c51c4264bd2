//! Repositories on a hub that answers as Hugging Face's does: an API, files of git's from itself, those of LFS from
//! another host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sha1::Digest as _;

use super::super::repository::Repository;
use super::super::transfer::GitHash;
use super::super::{PullEvent, Secret, SourceKind};
use super::direct::{serve, tiny};
use super::registry::{Registry, Seen, redirect};
use super::{Bench, collect, only_forward};
use crate::store::MediaType;
use crate::types::{Digest, ModelName};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Longer files are kept by LFS.
pub(super) const LFS: usize = 2000;

pub(super) fn oid(body: &[u8]) -> String {
    let mut hash = GitHash::begin(body.len() as u64);
    hash.update(body);
    GitHash(hash.finalize().into()).to_string()
}

pub(super) fn with(mut response: Response, headers: &[(&'static str, String)]) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    response
}

/// What the hub says of a repository; what it then sends may be another thing.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) listed: BTreeMap<String, Bytes>,
    served: BTreeMap<String, Bytes>,
    /// Files in one answer of the list.
    page: usize,
}

impl Content {
    pub(super) fn new(files: &[(&str, Bytes)]) -> Self {
        let files: BTreeMap<_, _> = files.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect();
        Self { listed: files.clone(), served: files, page: 1000 }
    }

    fn entry(path: &str, body: &Bytes) -> Value {
        let mut entry = json!({ "type": "file", "oid": oid(body), "size": body.len(), "path": path });
        if body.len() > LFS {
            let digest = Digest::of(body).hex();
            entry["oid"] = json!("f".repeat(40));
            entry["lfs"] = json!({ "oid": digest, "size": body.len(), "pointerSize": 134 });
        }
        entry
    }

    pub(super) fn answer(&self, seen: &Seen, own: &str, store: &str) -> Response {
        if seen.path == "/api/models" {
            let hits =
                ["Other-4bit", "Repo-8bit", "Repo-4bit"].map(|name| json!({ "id": format!("mlx-community/{name}") }));
            return Value::from(hits.to_vec()).to_string().into_response();
        }
        // The same under another name.
        let path = seen.path.replace("/mlx-community/Repo-4bit/", "/Org/Repo/");
        let seen = &Seen { path, ..seen.clone() };
        let Some(rest) = seen.path.strip_prefix("/api/models/Org/Repo/") else {
            return self.file(seen, store);
        };
        if rest == "revision/main" || rest == format!("revision/{COMMIT}") {
            let siblings: Vec<_> = self.listed.keys().map(|path| json!({ "rfilename": path })).collect();
            let info = json!({ "id": "Org/Repo", "modelId": "Org/Repo", "sha": COMMIT, "private": false, "tags": [],
                "downloads": 0, "likes": 0, "siblings": siblings });
            return info.to_string().into_response();
        }
        if rest.starts_with("revision/") {
            return with(StatusCode::NOT_FOUND.into_response(), &[("x-error-code", "RevisionNotFound".into())]);
        }
        let start: usize = seen.query.split("cursor=").nth(1).map_or(0, |start| start.parse().unwrap());
        let mut page: Vec<_> = self.listed.iter().skip(start).map(|(path, body)| Self::entry(path, body)).collect();
        page.truncate(self.page);
        page.push(json!({ "type": "directory", "oid": "0".repeat(40), "size": 0, "path": "sub" }));
        let next = start + self.page;
        let answer = serde_json::Value::from(page).to_string().into_response();
        if next >= self.listed.len() {
            return answer;
        }
        with(answer, &[("link", format!("<{own}{}?recursive=true&cursor={next}>; rel=\"next\"", seen.path))])
    }

    fn file(&self, seen: &Seen, store: &str) -> Response {
        let path = seen.path.strip_prefix(&format!("/Org/Repo/resolve/{COMMIT}/"));
        let Some((path, body)) = path.and_then(|path| Some((path, self.listed.get(path)?))) else {
            return with(StatusCode::NOT_FOUND.into_response(), &[("x-error-code", "EntryNotFound".into())]);
        };
        if body.len() > LFS {
            return with(
                redirect(302, &format!("{store}/{path}?signature=1")),
                &[
                    ("x-repo-commit", COMMIT.into()),
                    ("x-linked-etag", format!("\"{}\"", Digest::of(body).hex())),
                    ("x-linked-size", body.len().to_string()),
                ],
            );
        }
        let answer = serve(seen, &self.served[path]);
        with(answer, &[("x-repo-commit", COMMIT.into()), ("etag", format!("\"{}\"", oid(body)))])
    }
}

pub(super) struct Hub {
    pub(super) site: Registry,
    store: Registry,
}

impl Hub {
    pub(super) async fn new(content: &Content) -> Self {
        let served = content.served.clone();
        let store = Registry::new(move |seen| {
            let body = &served[seen.path.trim_start_matches('/')];
            with(serve(seen, body), &[("etag", "\"of-the-store\"".into())])
        })
        .await;
        let (content, own, other) = (content.clone(), Arc::<Mutex<String>>::default(), store.url(""));
        let told = own.clone();
        let site = Registry::new(move |seen| content.answer(seen, &told.lock().unwrap(), &other)).await;
        *own.lock().unwrap() = site.url("");
        Self { site, store }
    }

    /// The files that were asked for, on either host.
    pub(super) fn fetched(&self) -> Vec<String> {
        let of_site = self.site.seen().into_iter().filter_map(|seen| Some(seen.path.split(COMMIT).nth(1)?.to_owned()));
        let of_site = of_site.filter(|path| !path.is_empty());
        of_site.chain(self.store.seen().into_iter().map(|seen| seen.path)).collect()
    }

    pub(super) fn bench(&self) -> Bench {
        Bench::with(|settings| {
            settings.hub.endpoint = self.site.url("");
            settings.hub.token = Some(Secret::new("hf_secret".into()));
        })
    }
}

pub(super) async fn pull(bench: &Bench, text: &str) -> Result<Vec<PullEvent>, String> {
    let (events, ended) = collect(bench.from(SourceKind::HuggingFace, text)).await;
    ended.map(|()| events).map_err(|error| error.to_string())
}

/// A file with one tensor of so many numbers.
fn weights(name: &str, count: usize) -> Bytes {
    let header = json!({ name: { "dtype": "F32", "shape": [count], "data_offsets": [0, count * 4] } }).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((0..count).flat_map(|number| (number as f32).to_le_bytes()));
    file.into()
}

pub(super) fn sharded() -> Content {
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = json!({ "weight_map": { "a": names[0], "b": names[1] } }).to_string();
    let config = json!({ "model_type": "qwen3", "hidden_size": 8, "max_position_embeddings": 64 }).to_string();
    Content::new(&[
        ("config.json", config.into()),
        ("tokenizer.json", Bytes::from(format!("{{\"pad\":\"{}\"}}", "x".repeat(9000)))),
        ("model.safetensors.index.json", index.into()),
        (names[0], weights("a", 50_000)),
        (names[1], weights("b", 1000)),
        (".gitattributes", Bytes::from_static(b"*")),
        ("pytorch_model.bin", Bytes::from_static(b"no")),
    ])
}

#[tokio::test]
async fn a_repository_becomes_a_safetensors_model() {
    let content = Content { page: 3, ..sharded() };
    let hub = Hub::new(&content).await;
    let bench = hub.bench();
    let events = pull(&bench, "Org/Repo").await.unwrap();
    only_forward(&events);
    assert_eq!(events.last(), Some(&PullEvent::Done));
    let tag = bench.store().tags().get(&ModelName::parse("Org/Repo").unwrap()).unwrap();
    let layers: Vec<_> = tag.manifest.layers_of(MediaType::File).collect();
    assert_eq!((layers.len(), tag.manifest.layers.len()), (5, 5));
    for layer in layers {
        let body = &content.listed[layer.name.as_deref().unwrap()];
        assert!(std::fs::read(bench.store().blobs().path(&layer.digest)).unwrap() == body[..]);
    }
    assert_eq!((bench.partials(), bench.puller.transfers_under_way()), (0, 0));

    let token = |seen: &Seen| seen.header("authorization").map(str::to_owned);
    assert!(hub.site.seen().iter().all(|seen| token(seen).as_deref() == Some("Bearer hf_secret")));
    assert!(!hub.store.seen().is_empty() && hub.store.seen().iter().all(|seen| token(seen).is_none()));

    // Nothing of it has changed, so nothing is fetched again.
    let is_file = |seen: &&Seen| !seen.path.starts_with("/api/");
    let before = (hub.store.seen().len(), hub.site.seen().iter().filter(is_file).count());
    pull(&bench, "Org/Repo@main").await.unwrap();
    assert_eq!((hub.store.seen().len(), hub.site.seen().iter().filter(is_file).count()), before);
}

#[tokio::test]
async fn a_quantisation_of_a_repository() {
    let other = Bytes::from_static(b"GGUF");
    let content =
        Content::new(&[("tiny-Q4_K_M.gguf", tiny()), ("tiny-Q8_0.gguf", other), ("config.json", "{}".into())]);
    let hub = Hub::new(&content).await;
    let bench = hub.bench();
    pull(&bench, "hf.co/Org/Repo:Q4_K_M").await.unwrap();
    let tag = bench.store().tags().get(&ModelName::parse("Org/Repo:Q4_K_M").unwrap()).unwrap();
    assert_eq!(tag.manifest.layers[0].digest, Digest::of(&tiny()));
    assert_eq!(tag.manifest.layers[0].media_type, MediaType::Model);
    let error = pull(&bench, "Org/Repo:Q2_K").await.unwrap_err();
    assert!(error.starts_with("Org/Repo on the hub: of its GGUF files none is Q2_K"), "{error}");

    // The page about a file on the hub is that file, which is here by its digest.
    let before = hub.store.seen().len();
    for (revision, more) in [(COMMIT, String::new()), ("main", format!("?sha256={}", Digest::of(&tiny()).hex()))] {
        let address = hub.site.url(&format!("/Org/Repo/blob/{revision}/tiny-Q4_K_M.gguf{more}"));
        let (events, ended) = collect(bench.from(SourceKind::Direct, &address)).await;
        ended.unwrap();
        only_forward(&events);
    }
    assert_eq!(hub.store.seen().len(), before);
    assert!(hub.site.seen().last().unwrap().header("authorization").is_some());
    assert!(bench.store().tags().get(&ModelName::parse("tiny-Q4_K_M").unwrap()).is_ok());
    let address = hub.site.url(&format!("/Org/Repo/resolve/main/tiny-Q4_K_M.gguf?sha256={}", "0".repeat(64)));
    let error = collect(bench.from(SourceKind::Direct, &address)).await.1.unwrap_err().to_string();
    assert!(error.starts_with("digest mismatch"), "{error}");
    let address = hub.site.url("/Org/Repo/resolve/main/x.gguf");
    let error = collect(bench.from(SourceKind::Direct, &address)).await.1.unwrap_err().to_string();
    assert_eq!(error, "Org/Repo on the hub: it has no file `x.gguf`");
}

#[tokio::test]
async fn a_counterpart_is_found_and_had_like_any_other() {
    let hub = Hub::new(&sharded()).await;
    let bench = hub.bench();
    let cache = tempfile::tempdir().unwrap();
    let from = |bench: &Bench, text: &str| collect(bench.from(SourceKind::Mlx, text));
    let bench_with = |offline: bool| {
        Bench::with(|settings| {
            settings.hub.endpoint = hub.site.url("");
            settings.hub.cache = Some(cache.path().to_owned());
            settings.hub.offline = offline;
        })
    };
    from(&bench_with(false), "Org/Repo").await.1.unwrap();
    let search = hub.site.seen().into_iter().find(|seen| seen.path == "/api/models").unwrap();
    assert_eq!(search.query, "author=mlx-community&search=Repo&limit=1000");
    let offline = bench_with(true);
    from(&offline, "Org/Repo").await.1.unwrap();
    assert!(offline.store().tags().get(&ModelName::parse("mlx-community/Repo").unwrap()).is_ok());
    for (text, why) in [("Org/Repo:6bit", "none of it in 6bit; there are Repo-4bit"), ("x", "no counterpart of it")] {
        for bench in [&bench, &offline] {
            let error = from(bench, text).await.1.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

#[tokio::test]
async fn weights_are_those_that_the_index_names() {
    let mut content = sharded();
    for (number, name) in [(1, "first.safetensors"), (2, "second.safetensors")] {
        let body = content.listed.remove(&format!("model-0000{number}-of-00002.safetensors")).unwrap();
        content.listed.insert(name.into(), body);
    }
    let index = |name: &str| Bytes::from(json!({ "weight_map": { "a": "first.safetensors", "b": name } }).to_string());
    content.listed.insert("other.safetensors".into(), weights("c", 10));
    for name in ["second.safetensors", "../second.safetensors"] {
        content.listed.insert("model.safetensors.index.json".into(), index(name));
        let content = Content { served: content.listed.clone(), ..content.clone() };
        let hub = Hub::new(&content).await;
        let bench = hub.bench();
        let pulled = pull(&bench, "Org/Repo").await;
        if name.starts_with("..") {
            let why = "`../second.safetensors` is named in `model.safetensors.index.json`, and it has no such file";
            assert!(pulled.unwrap_err().contains(why));
            continue;
        }
        pulled.unwrap();
        let tag = bench.store().tags().get(&ModelName::parse("Org/Repo").unwrap()).unwrap();
        let mut names: Vec<_> =
            tag.manifest.layers_of(MediaType::File).filter_map(|layer| layer.name.clone()).collect();
        names.retain(|name| name.ends_with(".safetensors"));
        names.sort();
        assert_eq!(names, ["first.safetensors", "second.safetensors"]);
    }
}

#[tokio::test]
async fn what_the_hubs_registry_refuses_its_api_may_have() {
    let hub = Hub::new(&Content::new(&[("tiny-Q8_0.gguf", tiny())])).await;
    let bench = hub.bench();
    let registry = Registry::new(|_| (StatusCode::BAD_REQUEST, "{\"error\":\"split GGUF\"}").into_response()).await;
    let name = format!("{}/Org/Repo:Q8_0", registry.address);
    let repository = Repository::parse("Org/Repo:Q8_0", None).unwrap();
    let stream = bench.puller.pull_registry_first(repository, ModelName::parse(&name).unwrap(), true);
    let (events, ended) = collect(stream).await;
    ended.unwrap();
    only_forward(&events);
    assert!(!registry.seen().is_empty());
    let tag = bench.store().tags().get(&ModelName::parse(&name).unwrap()).unwrap();
    assert_eq!(tag.manifest.layers[0].digest, Digest::of(&tiny()));
}

#[tokio::test]
async fn every_file_is_held_to_its_hash() {
    for (path, why) in [("config.json", "hash mismatch"), ("model-00002-of-00002.safetensors", "digest mismatch")] {
        let mut content = sharded();
        let mut body = content.listed[path].to_vec();
        body[9] ^= 1;
        content.served.insert(path.into(), body.into());
        let hub = Hub::new(&content).await;
        let bench = hub.bench();
        let error = pull(&bench, "Org/Repo").await.unwrap_err();
        assert!(error.starts_with(why), "{error}");
        assert!(bench.store().tags().list().is_empty());
        assert_eq!((bench.partials(), bench.puller.transfers_under_way()), (0, 0));
    }
}

#[tokio::test]
async fn files_that_make_no_model_go_again() {
    let mut content = sharded();
    let broken = Bytes::from(vec![255; 5000]);
    content.listed.insert("model-00002-of-00002.safetensors".into(), broken);
    let hub = Hub::new(&Content::new(&content.listed.iter().map(|(p, b)| (&**p, b.clone())).collect::<Vec<_>>())).await;
    let bench = hub.bench();
    let error = pull(&bench, "Org/Repo").await.unwrap_err();
    assert!(error.contains("is not a sound safetensors file"), "{error}");
    bench.is_empty();
}
