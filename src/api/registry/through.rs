//! Pulls that a client of the registry set off: the model it asked for is not here, and is brought from upstream.
//!
//! The client waits for the whole pull. One that would have to wait longer than clients do is told to ask again; the pull goes
//! on meanwhile, whoever leaves, since that is the only way in which a large model ever arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::answer::RegistryError;
use crate::api::error::ApiError;
use crate::pull::{PullError, Puller, Source};
use crate::types::ModelName;

/// Pulls at once: strangers must not fill the disk with all there is.
const MOST: usize = 4;

type Outcome = watch::Receiver<Option<Result<(), PullError>>>;

/// The pulls under way. A std mutex: held for single map operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls(Arc<Mutex<HashMap<ModelName, Outcome>>>);

impl Pulls {
    fn lock(&self) -> MutexGuard<'_, HashMap<ModelName, Outcome>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `name` is here, by a pull that is under way or a new one. That there is no such model is no error here.
    pub(super) async fn pull(&self, puller: &Puller, name: ModelName, patience: Duration) -> Result<(), RegistryError> {
        let shown = name.short();
        let busy = |why: &str| ApiError::Busy(format!("{shown} {why}"));
        let mut outcome = self.join(puller, name).ok_or_else(|| busy("has to wait for other pulls"))?;
        let ended = tokio::time::timeout(patience, outcome.wait_for(Option::is_some)).await;
        let ended = ended.map_err(|_| busy("is being pulled from upstream, ask again"))?;
        match ended.map_err(|_| ApiError::internal("the pull was torn down"))?.clone() {
            Some(Err(error)) if !is_unknown(&error) => Err(ApiError::from(error).into()),
            _ => Ok(()),
        }
    }

    fn join(&self, puller: &Puller, name: ModelName) -> Option<Outcome> {
        let mut pulls = self.lock();
        // What ended without a word (a panic) has nobody left who tells.
        pulls.retain(|_, outcome| outcome.has_changed().is_ok());
        if let Some(outcome) = pulls.get(&name) {
            return Some(outcome.clone());
        }
        if pulls.len() >= MOST {
            return None;
        }
        let (tell, outcome) = watch::channel(None);
        pulls.insert(name.clone(), outcome.clone());
        let (own, puller) = (self.clone(), puller.clone());
        tokio::spawn(async move {
            tracing::info!(model.name = %name, "pulled from upstream for a client");
            let mut events = puller.pull_from(Source::Registry(name.clone()), None, false).boxed();
            let mut ended = Ok(());
            while let Some(event) = events.next().await {
                ended = event.map(drop);
            }
            if let Err(error) = &ended {
                tracing::warn!(model.name = %name, %error, "a pull from upstream failed");
            }
            own.lock().remove(&name);
            tell.send_replace(Some(ended));
        });
        Some(outcome)
    }
}

/// Upstream has no such model.
fn is_unknown(error: &PullError) -> bool {
    match error {
        PullError::NotFound => true,
        PullError::Manifest(inner) => is_unknown(inner),
        _ => false,
    }
}
