//! Every error that a client can see, its status, and its envelope in each dialect.
//!
//! Status codes of errors stand here and nowhere else.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::create::{CreateError, CreateErrorKind};
use crate::engine::EngineError;
use crate::go;
use crate::prompt::{ParseError, PromptError};
use crate::pull::PullError;
use crate::scheduler::SchedulerError;
use crate::store::StoreError;
use crate::types::name::InvalidName;
use crate::types::options::OptionError;
use crate::wire::go_json::JsonError;
use crate::wire::{anthropic, ollama, openai};

/// The text is for the client; what is behind an internal error is logged where it becomes one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request cannot be meant, or the model cannot do what it asks for.
    #[error("{0}")]
    Invalid(String),
    #[error("missing request body")]
    NoBody,
    /// Of a blob that is this long.
    #[error("the range is outside of its {0} bytes")]
    Range(u64),
    #[error("request body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the request's body came too slowly")]
    SlowBody,
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(String),
    /// The engine has no such ability.
    #[error("{0}")]
    NotImplemented(String),
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    pub fn invalid_name(error: InvalidName) -> Self {
        Self::Invalid(error.to_string())
    }

    pub fn internal(text: impl ToString) -> Self {
        Self::Internal(text.to_string())
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::NoBody => StatusCode::BAD_REQUEST,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Range(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<JsonError> for ApiError {
    fn from(error: JsonError) -> Self {
        if error.is_empty() { Self::NoBody } else { Self::Invalid(error.to_string()) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::NotFound(_) => Self::NotFound(text),
            StoreError::NotOurs { .. } => Self::Forbidden(text),
            StoreError::DigestMismatch { .. } | StoreError::Unusable { .. } => Self::Invalid(text),
            _ => Self::Internal(text),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let text = error.to_string();
        match error.kind() {
            CreateErrorKind::BadRequest => Self::Invalid(text),
            CreateErrorKind::NotFound => Self::NotFound(text),
            CreateErrorKind::Internal => Self::Internal(text),
        }
    }
}

/// All 500, as in Ollama: the fault is another server's, or this one's.
impl From<PullError> for ApiError {
    fn from(error: PullError) -> Self {
        Self::internal(error)
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::Invalid(_) => Self::Invalid(text),
            _ => Self::Internal(text),
        }
    }
}

impl From<SchedulerError> for ApiError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Busy | SchedulerError::Stopped => Self::Busy(error.to_string()),
            SchedulerError::Timeout => Self::internal(error),
            SchedulerError::Engine(error) => error.into(),
        }
    }
}

/// Ollama answers 500 here, though it is the client who can help it.
impl From<OptionError> for ApiError {
    fn from(error: OptionError) -> Self {
        Self::internal(error)
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        Self::internal(error)
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        Self::internal(error)
    }
}

/// `?` takes every error below into every envelope. Spelled out, since `impl<E: Into<ApiError>> From<E>` collides with an
/// impl of smallvec's, which comes with mistral.rs.
macro_rules! envelopes {
    ($envelope:ident takes $($error:ty),+) => {
        $(impl From<$error> for $envelope {
            fn from(error: $error) -> Self {
                Self(error.into())
            }
        })+
    };
    ($($envelope:ident)+) => {
        $(envelopes! {
            $envelope takes ApiError, JsonError, StoreError, CreateError, EngineError, SchedulerError, OptionError,
            PromptError, ParseError
        })+
    };
}

envelopes! { OllamaError OpenAiError AnthropicError }

/// In Ollama's envelope.
#[derive(Debug)]
pub struct OllamaError(pub ApiError);

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        let text = self.0.to_string();
        (self.0.status(), json(&ollama::Error { error: &text })).into_response()
    }
}

/// In OpenAI's envelope.
#[derive(Debug)]
pub struct OpenAiError(pub ApiError);

impl OpenAiError {
    pub fn envelope(&self) -> openai::Envelope {
        let kind = match self.0.status() {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        openai::Envelope::new(kind, v1_text(&self.0))
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        (self.0.status(), json(&self.envelope())).into_response()
    }
}

/// In Anthropic's envelope.
#[derive(Debug)]
pub struct AnthropicError(pub ApiError);

impl AnthropicError {
    pub fn envelope(&self) -> anthropic::Envelope {
        let kind = match self.0.status() {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            _ => "api_error",
        };
        anthropic::Envelope::new(kind, v1_text(&self.0), super::id::hex("req_"))
    }
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response {
        (self.0.status(), json(&self.envelope())).into_response()
    }
}

/// Under `/v1` the text of a missing body is Go's own.
fn v1_text(error: &ApiError) -> String {
    if *error == ApiError::NoBody { "EOF".into() } else { error.to_string() }
}

/// JSON as Go writes it, with gin's content type.
pub fn json<T: Serialize>(value: &T) -> Response {
    json_as(value, "application/json; charset=utf-8")
}

/// JSON as Go writes it, ended by a line feed where Ollama's writers under `/v1` end it.
pub fn json_line<T: Serialize>(value: &T) -> Response {
    let mut body = go::json::to_vec(value).expect("answers are plain JSON: a bug");
    body.push(b'\n');
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// JSON as Go writes it.
pub fn json_as<T: Serialize>(value: &T, kind: &'static str) -> Response {
    let body = go::json::to_vec(value).expect("answers are plain JSON: a bug");
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}
