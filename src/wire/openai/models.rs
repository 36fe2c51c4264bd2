//! `/v1/models`.

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub struct Models {
    pub object: &'static str,
    pub data: Vec<Model>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Model {
    pub id: String,
    pub object: &'static str,
    pub created: i64,
    pub owned_by: String,
}
