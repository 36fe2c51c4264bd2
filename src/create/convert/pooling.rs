//! How the vectors of a text's tokens become one, as sentence-transformers' files tell it.

use serde_json::Value;

use super::folder::{Folder, word};
use crate::create::CreateError;
use crate::create::safetensors::bad;

/// Ways to pool, and their numbers in GGUF.
const MEAN: u32 = 1;
const KINDS: [(&str, u32); 3] =
    [("pooling_mode_mean_tokens", MEAN), ("pooling_mode_cls_token", 2), ("pooling_mode_lasttoken", 3)];

/// `None` for a model that writes text.
pub(super) fn kind(folder: Folder<'_>, architecture: &str) -> Result<Option<u32>, CreateError> {
    let Some(modules) = folder.json("modules.json")? else {
        // where nothing is told, sentence-transformers takes the mean
        return Ok((architecture == "bert").then_some(MEAN));
    };
    let mut pooling = None;
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" => pooling = module["path"].as_str(),
            _ => return bad(format!("the module {:?} cannot be converted to GGUF", word(&module["type"]))),
        }
    }
    let Some(path) = pooling else {
        return bad("`modules.json` does not say how tokens are pooled".to_owned());
    };
    let path = format!("{path}/config.json");
    let Some(config) = folder.json(&path)? else {
        return bad(format!("`{path}` is missing"));
    };
    let on = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool().unwrap_or(false));
    let on: Vec<&str> = on.map(|(key, _)| key.as_str()).collect();
    let known = KINDS.into_iter().find(|(key, _)| on == [*key]);
    match (known, config.get("pooling_mode").and_then(Value::as_str)) {
        (Some((_, kind)), _) => Ok(Some(kind)),
        (None, Some(mode)) if on.is_empty() => {
            match ["mean", "cls", "lasttoken"].iter().position(|known| *known == mode) {
                Some(place) => Ok(Some(KINDS[place].1)),
                None => bad(format!("pooling by {mode:?} cannot be converted to GGUF")),
            }
        }
        _ => bad(format!("pooling by {on:?} cannot be converted to GGUF")),
    }
}
