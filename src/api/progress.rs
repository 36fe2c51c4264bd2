//! Work that tells of its progress: creating, pulling, pushing.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::error::{ApiError, json_as};
use super::stream::{Pieces, last, ndjson};
use crate::wire::ollama;

/// Here Ollama names no character set.
const JSON: &str = "application/json";
/// Between two lines of work that would tell more often.
const TICK: Duration = Duration::from_millis(60);

/// Line by line, or the last line only.
pub async fn respond<T: Serialize + Send + 'static>(stream: bool, pieces: Pieces<T>) -> Response {
    let answer = if stream { ndjson(pieces).await } else { last(pieces).await.map(|last| json_as(&last, JSON)) };
    answer.unwrap_or_else(refuse)
}

/// Answers with what `work` tells, on a thread of its own, and with its error at the end.
pub async fn working<T: Serialize + Send + 'static>(
    stream: bool,
    work: impl FnOnce(&mut Teller<T>) -> Result<(), ApiError> + Send + 'static,
) -> Response {
    let (lines, receive) = mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        let mut teller = Teller { lines, last: None };
        if let Err(error) = work(&mut teller) {
            teller.lines.send(Err(error)).ok();
        }
    });
    respond(stream, Box::pin(UnboundedReceiverStream::new(receive))).await
}

/// Where work tells how far it is. Whoever tells hears `false` when nobody listens any more, which ends the work.
pub struct Teller<T> {
    lines: mpsc::UnboundedSender<Result<T, ApiError>>,
    last: Option<Instant>,
}

impl<T> Teller<T> {
    pub fn tell(&mut self, line: T) -> bool {
        self.lines.send(Ok(line)).is_ok()
    }

    /// Tells a step of many: no more than one each tick, and the last one always.
    pub fn step(&mut self, completed: u64, total: u64, line: impl FnOnce() -> T) -> bool {
        if completed != total && self.last.is_some_and(|last| last.elapsed() < TICK) {
            return !self.lines.is_closed();
        }
        self.last = Some(Instant::now());
        self.tell(line())
    }
}

fn refuse(error: ApiError) -> Response {
    let text = error.to_string();
    (error.status(), json_as(&ollama::Error { error: &text }, JSON)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_come_no_more_often_than_each_tick() {
        let (lines, mut receive) = mpsc::unbounded_channel();
        let mut teller = Teller { lines, last: None };
        assert!(teller.step(1, 10, || 1) && teller.step(2, 10, || 2));
        tokio::time::advance(TICK).await;
        assert!(teller.step(3, 10, || 3) && teller.step(4, 10, || 4) && teller.tell(100) && teller.step(10, 10, || 10));
        let told: Vec<i32> = std::iter::from_fn(|| receive.try_recv().ok()).map(Result::unwrap).collect();
        assert_eq!(told, [1, 3, 100, 10]);
        drop(receive);
        assert!(!teller.step(5, 10, || 5) && !teller.tell(6) && !teller.step(10, 10, || 7), "nobody listens");
    }
}
