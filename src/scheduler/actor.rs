//! The task that owns every loaded model.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::resident::{Place, State, Waiter, waited};
use super::{Lease, Resident, SchedulerError, Settings, Wanted, fit};
use crate::engine::{Engine, LoadSpec, Runner};
use crate::types::KeepAlive;

/// The first of the queue may be overtaken for so long by those whose model is there: beside each other they take less time
/// than one after the other. Then a busy model is let run dry for it, however many ask for that one.
const OVERTAKEN: Duration = Duration::from_secs(5);

/// An unloaded model's memory is waited for so long: longer than a runner may take that saves prompts at its end.
const GOING: Duration = Duration::from_secs(15);

pub(super) enum Command {
    Acquire {
        wanted: Box<Wanted>,
        reply: oneshot::Sender<Result<Lease, SchedulerError>>,
    },
    Release {
        resident: u64,
    },
    Loaded {
        resident: u64,
        runner: Result<Arc<dyn Runner>, SchedulerError>,
    },
    /// Somebody stopped waiting.
    Left,
    /// What an unloaded model took is free, or was waited for long enough.
    Gone,
    Unload {
        spec: Box<LoadSpec>,
        reply: oneshot::Sender<bool>,
    },
    List {
        reply: oneshot::Sender<Vec<Resident>>,
    },
}

pub(super) struct Actor {
    engine: Arc<dyn Engine>,
    settings: Settings,
    own: mpsc::WeakUnboundedSender<Command>,
    places: Vec<Place>,
    /// Those who wait for a load that cannot begin yet.
    queue: VecDeque<Waiter>,
    /// Unloaded models whose memory is not free yet.
    going: usize,
    next: u64,
}

impl Actor {
    pub(super) fn new(engine: Arc<dyn Engine>, settings: Settings, own: mpsc::WeakUnboundedSender<Command>) -> Self {
        Self { engine, settings, own, places: Vec::new(), queue: VecDeque::new(), going: 0, next: 1 }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let deadline = self.places.iter().filter_map(|place| place.deadline).min();
            let expiry = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.handle(command),
                    None => return,
                },
                () = expiry => self.expire(),
            }
            self.places.retain(|place| !place.is_dead());
            self.serve_queue();
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Acquire { wanted, reply } => {
                self.places.retain(|place| !place.is_dead());
                self.admit(Waiter { wanted, reply, since: Instant::now() });
            }
            Command::Release { resident } => self.release(resident),
            Command::Loaded { resident, runner } => self.loaded(resident, runner),
            Command::Left => self.forget_those_who_left(),
            Command::Gone => self.going -= 1,
            Command::Unload { spec, reply } => {
                reply.send(self.unload(&spec)).ok();
            }
            Command::List { reply } => {
                reply.send(self.places.iter().filter(|place| !place.is_dead()).map(Place::describe).collect()).ok();
            }
        }
    }

    /// Takes in a request that has just come, unless it would have to wait and too many do already.
    fn admit(&mut self, waiter: Waiter) {
        let owed = self.owed();
        let place = self.place_for(&waiter.wanted.spec).filter(|index| owed != Some(*index));
        let its_turn = place.is_some_and(|index| self.places[index].has_turn());
        let waiting = self.queue.len() + self.places.iter().map(Place::waiting).sum::<usize>();
        // Somebody must be able to wait for a load, or there would be none.
        if !its_turn && waiting >= self.settings.max_queue.max(1) {
            return waiter.fail(SchedulerError::Busy);
        }
        match place {
            Some(index) => self.join(index, waiter),
            None => self.queue.push_back(waiter),
        }
    }

    /// The place that can serve `spec` as it is, or once it is loaded.
    fn place_for(&self, spec: &LoadSpec) -> Option<usize> {
        let index = self.places.iter().position(|place| place.is_of(spec))?;
        self.places[index].can_serve(spec).then_some(index)
    }

    /// Gives the waiter the model of that place, or a place among those who wait for its load.
    fn join(&mut self, index: usize, waiter: Waiter) {
        let Some(own) = self.own.upgrade() else {
            return waiter.fail(SchedulerError::Stopped);
        };
        let place = &mut self.places[index];
        match &mut place.state {
            State::Loading { waiters, .. } => waiters.push(waiter),
            State::Ready { .. } => lease(place, waiter, &own),
        }
    }

    /// The busy place that has to become idle for the first of the queue, once that one was overtaken for long enough.
    fn owed(&self) -> Option<usize> {
        self.queue.front().filter(|first| waited(first.since) >= OVERTAKEN)?;
        // A place that is about to change is what it waits for.
        if self.going > 0
            || self.places.iter().any(|place| place.leaving || matches!(place.state, State::Loading { .. }))
        {
            return None;
        }
        let all = self.places.iter().enumerate();
        all.min_by_key(|(_, place)| place.used).map(|(index, _)| index)
    }

    /// Starts what can be started for those who wait, in their order.
    fn serve_queue(&mut self) {
        while let Some(waiter) = self.queue.pop_front() {
            if waiter.has_left() {
                continue;
            }
            if let Some(index) = self.place_for(&waiter.wanted.spec) {
                self.join(index, waiter);
            } else if self.make_room(&waiter.wanted) {
                self.load(waiter);
            } else {
                self.queue.push_front(waiter);
                return;
            }
        }
    }

    /// True when `wanted` may be loaded now; else what stands in its way has been told to go, or is waited for.
    fn make_room(&mut self, wanted: &Wanted) -> bool {
        if let Some(index) = self.places.iter().position(|place| place.is_of(&wanted.spec)) {
            // The same model with other options: one of it is enough.
            self.places[index].leaving = true;
            if !self.places[index].is_idle() {
                return false;
            }
            self.drop_place(index, "it is loaded anew with other options");
        }
        if self.places.iter().any(|place| matches!(place.state, State::Loading { .. })) {
            return false;
        }
        loop {
            let room = self.places.len() < self.settings.max_loaded.max(1);
            if room && self.going > 0 {
                // What is free is known when they are gone.
                return false;
            }
            if self.places.is_empty() || (room && fit::fits(wanted.estimate, (self.settings.available)())) {
                return true;
            }
            let idle = self.places.iter().enumerate().filter(|(_, place)| place.is_idle());
            let Some((victim, _)) = idle.min_by_key(|(_, place)| place.used) else {
                return false;
            };
            self.drop_place(victim, "another model needs its room");
        }
    }

    fn load(&mut self, waiter: Waiter) {
        let Some(own) = self.own.upgrade() else {
            return waiter.fail(SchedulerError::Stopped);
        };
        let id = self.next;
        self.next += 1;
        let wanted = waiter.wanted.clone();
        tracing::info!(model.name = wanted.name, num_ctx = wanted.spec.options.num_ctx, "a model is being loaded");
        let load = self.engine.load(wanted.spec.clone());
        let limit = self.settings.load_timeout;
        let task = tokio::spawn(async move {
            let runner = match limit {
                Some(limit) => timeout(limit, load).await.map_err(|_| SchedulerError::Timeout),
                None => Ok(load.await),
            };
            let runner = runner.and_then(|runner| runner.map_err(SchedulerError::Engine));
            own.send(Command::Loaded { resident: id, runner }).ok();
        });
        let state = State::Loading { waiters: vec![waiter], task: task.abort_handle() };
        self.places.push(Place::new(id, wanted, state, self.settings.keep_alive));
    }

    fn loaded(&mut self, resident: u64, runner: Result<Arc<dyn Runner>, SchedulerError>) {
        let Some(index) = self.places.iter().position(|place| place.id == resident) else {
            return;
        };
        let Some(own) = self.own.upgrade() else { return };
        let runner = match runner {
            Ok(runner) => runner,
            Err(error) => {
                let place = self.places.swap_remove(index);
                tracing::warn!(model.name = place.wanted.name, %error, "a model could not be loaded");
                if let State::Loading { waiters, .. } = place.state {
                    waiters.into_iter().for_each(|waiter| waiter.fail(error.clone()));
                }
                return;
            }
        };
        let place = &mut self.places[index];
        let ready = State::Ready { runner, leases: 0 };
        let State::Loading { waiters, .. } = std::mem::replace(&mut place.state, ready) else {
            return;
        };
        tracing::info!(model.name = place.wanted.name, "a model is loaded");
        for waiter in waiters {
            lease(place, waiter, &own);
        }
        if place.is_idle() && place.went_idle() {
            self.drop_place(index, "nobody waits for it any more");
        }
    }

    fn release(&mut self, resident: u64) {
        let Some(index) = self.places.iter().position(|place| place.id == resident) else {
            return;
        };
        let place = &mut self.places[index];
        if let State::Ready { leases, .. } = &mut place.state {
            *leases = leases.saturating_sub(1);
        }
        if place.is_idle() && place.went_idle() {
            self.drop_place(index, "its last request has ended");
        }
    }

    fn unload(&mut self, spec: &LoadSpec) -> bool {
        let Some(index) = self.places.iter().position(|place| place.is_of(spec)) else {
            return false;
        };
        if self.places[index].is_idle() {
            self.drop_place(index, "a client wants it so");
        } else {
            self.places[index].leaving = true;
            self.places[index].keep_alive = KeepAlive::Unload;
        }
        true
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(index) = self.places.iter().position(|place| place.deadline.is_some_and(|at| at <= now)) {
            self.drop_place(index, "its keep-alive is over");
        }
    }

    /// Ends loads that nobody waits for any more.
    fn forget_those_who_left(&mut self) {
        self.queue.retain(|waiter| !waiter.has_left());
        self.places.retain_mut(|place| {
            let State::Loading { waiters, task } = &mut place.state else {
                return true;
            };
            waiters.retain(|waiter| !waiter.has_left());
            if waiters.is_empty() {
                tracing::info!(model.name = place.wanted.name, "a load is ended: nobody waits for it");
                task.abort();
            }
            !waiters.is_empty()
        });
    }

    /// Dropping the runner unloads it.
    fn drop_place(&mut self, index: usize, why: &str) {
        let place = self.places.swap_remove(index);
        tracing::info!(model.name = place.wanted.name, why, "a model is unloaded");
        let State::Ready { runner, .. } = place.state else { return };
        let (gone, own) = (runner.gone(), self.own.clone());
        self.going += 1;
        tokio::spawn(async move {
            timeout(GOING, gone).await.ok();
            if let Some(own) = own.upgrade() {
                own.send(Command::Gone).ok();
            }
        });
    }
}

fn lease(place: &mut Place, waiter: Waiter, own: &mpsc::UnboundedSender<Command>) {
    let State::Ready { runner, leases } = &mut place.state else {
        return;
    };
    let lease =
        Lease { resident: place.id, runner: runner.clone(), waited: waited(waiter.since), commands: own.clone() };
    *leases += 1;
    if let Some(keep_alive) = waiter.wanted.keep_alive {
        place.keep_alive = keep_alive;
    }
    place.deadline = None;
    // A waiter that has left drops the lease, which then comes back as a release.
    waiter.reply.send(Ok(lease)).ok();
}
