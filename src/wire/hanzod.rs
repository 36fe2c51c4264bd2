//! Our own routes under `/api/hanzod`: what takes the room, what is damaged, models in and out.

use serde::Serialize;

use crate::wire::go_json::decode_struct;
use crate::wire::ollama::Progress;

/// What takes the room, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Room {
    pub models: Vec<ModelRoom>,
    pub used: u64,
    pub shared: u64,
    pub linked: u64,
    pub elsewhere: u64,
    pub loose: Vec<LooseFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsure: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModelRoom {
    pub name: String,
    pub digest: String,
    pub size: u64,
    pub own: u64,
    pub elsewhere: u64,
    #[serde(skip_serializing_if = "is_none")]
    pub missing: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct LooseFile {
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub size: u64,
    pub modified_at: String,
    pub held: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Disk {
    pub size: u64,
    pub free: u64,
}

#[derive(Clone, Debug, Default)]
pub struct PruneRequest {
    pub partials_older_than: String,
    pub dry_run: bool,
}

decode_struct!(PruneRequest as "api" "PruneRequest" {
    "partials_older_than" => partials_older_than,
    "dry_run" => dry_run,
});

#[derive(Clone, Debug, Serialize)]
pub struct PruneResponse {
    pub removed: Vec<LooseFile>,
    pub freed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<&'static str>,
    pub dry_run: bool,
}

#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// Empty for the whole store.
    pub model: String,
    pub repair: bool,
    pub stream: Option<bool>,
}

decode_struct!(VerifyRequest as "api" "VerifyRequest" {
    "model" => model,
    "repair" => repair,
    "stream" => stream,
});

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum VerifyLine {
    Step(Progress),
    Done { status: &'static str, right: usize, bytes: u64, damaged: Vec<Damaged> },
}

#[derive(Clone, Debug, Serialize)]
pub struct Damaged {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    pub why: String,
    pub models: Vec<String>,
    pub moved: bool,
}

#[derive(Clone, Debug, Default)]
pub struct LinkRequest {
    pub path: String,
    pub name: String,
    pub more: Vec<String>,
    pub copy: bool,
    pub stream: Option<bool>,
}

decode_struct!(LinkRequest as "api" "LinkRequest" {
    "path" => path,
    "name" => name,
    "more" => more,
    "copy" => copy,
    "stream" => stream,
});

#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    pub folders: Vec<String>,
}

decode_struct!(ScanRequest as "api" "ScanRequest" { "folders" => folders });

#[derive(Clone, Debug, Serialize)]
pub struct Scanned {
    pub files: Vec<FoundFile>,
}

#[derive(Clone, Debug, Serialize)]
pub struct FoundFile {
    pub path: String,
    pub size: u64,
    pub parts: u32,
    pub linked: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    pub status: &'static str,
    pub models: Vec<String>,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}
