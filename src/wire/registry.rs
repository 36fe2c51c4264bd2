//! The OCI's distribution, as far as a registry that is read from speaks it.

use serde::Serialize;

/// The one shape of every error.
#[derive(Debug, Serialize)]
pub struct Envelope {
    pub errors: [Problem; 1],
}

#[derive(Debug, Serialize)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Catalog {
    pub repositories: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tags {
    pub name: String,
    pub tags: Vec<String>,
}
