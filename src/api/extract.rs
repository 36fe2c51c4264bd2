//! Request bodies: read whole up to a limit, whatever their content type says, and decoded as Go decodes.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::error::{AnthropicError, ApiError, OllamaError, OpenAiError};
use super::middleware::Held;
use super::models::blocking;
use crate::wire::go_json::{self, Decode};

/// Of a JSON body: images travel in it.
pub const LARGEST_BODY: usize = 64 << 20;

/// Bodies longer than this are decoded away from the threads that serve.
const LONG: usize = 256 << 10;

/// Bytes of a body that are read although nobody needs them.
const LINGER: u64 = 64 << 20;
/// A body that brings nothing for this long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// And one that after that time has brought less than this many bytes a second.
const SLOWEST: u64 = 1024;

/// The bytes of a body as they come, from a client that may not keep us waiting for ever.
pub struct Upload {
    body: Body,
    /// When its first bytes were waited for.
    began: Option<Instant>,
    bytes: u64,
    /// Once it has ended: whether as it should.
    ended: Option<bool>,
}

impl Upload {
    pub fn new(body: Body) -> Self {
        Self { body, began: None, bytes: 0, ended: None }
    }

    /// Whether any of it was asked for.
    pub fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// # Errors
    /// A body that breaks off, or comes too slowly.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let next = self.piece().await;
        self.ended = match &next {
            Ok(Some(_)) => None,
            Ok(None) => Some(true),
            Err(_) => Some(false),
        };
        next
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, ApiError> {
        let began = *self.began.get_or_insert_with(Instant::now);
        loop {
            let frame = tokio::time::timeout(IDLE, self.body.frame()).await.map_err(|_| ApiError::SlowBody)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| ApiError::Invalid(format!("the request broke off: {error}")))?;
            let Ok(bytes) = frame.into_data() else { continue };
            self.bytes += bytes.len() as u64;
            let seconds = began.elapsed().as_secs();
            if seconds >= IDLE.as_secs() && self.bytes / seconds < SLOWEST {
                return Err(ApiError::SlowBody);
            }
            return Ok(Some(bytes));
        }
    }

    /// Reads on before a body is answered that is not needed any more. Most clients write all of it before they look for the
    /// answer, and then ask again over the same connection: one that is closed under them looks like a server that died.
    /// Gives whether it came to its end.
    pub async fn linger(&mut self) -> bool {
        let most = self.bytes.saturating_add(LINGER);
        while self.ended.is_none() && self.bytes < most {
            self.next().await.ok();
        }
        self.ended == Some(true)
    }
}

async fn read<T: Decode + Send + 'static>(body: Body, held: &Held) -> Result<T, ApiError> {
    let announced = body.size_hint().lower();
    if announced > LARGEST_BODY as u64 {
        return Err(ApiError::TooLarge(LARGEST_BODY));
    }
    let mut upload = Upload::new(body);
    let mut text = Vec::with_capacity(announced as usize);
    while let Some(bytes) = upload.next().await? {
        if text.len() + bytes.len() > LARGEST_BODY {
            return Err(ApiError::TooLarge(LARGEST_BODY));
        }
        held.grow(text.len() + bytes.len())?;
        text.extend_from_slice(&bytes);
    }
    if text.len() > LONG {
        return blocking(move || go_json::decode(&text)).await;
    }
    Ok(go_json::decode(&text)?)
}

macro_rules! extractor {
    ($(#[$doc:meta])* $name:ident, $error:ident) => {
        $(#[$doc])*
        pub struct $name<T>(pub T);

        impl<T: Decode + Send + 'static, S: Sync> FromRequest<S> for $name<T> {
            type Rejection = $error;

            async fn from_request(request: Request, _: &S) -> Result<Self, $error> {
                let held = Held::of(&request);
                Ok(Self(read(request.into_body(), &held).await?))
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::{self, StreamExt as _};

    use super::*;
    use crate::wire::ollama::CopyRequest;

    /// `count` bytes, each after a wait.
    fn drops(count: usize, wait: Duration) -> Body {
        let byte = move |_| async move {
            tokio::time::sleep(wait).await;
            Ok::<_, Infallible>(Bytes::from_static(b" "))
        };
        Body::from_stream(stream::iter(0..count).then(byte))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_are_given_up() {
        let began = Instant::now();
        let error = read::<CopyRequest>(drops(1000, Duration::from_secs(9)), &Held::default()).await.unwrap_err();
        assert_eq!((error, began.elapsed().as_secs()), (ApiError::SlowBody, 36));
        let error = read::<CopyRequest>(drops(1, Duration::from_secs(31)), &Held::default()).await.unwrap_err();
        assert_eq!(error, ApiError::SlowBody);
        assert_eq!(
            read::<CopyRequest>(drops(5, Duration::from_secs(1)), &Held::default()).await.unwrap_err(),
            ApiError::NoBody
        );
    }

    #[tokio::test]
    async fn large_bodies_are_refused_before_they_are_whole() {
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b' '; 1 << 20])));
        let error = read::<CopyRequest>(Body::from_stream(endless), &Held::default()).await.unwrap_err();
        assert_eq!(error, ApiError::TooLarge(LARGEST_BODY));
    }
}
