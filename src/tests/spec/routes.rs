//! The operations of the documents are the routes of the program.

use std::collections::BTreeSet;

use super::CONTRACT;

/// The route table of the specification, until the program's own stands on one page that can be read instead.
const ROUTES: [(&str, &str); 32] = [
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
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/messages"),
];

/// Routes of Ollama's that hanzod does not answer yet; neither table has them.
pub const NOT_ANSWERED: [(&str, &str); 2] = [("POST", "/v1/responses"), ("POST", "/v1/audio/transcriptions")];

#[test]
fn every_route_is_documented_and_back() {
    let documented: BTreeSet<_> =
        CONTRACT.operations.iter().map(|operation| (operation.method.as_str(), operation.path.as_str())).collect();
    assert_eq!(documented, BTreeSet::from(ROUTES));
    assert_eq!(documented.len(), CONTRACT.operations.len(), "an operation is documented twice");
    assert!(NOT_ANSWERED.iter().all(|route| !documented.contains(route)));
}
