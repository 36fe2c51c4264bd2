//! `/api/pull`, `/api/push`, and the progress lines that they share with `/api/create`.

use serde::Serialize;

use super::is_zero;
use crate::wire::go_json::decode_struct;

#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    pub model: String,
    pub name: String,
    pub insecure: bool,
    /// Ours: where the model comes from, when its name does not say.
    pub source: String,
    /// Ours: bytes in a second, such as `5M`.
    pub limit_rate: String,
    /// Taken and not used, as in Ollama.
    pub username: String,
    pub password: String,
    pub stream: Option<bool>,
}

decode_struct!(PullRequest as "api" "PullRequest" {
    "model" => model,
    "name" => name,
    "insecure" => insecure,
    "source" => source,
    "limit_rate" => limit_rate,
    "username" => username,
    "password" => password,
    "stream" => stream,
});

#[derive(Clone, Debug, Default)]
pub struct PushRequest {
    pub model: String,
    pub name: String,
    pub insecure: bool,
    /// Ours, as in a pull.
    pub limit_rate: String,
    pub username: String,
    pub password: String,
    pub stream: Option<bool>,
}

decode_struct!(PushRequest as "api" "PushRequest" {
    "model" => model,
    "name" => name,
    "insecure" => insecure,
    "limit_rate" => limit_rate,
    "username" => username,
    "password" => password,
    "stream" => stream,
});

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub completed: u64,
}

impl Progress {
    /// A line that only says what is being done.
    pub fn status(status: impl Into<String>) -> Self {
        Self { status: status.into(), ..Self::default() }
    }
}
