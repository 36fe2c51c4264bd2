//! The operations of the documents are the routes of the program.

use std::collections::BTreeSet;

use regex::Regex;

use super::CONTRACT;

/// The route table of the specification. The program's own is held against it as far as it stands; once it is whole, this
/// one can go.
const ROUTES: [(&str, &str); 51] = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/api/version"),
    ("HEAD", "/api/version"),
    ("GET", "/api/status"),
    ("GET", "/api/tags"),
    ("HEAD", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/show"),
    ("POST", "/api/generate"),
    ("POST", "/api/chat"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/{digest}"),
    ("HEAD", "/api/blobs/{digest}"),
    ("POST", "/api/me"),
    ("POST", "/api/signout"),
    ("DELETE", "/api/user/keys/{encodedKey}"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"),
    ("GET", "/api/experimental/model-recommendations"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/messages"),
    ("GET", "/v2/"),
    ("HEAD", "/v2/"),
    ("GET", "/v2/_catalog"),
    ("HEAD", "/v2/_catalog"),
    ("GET", "/v2/{namespace}/{model}/tags/list"),
    ("HEAD", "/v2/{namespace}/{model}/tags/list"),
    ("GET", "/v2/{namespace}/{model}/manifests/{reference}"),
    ("HEAD", "/v2/{namespace}/{model}/manifests/{reference}"),
    ("GET", "/v2/{namespace}/{model}/blobs/{digest}"),
    ("HEAD", "/v2/{namespace}/{model}/blobs/{digest}"),
    ("GET", "/api/hanzod/df"),
    ("POST", "/api/hanzod/prune"),
    ("POST", "/api/hanzod/verify"),
    ("POST", "/api/hanzod/link"),
    ("POST", "/api/hanzod/scan"),
    ("GET", "/api/hanzod/export/{model}"),
    ("POST", "/api/hanzod/import"),
    ("POST", "/api/hanzod/import/{model}"),
];

/// Routes of Ollama's that hanzod does not answer yet; neither table has them.
pub const NOT_ANSWERED: [(&str, &str); 1] = [("POST", "/v1/audio/transcriptions")];

/// The last of the dialects: a table with this route is whole.
const LAST: (&str, &str) = ("POST", "/v1/messages");

/// A path whose parameters have no names: those are nobody's business.
fn nameless(path: &str) -> String {
    Regex::new(r"\{[^}]*\}").unwrap().replace_all(path, "{}").into_owned()
}

fn set<'a>(routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String)> {
    routes.into_iter().map(|(method, path)| (method.to_uppercase(), nameless(path))).collect()
}

/// The table in `api/mod.rs`: lines such as `("/api/tags", get_head(handler))`.
fn routed() -> BTreeSet<(String, String)> {
    let text = include_str!("../../api/mod.rs");
    let line = Regex::new(r#"\(\s*"(/[^"]*)",\s*([a-z_]+)\("#).unwrap();
    let routes = line.captures_iter(text).map(|found| found.extract::<2>().1);
    set(routes.flat_map(|[path, methods]| methods.split('_').map(move |method| (method, path))))
}

#[test]
fn every_route_is_documented_and_back() {
    let operations = &CONTRACT.operations;
    let documented = set(operations.iter().map(|operation| (operation.method.as_str(), operation.path.as_str())));
    assert_eq!(documented, set(ROUTES));
    assert_eq!(documented.len(), operations.len(), "an operation is documented twice");
    assert!(documented.is_disjoint(&set(NOT_ANSWERED)));
}

#[test]
fn the_program_has_the_routes_of_the_documents() {
    let (documented, routed) = (set(ROUTES), routed());
    let more: Vec<_> = routed.difference(&documented).collect();
    let missing: Vec<_> = documented.difference(&routed).collect();
    println!("{} routes, {} documented ones to come", routed.len(), missing.len());
    assert!(more.is_empty(), "not documented: {more:?}");
    assert!(missing.is_empty() || routed.is_disjoint(&set([LAST])), "not routed: {missing:?}");
}
