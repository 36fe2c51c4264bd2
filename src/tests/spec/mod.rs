//! The contract that stands in `api-spec/`, and whether a request or an answer keeps it.
//!
//! [`check`] is for every answer of every test: it names what differs from the documents.

mod contract;
mod document;
mod pieces;

mod documents;
mod recorded;
mod refusals;
mod routes;

use std::sync::LazyLock;

use contract::{Answer, Contract};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::load().expect("the documents of api-spec/"));

/// Whether an answer is one that the documents know: its status, its content type, and its body, streams piece by piece.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check(method: &str, path: &str, status: u16, content_type: Option<&str>, body: &[u8]) -> Result<(), String> {
    let answer = Answer { status, content_type, body };
    CONTRACT.check(method, path, &answer).map_err(|error| format!("{method} {path} {status}: {error}"))
}

/// Whether a JSON request is one that the documents know. Fields that are `null` count as absent.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check_request(method: &str, path: &str, body: &[u8]) -> Result<(), String> {
    CONTRACT.check_request(method, path, body).map_err(|error| format!("{method} {path}: {error}"))
}
