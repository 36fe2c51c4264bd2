//! What the bodies of all requests may take of memory, together and until their answers are sent: each may be large, and there
//! may be thousands.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::error::ApiError;
use crate::scheduler::SchedulerError;

/// Bytes of all bodies.
const ALL: usize = 2 << 30;
/// They are counted in pieces of this size, and what is not larger not at all.
const PIECE: usize = 64 << 10;

static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(ALL / PIECE)));

/// What one request's body takes. Clones are the same.
#[derive(Clone, Debug)]
pub struct Held {
    room: Arc<Semaphore>,
    /// Locked for no longer than it takes to count.
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Default for Held {
    fn default() -> Self {
        Self { room: ROOM.clone(), permit: Arc::default() }
    }
}

impl Held {
    /// Of a request that came through [`hold`].
    pub fn of(request: &Request) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// The body has grown to so many bytes.
    ///
    /// # Errors
    /// When all bodies together would be too large.
    pub fn grow(&self, bytes: usize) -> Result<(), ApiError> {
        let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let has = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (bytes / PIECE).saturating_sub(has);
        if more == 0 {
            return Ok(());
        }
        let busy = || ApiError::from(SchedulerError::Busy);
        let more = u32::try_from(more).map_err(|_| busy())?;
        let more = self.room.clone().try_acquire_many_owned(more).map_err(|_| busy())?;
        match &mut *permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// Holds what is read of a request's body until its answer is sent.
pub async fn hold(mut request: Request, next: Next) -> Response {
    let held = Held::default();
    request.extensions_mut().insert(held.clone());
    let answer = next.run(request).await;
    answer.map(|body| {
        Body::new(body.map_err(move |error| {
            let _held = &held;
            error
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_the_room() {
        let room = Arc::new(Semaphore::new(10));
        let held = || Held { room: room.clone(), permit: Arc::default() };
        let (one, other) = (held(), held());
        one.grow(PIECE - 1).unwrap();
        assert_eq!(room.available_permits(), 10);
        one.grow(4 * PIECE).unwrap();
        one.grow(2 * PIECE).unwrap();
        one.clone().grow(7 * PIECE).unwrap();
        assert_eq!(room.available_permits(), 3);
        other.grow(3 * PIECE).unwrap();
        assert_eq!(other.grow(4 * PIECE), Err(SchedulerError::Busy.into()));
        drop(one);
        other.grow(10 * PIECE).unwrap();
    }
}
