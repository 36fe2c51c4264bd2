//! With paused time and an engine that loads when it is told to.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::*;
use crate::engine::{EmbedReply, EmbedRequest, EngineKind, GenerateRequest, Runner, StepStream};
use crate::types::{Guessing, LoadOptions};

#[derive(Default)]
struct FakeEngine {
    loads: AtomicUsize,
    unloads: Arc<AtomicUsize>,
    aborted: Arc<AtomicUsize>,
    /// Seconds the next loads take; an error where there is a text.
    script: Mutex<VecDeque<(u64, Option<&'static str>)>>,
    alive: Arc<AtomicBool>,
}

struct FakeRunner {
    report: RunnerReport,
    unloads: Arc<AtomicUsize>,
    alive: Arc<AtomicBool>,
}

thread_local! {
    /// Bytes that are free; a model takes a hundred, and gives them back a second after it was unloaded.
    static FREE: Cell<u64> = const { Cell::new(1 << 40) };
}

impl Drop for FakeRunner {
    fn drop(&mut self) {
        self.unloads.fetch_add(1, Ordering::SeqCst);
    }
}

struct OnDrop(Arc<AtomicUsize>, bool);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Engine for FakeEngine {
    fn load(&self, spec: LoadSpec) -> BoxFuture<'static, Result<Arc<dyn Runner>, EngineError>> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        self.alive.store(true, Ordering::SeqCst);
        let (seconds, error) = self.script.lock().unwrap().pop_front().unwrap_or((1, None));
        let (unloads, alive, aborted) = (self.unloads.clone(), self.alive.clone(), self.aborted.clone());
        async move {
            let mut guard = OnDrop(aborted, true);
            sleep(Duration::from_secs(seconds)).await;
            guard.1 = false;
            if let Some(error) = error {
                return Err(EngineError::Load(error.into()));
            }
            FREE.with(|free| free.set(free.get() - 100));
            let report = RunnerReport { context_length: spec.options.num_ctx as u64, ..RunnerReport::default() };
            Ok(Arc::new(FakeRunner { report, unloads, alive }) as Arc<dyn Runner>)
        }
        .boxed()
    }
}

impl Runner for FakeRunner {
    fn report(&self) -> &RunnerReport {
        &self.report
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        async {
            sleep(Duration::from_secs(1)).await;
            FREE.with(|free| free.set(free.get() + 100));
        }
        .boxed()
    }

    fn generate(&self, _: GenerateRequest) -> StepStream {
        Box::pin(futures_util::stream::empty())
    }

    fn embed(&self, _: EmbedRequest) -> BoxFuture<'static, Result<EmbedReply, EngineError>> {
        async { Err(EngineError::Invalid("no".into())) }.boxed()
    }

    fn tokenize(&self, _: String, _: bool) -> BoxFuture<'static, Result<Vec<u32>, EngineError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn detokenize(&self, _: Vec<u32>) -> BoxFuture<'static, Result<String, EngineError>> {
        async { Ok(String::new()) }.boxed()
    }
}

fn wanted(name: &str) -> Wanted {
    let options = LoadOptions { num_ctx: 4096, ..LoadOptions::default() };
    let spec = LoadSpec {
        engine: EngineKind::Llama,
        weights: vec![name.into()],
        adapters: Vec::new(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::default(),
        options,
        parallel: 4,
        embedding: false,
        saving: None,
    };
    Wanted { name: name.into(), digest: Digest::of(name.as_bytes()), spec, estimate: 100, keep_alive: None }
}

fn start(settings: Settings) -> (Arc<FakeEngine>, Scheduler) {
    let engine = Arc::new(FakeEngine::default());
    (engine.clone(), Scheduler::start(engine, settings))
}

fn plenty() -> Settings {
    Settings { available: || Some(1 << 40), ..Settings::default() }
}

async fn names(scheduler: &Scheduler) -> Vec<String> {
    scheduler.residents().await.into_iter().map(|resident| resident.name).collect()
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_one_load_and_the_clock_starts_with_the_last() {
    let (engine, scheduler) = start(plenty());
    let leases = futures_util::future::join_all((0..8).map(|_| scheduler.acquire(wanted("a")))).await;
    assert_eq!(engine.loads.load(Ordering::SeqCst), 1);
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(names(&scheduler).await, ["a"], "in use, it never expires");
    drop(leases);
    sleep(Duration::from_secs(299)).await;
    assert_eq!(names(&scheduler).await, ["a"]);
    sleep(Duration::from_secs(2)).await;
    assert!(names(&scheduler).await.is_empty());
    assert_eq!(engine.unloads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_explicit_keep_alive_holds_for_later_requests() {
    let (_engine, scheduler) = start(plenty());
    let forever = Wanted { keep_alive: Some(KeepAlive::Forever), ..wanted("a") };
    drop(scheduler.acquire(forever).await.unwrap());
    drop(scheduler.acquire(wanted("a")).await.unwrap());
    sleep(Duration::from_secs(1_000_000)).await;
    assert_eq!(scheduler.residents().await[0].expires, None);
    let zero = Wanted { keep_alive: Some(KeepAlive::Unload), ..wanted("a") };
    drop(scheduler.acquire(zero).await.unwrap());
    assert!(names(&scheduler).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_load_nobody_waits_for_is_ended() {
    let (engine, scheduler) = start(plenty());
    engine.script.lock().unwrap().push_back((100, None));
    let left = tokio::time::timeout(Duration::from_secs(5), scheduler.acquire(wanted("a"))).await;
    assert!(left.is_err());
    assert!(names(&scheduler).await.is_empty());
    tokio::task::yield_now().await;
    assert_eq!(engine.aborted.load(Ordering::SeqCst), 1);
    assert!(scheduler.acquire(wanted("a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_model_idle_longest_makes_room_and_a_busy_one_is_waited_for() {
    let (_engine, scheduler) = start(Settings { max_loaded: 2, ..plenty() });
    drop(scheduler.acquire(wanted("a")).await.unwrap());
    drop(scheduler.acquire(wanted("b")).await.unwrap());
    sleep(Duration::from_secs(1)).await;
    drop(scheduler.acquire(wanted("a")).await.unwrap());
    let c = scheduler.acquire(wanted("c")).await.unwrap();
    let mut resident = names(&scheduler).await;
    resident.sort();
    assert_eq!(resident, ["a", "c"], "b was idle longest");
    let a = scheduler.acquire(wanted("a")).await.unwrap();
    let waiting = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.acquire(wanted("d")).await }
    });
    sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished(), "all are in use");
    let again = scheduler.acquire(wanted("c")).await;
    assert!(again.is_ok(), "what is loaded is served past the queue");
    drop(a);
    assert!(waiting.await.unwrap().is_ok());
    drop((c, again));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_evicts_but_a_first_model_is_always_tried() {
    let (engine, scheduler) = start(Settings { available: || Some(10), ..Settings::default() });
    drop(scheduler.acquire(wanted("a")).await.unwrap());
    drop(scheduler.acquire(wanted("b")).await.unwrap());
    assert_eq!(names(&scheduler).await, ["b"]);
    assert_eq!(engine.unloads.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_larger_context_loads_anew_and_a_smaller_one_does_not() {
    let (engine, scheduler) = start(plenty());
    let with_ctx = |num_ctx| {
        let mut wanted = wanted("a");
        wanted.spec.options.num_ctx = num_ctx;
        wanted
    };
    let lease = scheduler.acquire(with_ctx(4096)).await.unwrap();
    drop(scheduler.acquire(with_ctx(1024)).await.unwrap());
    assert_eq!(engine.loads.load(Ordering::SeqCst), 1);
    let larger = tokio::spawn({
        let (scheduler, wanted) = (scheduler.clone(), with_ctx(8192));
        async move { scheduler.acquire(wanted).await }
    });
    sleep(Duration::from_secs(5)).await;
    assert!(!larger.is_finished(), "the running request is let to end");
    drop(lease);
    let lease = larger.await.unwrap().unwrap();
    assert_eq!((lease.runner().report().context_length, engine.loads.load(Ordering::SeqCst)), (8192, 2));
}

#[tokio::test(start_paused = true)]
async fn what_changes_answers_makes_another_model_and_what_does_not_makes_none() {
    let (engine, scheduler) = start(plenty());
    let with = |name: &str, change: fn(&mut LoadSpec)| {
        let mut wanted = Wanted { name: name.into(), ..wanted("a") };
        change(&mut wanted.spec);
        wanted
    };
    let models = [
        with("plain", |_| ()),
        with("adapted", |spec| spec.adapters.push("lora".into())),
        with("seeing", |spec| spec.projectors.push("eyes".into())),
    ];
    let leases = futures_util::future::join_all(models.clone().map(|model| scheduler.acquire(model))).await;
    assert!(leases.iter().all(Result::is_ok));
    let mut resident = names(&scheduler).await;
    resident.sort();
    assert_eq!(
        (resident, engine.loads.load(Ordering::SeqCst)),
        (["adapted", "plain", "seeing"].map(str::to_owned).into(), 3)
    );
    drop(leases);
    for model in models.clone() {
        drop(scheduler.acquire(Wanted { name: "another name".into(), ..model }).await.unwrap());
    }
    assert_eq!(engine.loads.load(Ordering::SeqCst), 3, "each is there once");
    assert!(scheduler.unload(&models[1].spec).await && !scheduler.unload(&models[1].spec).await);
    assert_eq!(names(&scheduler).await.len(), 2, "the others stay");

    // A draft changes the speed alone: it is loaded for who wants it, and the others are served by what is there.
    let guessed = with("guessed", |spec| spec.drafts.push("draft".into()));
    drop(scheduler.acquire(guessed.clone()).await.unwrap());
    for model in [with("plain", |_| ()), guessed] {
        drop(scheduler.acquire(model).await.unwrap());
    }
    assert_eq!((names(&scheduler).await.len(), engine.loads.load(Ordering::SeqCst)), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn errors_reach_everyone_who_waits_and_the_dead_are_loaded_again() {
    let (engine, scheduler) = start(plenty());
    engine.script.lock().unwrap().push_back((1, Some("broken")));
    let results = futures_util::future::join_all((0..3).map(|_| scheduler.acquire(wanted("a")))).await;
    assert!(results.iter().all(|result| matches!(result, Err(SchedulerError::Engine(_)))));
    let lease = scheduler.acquire(wanted("a")).await.unwrap();
    engine.alive.store(false, Ordering::SeqCst);
    drop(lease);
    assert!(names(&scheduler).await.is_empty());
    assert!(scheduler.acquire(wanted("a")).await.is_ok());
    assert_eq!(engine.loads.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_and_a_slow_load_is_given_up() {
    let (engine, scheduler) = start(Settings { max_queue: 1, ..plenty() });
    engine.script.lock().unwrap().push_back((10_000, None));
    let results =
        tokio::join!(scheduler.acquire(wanted("a")), scheduler.acquire(wanted("b")), scheduler.acquire(wanted("c")),);
    assert!(matches!(results.0, Err(SchedulerError::Timeout)));
    assert!(results.1.is_ok());
    assert!(matches!(results.2, Err(SchedulerError::Busy)));
}

/// Asks for a model and goes on asking elsewhere.
fn ask(scheduler: &Scheduler, name: &str) -> tokio::task::JoinHandle<Result<Lease, SchedulerError>> {
    let (scheduler, wanted) = (scheduler.clone(), wanted(name));
    tokio::spawn(async move { scheduler.acquire(wanted).await })
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_their_turn_are_bounded_too() {
    let (_engine, scheduler) = start(Settings { max_queue: 2, ..plenty() });
    let all = futures_util::future::join_all((0..8).map(|_| scheduler.acquire(wanted("a")))).await;
    let (good, busy): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), busy.len()), (6, 2), "four at once and two that wait, from the load on");
    assert!(busy.iter().all(|result| matches!(result, Err(SchedulerError::Busy))));
    assert!(matches!(scheduler.acquire(wanted("a")).await, Err(SchedulerError::Busy)));
    assert!(matches!(scheduler.acquire(wanted("b")).await, Err(SchedulerError::Busy)), "one queue for all models");
    let mut good = good.into_iter();
    drop((good.next(), good.next()));
    let b = scheduler.acquire(wanted("b")).await.unwrap();
    let waiting = [scheduler.acquire(wanted("a")).await.unwrap(), scheduler.acquire(wanted("a")).await.unwrap()];
    assert!(matches!(scheduler.acquire(wanted("a")).await, Err(SchedulerError::Busy)));
    assert!(scheduler.acquire(wanted("b")).await.is_ok(), "whose turn it is does not wait");
    drop((good, waiting, b));
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_none_can_still_load() {
    let (_engine, scheduler) = start(Settings { max_queue: 0, ..plenty() });
    assert!(scheduler.acquire(wanted("a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_first_of_the_queue_is_not_overtaken_for_ever() {
    let (_engine, scheduler) = start(Settings { max_loaded: 1, ..plenty() });
    let mut a = scheduler.acquire(wanted("a")).await.unwrap();
    let b = ask(&scheduler, "b");
    // Those who want `a` follow each other so closely that it is never idle.
    let mut after = 0;
    let late = loop {
        sleep(Duration::from_secs(1)).await;
        let next = ask(&scheduler, "a");
        sleep(Duration::from_millis(1)).await;
        if !next.is_finished() {
            break next;
        }
        after += 1;
        assert!(after < 100, "`b` is never served");
        a = next.await.unwrap().unwrap();
    };
    assert!((3..=6).contains(&after), "{after} overtook it");
    assert!(!b.is_finished());
    drop(a);
    let b = b.await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(!late.is_finished(), "it waits behind");
    drop(b);
    assert!(late.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_kept_waiting_for_one_that_has_left() {
    let (engine, scheduler) = start(Settings { max_loaded: 1, ..plenty() });
    let a = scheduler.acquire(wanted("a")).await.unwrap();
    let b = ask(&scheduler, "b");
    sleep(Duration::from_secs(10)).await;
    let late = ask(&scheduler, "a");
    sleep(Duration::from_secs(1)).await;
    assert!(!late.is_finished());
    b.abort();
    assert!(late.await.unwrap().is_ok());
    assert_eq!(engine.loads.load(Ordering::SeqCst), 1);
    drop(a);
}

#[tokio::test(start_paused = true)]
async fn what_a_model_gives_back_is_waited_for() {
    let (engine, scheduler) = start(Settings { available: || Some(FREE.with(Cell::get)), ..Settings::default() });
    FREE.with(|free| free.set(350));
    for name in ["a", "b"] {
        drop(scheduler.acquire(wanted(name)).await.unwrap());
        sleep(Duration::from_secs(1)).await;
    }
    let c = Wanted { estimate: 150, ..wanted("c") };
    drop(scheduler.acquire(c).await.unwrap());
    assert_eq!(names(&scheduler).await, ["b", "c"], "one was enough");
    assert_eq!((engine.loads.load(Ordering::SeqCst), engine.unloads.load(Ordering::SeqCst)), (3, 1));
}
