//! The names by which requests call models, before they are looked for.

use super::error::ApiError;
use crate::types::ModelName;

/// Reads a name as the routes that run, show, pull and delete models read it: a last part `local` or `cloud` says where
/// the model is. `empty` is what the route says of no name at all.
///
/// # Errors
/// A name that is none, and one of a model that runs in the cloud.
pub fn model(text: &str, empty: impl FnOnce() -> ApiError) -> Result<ModelName, ApiError> {
    let text = text.trim();
    let (rest, source) = split_source(text);
    if rest.is_empty() {
        return Err(empty());
    }
    if source.is_some() && split_source(rest).1.is_some() {
        return Err(ApiError::Invalid(format!("use either :local or :cloud, not both: {text:?}")));
    }
    let name = ModelName::parse(rest).map_err(ApiError::invalid_name)?;
    match source {
        Some(Source::Cloud) => Err(remote("remote model is unavailable")),
        _ => Ok(name),
    }
}

/// What is not answered because it would leave this machine.
pub fn remote(what: &str) -> ApiError {
    ApiError::Forbidden(format!("ollama cloud is disabled: {what}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Cloud,
    Local,
}

fn split_source(text: &str) -> (&str, Option<Source>) {
    let Some((rest, last)) = text.rsplit_once(':') else { return (text, None) };
    let lower = last.to_lowercase();
    match lower.as_str() {
        "cloud" => (rest, Some(Source::Cloud)),
        "local" => (rest, Some(Source::Local)),
        tag if tag.ends_with("-cloud") && !tag.contains('/') => {
            (&text[..text.len() - "-cloud".len()], Some(Source::Cloud))
        }
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let name = model(text, || ApiError::invalid("model is required"));
        name.map(|name| name.short()).map_err(|error| error.to_string())
    }

    #[test]
    fn sources() {
        assert_eq!(read(" tiny:local "), Ok("tiny:latest".into()));
        assert_eq!(read("tiny:q8:LOCAL"), Ok("tiny:q8".into()));
        assert_eq!(read("localhost:5000/a/b"), Ok("localhost:5000/a/b:latest".into()));
        for cloud in ["gpt-oss:20b-cloud", "gpt-oss:cloud"] {
            assert_eq!(read(cloud), Err("ollama cloud is disabled: remote model is unavailable".into()));
        }
        assert_eq!(read("a:cloud:local"), Err("use either :local or :cloud, not both: \"a:cloud:local\"".into()));
        assert_eq!(read(""), Err("model is required".into()));
        assert_eq!(read("../x"), Err("invalid model name".into()));
    }
}
