//! One generation in no dialect: a conversation goes in, typed pieces of an answer come out.
//!
//! Every dialect's handler does the same in the same order: [`Turn::new`] finds the model and checks what it can do,
//! [`Turn::load`] leases a runner, [`Loaded::answer`] renders and generates. The lease travels in the stream of the
//! answer, so dropping the stream is all there is to a cancel.

mod answer;
mod chat;
mod prompt;
mod schema;

pub use answer::{Chunk, Done, Event, fold};
pub use chat::Chat;
pub use prompt::Prompt;

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::AppState;
use super::error::ApiError;
use super::models::{Known, blocking, find_to_run};
use super::stream::Pieces;
use crate::engine::route::{Defaults, plan};
use crate::engine::{Constraint, GenerateRequest, LoadSpec};
use crate::scheduler::{Lease, Wanted, available_memory};
use crate::store::{Capability, StoreError};
use crate::types::{Format, KeepAlive, ModelName, Options, Think};

/// What all requests for an answer have in common.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The model as the client wrote it, for errors.
    pub asked: String,
    pub options: Map<String, Value>,
    pub keep_alive: Option<KeepAlive>,
    /// `None` leaves it to the model.
    pub think: Option<Think>,
    pub format: Option<Format>,
    pub truncate: Option<bool>,
    pub shift: Option<bool>,
    /// Log-probabilities with this many alternatives.
    pub logprobs: Option<u8>,
}

/// A request whose model was found.
pub struct Turn {
    pub known: Arc<Known>,
    pub wish: Wish,
    began: Instant,
}

impl Turn {
    /// Finds the model.
    ///
    /// # Errors
    /// 404 when there is none of that name.
    pub async fn new(state: &AppState, name: &ModelName, wish: Wish, began: Instant) -> Result<Self, ApiError> {
        let known = find_to_run(state, name, &wish.asked).await?;
        let known = known.ok_or_else(|| ApiError::NotFound(format!("model '{}' not found", wish.asked)))?;
        Ok(Self { known, wish, began })
    }

    /// Settles whether to think: models that can do unless told not to.
    ///
    /// # Errors
    /// When thinking is asked of a model that cannot.
    pub fn settle_thinking(&mut self) -> Result<(), ApiError> {
        let able = self.known.can(Capability::Thinking);
        match self.wish.think {
            None if able => self.wish.think = Some(Think::On),
            Some(think) if think.is_on() && !able => {
                return Err(ApiError::Invalid(format!("{:?} does not support thinking", self.wish.asked)));
            }
            _ => {}
        }
        Ok(())
    }

    /// # Errors
    /// When the model makes no text. `task` is the route's word for that.
    pub fn need_completion(&self, task: &str) -> Result<(), ApiError> {
        if self.known.can(Capability::Completion) {
            return Ok(());
        }
        Err(ApiError::Invalid(format!("{:?} does not support {task}", self.wish.asked)))
    }

    /// # Errors
    /// When the model lacks what the request needs.
    pub fn need(&self, capability: Capability) -> Result<(), ApiError> {
        if self.known.can(capability) {
            return Ok(());
        }
        Err(ApiError::Invalid(format!("{} does not support {}", self.known.model.name, capability.as_str())))
    }

    /// Unloads the model as soon as nobody uses it.
    ///
    /// # Errors
    /// When its weights are not there.
    pub async fn unload(&self, state: &AppState) -> Result<(), ApiError> {
        let (_, wanted) = wanted(state, &self.known, &Map::new(), None).await?;
        state.scheduler.unload(&wanted.spec).await;
        Ok(())
    }

    /// Waits for a runner.
    ///
    /// # Errors
    /// Options of a wrong type, a full queue, a model that cannot be loaded.
    pub async fn load(self, state: &AppState) -> Result<Loaded, ApiError> {
        let (options, wanted) = wanted(state, &self.known, &self.wish.options, self.wish.keep_alive).await?;
        let spec = wanted.spec.clone();
        let lease = state.scheduler.acquire(wanted).await?;
        Ok(Loaded { lease, options, spec, turn: self })
    }
}

/// What the scheduler is asked for: the model with the server's defaults, its own parameters and the request's options.
///
/// # Errors
/// Options of a wrong type; weights that are missing or that nothing here runs.
pub async fn wanted(
    state: &AppState,
    known: &Arc<Known>,
    options: &Map<String, Value>,
    keep_alive: Option<KeepAlive>,
) -> Result<(Options, Wanted), ApiError> {
    let mut resolved = Options::default();
    resolved.apply(&known.model.parameters)?;
    resolved.apply(options)?;
    let (known, load, defaults) = (known.clone(), resolved.load.clone(), state.defaults.clone());
    let wanted = blocking(move || {
        let defaults = Defaults { available: available_memory(), ..defaults };
        let plan = plan(&known.model, &load, defaults)?;
        Ok::<_, StoreError>(Wanted {
            name: known.model.name.short(),
            digest: known.model.digest,
            spec: plan.spec,
            estimate: plan.estimate,
            keep_alive,
        })
    });
    Ok((resolved, wanted.await?))
}

/// A request whose model is loaded.
pub struct Loaded {
    pub turn: Turn,
    pub lease: Lease,
    options: Options,
    spec: LoadSpec,
}

impl Loaded {
    /// Tokens that a prompt and its answer may take together: what the request asks for, though the runner may have room
    /// for more.
    pub fn context(&self) -> usize {
        let asked = usize::try_from(self.spec.options.num_ctx).unwrap_or(usize::MAX);
        match usize::try_from(self.lease.runner().report().context_length) {
            Ok(length) if length > 0 => length.min(asked),
            _ => asked,
        }
    }

    /// Generates. Its first piece comes with the first token.
    pub fn answer(self, prompt: Prompt) -> Pieces<Event> {
        let context = self.context() as u64;
        let wish = &self.turn.wish;
        let hold = prompt.hold;
        let framed = hold.framed;
        let constraint = wish.format.as_ref().map(|format| Constraint {
            schema: schema::text(format, hold.bare, &hold.tools),
            after: hold.after,
            calls: hold.calls,
        });
        let family = self.turn.known.model.config.model_family.as_str();
        let request = GenerateRequest {
            prompt: prompt.parts,
            sampling: self.options.sampling,
            constraint,
            preserved: prompt.preserved,
            logprobs: wish.logprobs,
            context,
            truncate: wish.truncate.unwrap_or(true),
            shift: wish.shift.unwrap_or(family != "deepseek2"),
        };
        answer::answer(self.lease, request, framed, prompt.parsers, self.turn.began)
    }
}
