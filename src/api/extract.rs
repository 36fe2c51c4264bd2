//! Request bodies: read whole up to a limit, whatever their content type says, and decoded as Go decodes.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt as _, Limited};

use super::error::{AnthropicError, ApiError, OllamaError, OpenAiError};
use crate::wire::go_json::{self, Decode};

/// Of a JSON body: images travel in it.
pub const LARGEST_BODY: usize = 64 << 20;

async fn read<T: Decode>(body: Body) -> Result<T, ApiError> {
    let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return ApiError::TooLarge(LARGEST_BODY);
        }
        ApiError::Invalid("unexpected EOF".into())
    })?;
    Ok(go_json::decode(&body.to_bytes())?)
}

macro_rules! extractor {
    ($(#[$doc:meta])* $name:ident, $error:ident) => {
        $(#[$doc])*
        pub struct $name<T>(pub T);

        impl<T: Decode + Send, S: Sync> FromRequest<S> for $name<T> {
            type Rejection = $error;

            async fn from_request(request: Request, _: &S) -> Result<Self, $error> {
                Ok(Self(read(request.into_body()).await?))
            }
        }
    };
}

extractor!(
    /// A body of the native API.
    Ollama,
    OllamaError
);
extractor!(
    /// A body of OpenAI's API.
    OpenAi,
    OpenAiError
);
extractor!(
    /// A body of Anthropic's API.
    Anthropic,
    AnthropicError
);
