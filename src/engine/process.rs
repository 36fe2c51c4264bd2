//! The server's side of a runner: starts the child, routes its events, ends it.
//!
//! One task reads events and gives each to its request without ever waiting, so that a slow reader cannot hold up the
//! others: when a request's buffer is full, that request alone is ended.
//!
//! Invariant: a request that is dropped sends a cancel; a [`ProcessRunner`] that is dropped closes the pipe and the child
//! ends, as it does when the server dies. One that saves prompts is told to leave, and has [`LEAVE`] for it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::event::{EngineError, RunnerReport, StepEvent};
use super::protocol::{Command, Event, SequenceId};
use super::request::{EmbedReply, EmbedRequest, GenerateRequest, LoadSpec};
use super::spawn::{Commands, Events, Offspring, Program, Spawned};
use super::{Engine, Runner, StepStream};

/// Events that wait for one request's reader. A reader this far behind is given up.
const BUFFER: usize = 8192;
/// How long a runner may take to write what it saves. What is not written by then is lost.
const LEAVE: Duration = Duration::from_secs(10);

/// Starts runners as child processes.
#[derive(Clone, Debug)]
pub struct ProcessEngine {
    program: Program,
    savers: Savers,
}

/// Runners that save prompts, and so take their time to end.
#[derive(Clone, Debug)]
struct Savers {
    all: TaskTracker,
    /// Those that nobody holds any more.
    leaving: TaskTracker,
}

impl Savers {
    fn new() -> Self {
        let [all, leaving] = std::array::from_fn(|_| {
            let tracker = TaskTracker::new();
            // Only of a closed one can the end be waited for. It takes in others all the same.
            tracker.close();
            tracker
        });
        Self { all, leaving }
    }
}

impl ProcessEngine {
    /// `program` must run [`super::child::main`] when it is given `arguments`.
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program: Program::new(program, arguments), savers: Savers::new() }
    }

    /// `hanzod runner`, of the program that is running.
    ///
    /// # Errors
    /// When the system does not tell where the program is.
    pub fn of_this_program() -> std::io::Result<Self> {
        Ok(Self { program: Program::this()?, savers: Savers::new() })
    }

    /// Waits until runners that save prompts have written them and ended. Nobody may hold one any more.
    pub async fn ended(&self) {
        timeout(LEAVE, self.savers.all.wait()).await.ok();
    }
}

impl Engine for ProcessEngine {
    fn load(&self, spec: LoadSpec) -> BoxFuture<'static, Result<Arc<dyn Runner>, EngineError>> {
        let (program, savers) = (self.program.clone(), self.savers.clone());
        async move {
            let checked = spec.clone();
            let check = tokio::task::spawn_blocking(move || super::route::check(&checked));
            check.await.unwrap_or_else(|error| Err(error.to_string())).map_err(EngineError::Load)?;
            if spec.saving.is_some() {
                // Those that leave still have the memory that this one was promised, and may be writing what it is to read.
                savers.leaving.wait().await;
            }
            Ok(Arc::new(ProcessRunner::start(&program, spec, savers).await?) as Arc<dyn Runner>)
        }
        .boxed()
    }
}

/// Where a request's events go.
enum Sink {
    Steps { events: mpsc::Sender<Result<StepEvent, EngineError>>, slow: Arc<AtomicBool> },
    Embedded(oneshot::Sender<Result<EmbedReply, EngineError>>),
    Tokens(oneshot::Sender<Result<Vec<u32>, EngineError>>),
    Text(oneshot::Sender<Result<String, EngineError>>),
}

impl Sink {
    fn fail(self, error: EngineError) {
        match self {
            Self::Steps { events, .. } => drop(events.try_send(Err(error))),
            Self::Embedded(reply) => drop(reply.send(Err(error))),
            Self::Tokens(reply) => drop(reply.send(Err(error))),
            Self::Text(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What the runner, its requests and its reading task share.
struct Shared {
    next: AtomicU64,
    alive: AtomicBool,
    /// A std mutex: held for single map operations, never over an await.
    sinks: Mutex<HashMap<SequenceId, Sink>>,
    /// Why it died, once it has.
    death: Mutex<Option<EngineError>>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Shared {
    fn sinks(&self) -> MutexGuard<'_, HashMap<SequenceId, Sink>> {
        self.sinks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn death(&self) -> EngineError {
        let death = self.death.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        death.clone().unwrap_or_else(|| EngineError::Died("it is gone".into()))
    }

    /// Registers `sink` and sends the command made with its number; a dead runner answers at once.
    fn open(self: &Arc<Self>, sink: Sink, command: impl FnOnce(SequenceId) -> Command) -> Hold {
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        self.sinks().insert(sequence, sink);
        let sent = self.commands.send(command(sequence)).is_ok();
        if (!sent || !self.alive.load(Ordering::Acquire))
            && let Some(sink) = self.sinks().remove(&sequence)
        {
            sink.fail(self.death());
        }
        Hold { sequence, shared: self.clone() }
    }
}

/// A request's place in the runner: dropped, it cancels what is not over.
struct Hold {
    sequence: SequenceId,
    shared: Arc<Shared>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let unfinished = self.shared.sinks().remove(&self.sequence).is_some();
        if unfinished {
            self.shared.commands.send(Command::Cancel { sequence: self.sequence }).ok();
        }
    }
}

/// A loaded model in a child process.
pub struct ProcessRunner {
    report: RunnerReport,
    shared: Arc<Shared>,
    /// Used when the runner is dropped: the task that owns the child then ends it.
    end: Option<oneshot::Sender<TaskTrackerToken>>,
    leaving: TaskTracker,
    /// Closed when the child is no more.
    lives: watch::Receiver<()>,
}

impl Drop for ProcessRunner {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.send(self.leaving.token()).ok();
        }
    }
}

impl ProcessRunner {
    async fn start(program: &Program, spec: LoadSpec, savers: Savers) -> Result<Self, EngineError> {
        let saves = spec.saving.is_some();
        let started = program.start();
        let Spawned { commands: pipe, mut events, process } =
            started.map_err(|error| EngineError::Load(format!("cannot start the runner: {error}")))?;

        let (commands, queue) = mpsc::unbounded_channel();
        commands.send(Command::Load(Box::new(spec))).ok();
        tokio::spawn(write(pipe, queue));
        let report = match events.next().await {
            Some(Event::Loaded(report)) => *report,
            Some(Event::LoadFailed(error)) => return Err(error),
            Some(_) => return Err(EngineError::Load("the runner spoke out of turn".into())),
            None => {
                return Err(EngineError::Load(match process.last_rites().await {
                    EngineError::Died(words) => format!("model runner has terminated while loading: {words}"),
                    other => other.to_string(),
                }));
            }
        };

        let shared = Arc::new(Shared {
            next: AtomicU64::new(1),
            alive: AtomicBool::new(true),
            sinks: Mutex::default(),
            death: Mutex::default(),
            commands,
        });
        let (end, ended) = oneshot::channel();
        let (life, lives) = watch::channel(());
        let pump = pump(process, events, shared.clone(), ended, saves);
        let pump = async move {
            pump.await;
            drop(life);
        };
        if saves {
            savers.all.spawn(pump)
        } else {
            tokio::spawn(pump)
        };
        Ok(Self { report, shared, end: Some(end), leaving: savers.leaving, lives })
    }
}

impl Runner for ProcessRunner {
    fn report(&self) -> &RunnerReport {
        &self.report
    }

    fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        let mut lives = self.lives.clone();
        async move { while lives.changed().await.is_ok() {} }.boxed()
    }

    fn generate(&self, request: GenerateRequest) -> StepStream {
        let (sender, mut events) = mpsc::channel(BUFFER);
        let slow = Arc::new(AtomicBool::new(false));
        let hold = self.shared.open(Sink::Steps { events: sender, slow: slow.clone() }, |sequence| Command::Generate {
            sequence,
            request: Box::new(request),
        });
        Box::pin(async_stream::stream! {
            let hold = hold;
            while let Some(event) = events.recv().await {
                let last = !matches!(event, Ok(StepEvent::Text { .. }));
                yield event;
                if last {
                    return;
                }
            }
            yield Err(if slow.load(Ordering::Acquire) { EngineError::Slow } else { hold.shared.death() });
        })
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<EmbedReply, EngineError>> {
        let (sender, reply) = oneshot::channel();
        let hold = self.shared.open(Sink::Embedded(sender), |sequence| Command::Embed { sequence, request });
        answer(hold, reply)
    }

    fn tokenize(&self, text: String, add_special: bool) -> BoxFuture<'static, Result<Vec<u32>, EngineError>> {
        let (sender, reply) = oneshot::channel();
        let command = |sequence| Command::Tokenize { sequence, text, add_special };
        let hold = self.shared.open(Sink::Tokens(sender), command);
        answer(hold, reply)
    }

    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'static, Result<String, EngineError>> {
        let (sender, reply) = oneshot::channel();
        let hold = self.shared.open(Sink::Text(sender), |sequence| Command::Detokenize { sequence, tokens });
        answer(hold, reply)
    }
}

fn answer<T: Send + 'static>(
    hold: Hold,
    reply: oneshot::Receiver<Result<T, EngineError>>,
) -> BoxFuture<'static, Result<T, EngineError>> {
    async move { reply.await.unwrap_or_else(|_| Err(hold.shared.death())) }.boxed()
}

/// Sends commands until every sender is gone or the child no longer reads.
async fn write(mut pipe: Commands, mut queue: mpsc::UnboundedReceiver<Command>) {
    while let Some(command) = queue.recv().await {
        if pipe.send(&command).await.is_err() {
            return;
        }
    }
}

/// Owns the child: routes its events until it dies or the runner is dropped.
async fn pump(
    mut process: Offspring,
    mut events: Events,
    shared: Arc<Shared>,
    mut ended: oneshot::Receiver<TaskTrackerToken>,
    saves: bool,
) {
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => route(&shared, event),
                None => break,
            },
            // The token is held until the process is gone.
            _leaving = &mut ended => {
                // Nobody holds the runner any more, so nobody waits for an answer.
                shared.alive.store(false, Ordering::Release);
                if saves && shared.commands.send(Command::Leave).is_ok() {
                    process.wait(LEAVE).await;
                }
                process.kill().await;
                return;
            }
        }
    }
    let death = process.last_rites().await;
    tracing::error!(%death, "a runner died");
    *shared.death.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(death.clone());
    shared.alive.store(false, Ordering::Release);
    let orphans = std::mem::take(&mut *shared.sinks());
    for sink in orphans.into_values() {
        sink.fail(death.clone());
    }
}

fn route(shared: &Shared, event: Event) {
    match event {
        Event::Step { sequence, step } => {
            let last = matches!(step, StepEvent::Done(_));
            let mut sinks = shared.sinks();
            let Some(Sink::Steps { events, slow }) = sinks.get(&sequence) else { return };
            if events.try_send(Ok(step)).is_err() {
                slow.store(true, Ordering::Release);
                sinks.remove(&sequence);
                shared.commands.send(Command::Cancel { sequence }).ok();
            } else if last {
                sinks.remove(&sequence);
            }
        }
        Event::Failed { sequence, error } => {
            if let Some(sink) = shared.sinks().remove(&sequence) {
                sink.fail(error);
            }
        }
        Event::Embedded { sequence, reply } => {
            if let Some(Sink::Embedded(sink)) = shared.sinks().remove(&sequence) {
                sink.send(Ok(reply)).ok();
            }
        }
        Event::Tokens { sequence, tokens } => {
            if let Some(Sink::Tokens(sink)) = shared.sinks().remove(&sequence) {
                sink.send(Ok(tokens)).ok();
            }
        }
        Event::Text { sequence, text } => {
            if let Some(Sink::Text(sink)) = shared.sinks().remove(&sequence) {
                sink.send(Ok(text)).ok();
            }
        }
        Event::Loaded(_) | Event::LoadFailed(_) | Event::TensorQuantized(_) | Event::Quantized(_) => {
            tracing::warn!("a runner spoke out of turn");
        }
    }
}

#[cfg(test)]
mod tests;
