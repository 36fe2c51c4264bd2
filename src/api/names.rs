//! The names by which requests call models, before they are looked for.

use super::error::ApiError;
use crate::config::{Endpoint, OLLAMA_PORT};
use crate::create::{CreateError, Remote};
use crate::types::ModelName;

/// Where the models are that names with `cloud` mean.
const CLOUD: &str = "ollama.com";

/// Reads a name as the routes that run, pull and delete models read it: a last part `local` or `cloud` says where the
/// model is. `empty` is what the route says of no name at all.
///
/// # Errors
/// A name that is none, and one of a model that runs in the cloud.
pub fn model(text: &str, empty: impl FnOnce() -> ApiError) -> Result<ModelName, ApiError> {
    here(text, empty, "remote model is unavailable")
}

/// As [`model`], for the routes that only tell of a model.
///
/// # Errors
/// As [`model`], in words of their own.
pub fn model_to_show(text: &str, empty: impl FnOnce() -> ApiError) -> Result<ModelName, ApiError> {
    here(text, empty, "remote model details are unavailable")
}

fn here(text: &str, empty: impl FnOnce() -> ApiError, in_cloud: &str) -> Result<ModelName, ApiError> {
    match read(text, empty)? {
        (_, _, Some(Source::Cloud)) => Err(remote(in_cloud)),
        (name, ..) => Ok(name),
    }
}

/// What a new model is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Here(ModelName),
    Elsewhere(Remote),
}

/// Reads the name of a model to start from, and the address of the server that has it, if there is one.
///
/// # Errors
/// A name that is none; an address that is none.
pub fn base(text: &str, host: &str) -> Result<Base, ApiError> {
    let (name, rest, source) = read(text, || CreateError::NoSource.into())?;
    let host = match (host.trim(), source) {
        ("", Some(Source::Cloud)) => Endpoint::parse(CLOUD, OLLAMA_PORT).url(),
        ("", _) => return Ok(Base::Here(name)),
        (host, _) => address(host).ok_or(CreateError::BadRemote)?,
    };
    Ok(Base::Elsewhere(Remote { model: rest.to_owned(), host }))
}

/// A server's address with its scheme and port, read as `OLLAMA_HOST` is, but for what cannot be meant.
fn address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let named = host.bytes().any(|byte| byte.is_ascii_alphanumeric()) && !host.starts_with(':');
    let port = match host.rsplit_once(':') {
        Some((before, port)) if !before.contains(':') || before.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    let good = ["http", "https"].contains(&scheme) && named && port && host.bytes().all(legal);
    good.then(|| Endpoint::parse(text, OLLAMA_PORT).url())
}

/// Whether the name says that the model is to be this machine's own.
pub fn is_local(text: &str) -> bool {
    split_source(text.trim()).1 == Some(Source::Local)
}

/// The name, its text, and where its last part says that the model is.
fn read(text: &str, empty: impl FnOnce() -> ApiError) -> Result<(ModelName, &str, Option<Source>), ApiError> {
    let text = text.trim();
    let (rest, source) = split_source(text);
    if rest.is_empty() {
        return Err(empty());
    }
    if source.is_some() && split_source(rest).1.is_some() {
        return Err(ApiError::Invalid(format!("use either :local or :cloud, not both: {text:?}")));
    }
    let name = ModelName::parse(rest).map_err(ApiError::invalid_name)?;
    Ok((name, rest, source))
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

    fn short(text: &str) -> Result<String, String> {
        let name = model(text, || ApiError::invalid("model is required"));
        name.map(|name| name.short()).map_err(|error| error.to_string())
    }

    #[test]
    fn sources() {
        assert_eq!(short(" tiny:local "), Ok("tiny:latest".into()));
        assert_eq!(short("tiny:q8:LOCAL"), Ok("tiny:q8".into()));
        assert_eq!(short("localhost:5000/a/b"), Ok("localhost:5000/a/b:latest".into()));
        for cloud in ["gpt-oss:20b-cloud", "gpt-oss:cloud"] {
            assert_eq!(short(cloud), Err("ollama cloud is disabled: remote model is unavailable".into()));
        }
        assert_eq!(short("a:cloud:local"), Err("use either :local or :cloud, not both: \"a:cloud:local\"".into()));
        assert_eq!(short(""), Err("model is required".into()));
        assert_eq!(short("../x"), Err("invalid model name".into()));
    }

    #[test]
    fn bases() {
        let elsewhere = |text: &str, host: &str| match base(text, host) {
            Ok(Base::Elsewhere(Remote { model, host })) => format!("{model} at {host}"),
            Ok(Base::Here(name)) => name.short(),
            Err(error) => error.to_string(),
        };
        for (text, host, expected) in [
            ("gpt-oss:20b-cloud", "", "gpt-oss:20b at https://ollama.com:443"),
            ("gpt-oss:cloud", "", "gpt-oss at https://ollama.com:443"),
            ("tiny", "box", "tiny at http://box:11434"),
            ("tiny:q8", "https://box/", "tiny:q8 at https://box:443"),
            ("tiny", "http://[::1]:99", "tiny at http://[::1]:99"),
            ("tiny:local", "", "tiny:latest"),
            ("../x", "box", "invalid model name"),
            ("", "box", "neither 'from' or 'files' was specified"),
        ] {
            assert_eq!(elsewhere(text, host), expected);
        }
        for bad in ["ftp://box", "http://", "u:p@box", "box/path", "box:70000", "box?x", "a b", ":11434"] {
            assert_eq!(elsewhere("tiny", bad), "bad remote", "{bad}");
        }
    }
}
