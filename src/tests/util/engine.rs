//! An engine that answers from a script, and remembers what it was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use hanzod::engine::{
    Completion, EmbedReply, EmbedRequest, Engine, EngineError, FinishReason, GenerateRequest, LoadSpec, Runner,
    RunnerReport, StepEvent, StepStream, Usage,
};

/// What the engine does for one request.
#[derive(Clone, Debug)]
pub enum Script {
    /// These texts, a step each, and a good end.
    Say(Vec<&'static str>),
    /// As `Say`.
    Tell(Vec<String>),
    /// As `Say`, and the end is that there was no more room.
    Cut(Vec<String>),
    /// These texts, and then an error.
    Fail(Vec<&'static str>, EngineError),
    /// These texts, and then nothing for ever.
    Hang(Vec<&'static str>),
}

#[derive(Default)]
struct Shared {
    script: Mutex<Option<Script>>,
    load_error: Mutex<Option<EngineError>>,
    requests: Mutex<Vec<GenerateRequest>>,
    loads: AtomicUsize,
    running: AtomicUsize,
}

#[derive(Clone, Default)]
pub struct ScriptedEngine(Arc<Shared>);

impl ScriptedEngine {
    pub fn script(&self, script: Script) {
        *self.0.script.lock().unwrap() = Some(script);
    }

    pub fn refuse_loads(&self, error: EngineError) {
        *self.0.load_error.lock().unwrap() = Some(error);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.0.requests.lock().unwrap().clone()
    }

    pub fn loads(&self) -> usize {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// Answers whose streams are alive.
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }
}

impl Engine for ScriptedEngine {
    fn load(&self, spec: LoadSpec) -> BoxFuture<'static, Result<Arc<dyn Runner>, EngineError>> {
        let shared = self.0.clone();
        async move {
            if let Some(error) = shared.load_error.lock().unwrap().clone() {
                return Err(error);
            }
            shared.loads.fetch_add(1, Ordering::SeqCst);
            let report = RunnerReport {
                context_length: spec.options.num_ctx as u64,
                train_context_length: 4096,
                embedding_length: 3,
                parallel: spec.parallel,
                size: 1000,
                ..RunnerReport::default()
            };
            Ok(Arc::new(ScriptedRunner { shared, report }) as Arc<dyn Runner>)
        }
        .boxed()
    }
}

struct ScriptedRunner {
    shared: Arc<Shared>,
    report: RunnerReport,
}

/// Counts a stream while it lives.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn completion(count: usize, finish: FinishReason) -> Completion {
    Completion {
        finish,
        usage: Usage {
            prompt_tokens: 7,
            cached_tokens: 0,
            prompt_ns: 1000,
            completion_tokens: count as u64,
            completion_ns: 2000,
            ..Usage::default()
        },
        tokens: vec![1, 2, 3],
        stop: None,
    }
}

impl Runner for ScriptedRunner {
    fn report(&self) -> &RunnerReport {
        &self.report
    }

    fn is_alive(&self) -> bool {
        true
    }

    fn gone(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn generate(&self, request: GenerateRequest) -> StepStream {
        self.shared.requests.lock().unwrap().push(request);
        let script = self.shared.script.lock().unwrap().clone().unwrap_or(Script::Say(vec!["Pong"]));
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let done = |texts: Vec<String>, finish| {
            let done = StepEvent::Done(completion(texts.len(), finish));
            (texts, stream::iter([Ok(done)]).boxed())
        };
        let (texts, end) = match script {
            Script::Say(texts) => done(owned(texts), FinishReason::Stop),
            Script::Tell(texts) => done(texts, FinishReason::Stop),
            Script::Cut(texts) => done(texts, FinishReason::Length),
            Script::Fail(texts, error) => (owned(texts), stream::iter([Err(error)]).boxed()),
            Script::Hang(texts) => (owned(texts), stream::pending().boxed()),
        };
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.shared.clone());
        let text = |text: String| Ok(StepEvent::Text { text, logprobs: Vec::new() });
        let steps = stream::iter(texts.into_iter().map(text)).chain(end);
        Box::pin(steps.inspect(move |_| {
            let _ = &running;
        }))
    }

    fn embed(&self, request: EmbedRequest) -> BoxFuture<'static, Result<EmbedReply, EngineError>> {
        let tokens = |text: &String| text.split_whitespace().count() as u64 + 2;
        let too_long = request.inputs.iter().any(|text| tokens(text) > request.max_tokens as u64);
        if too_long && !request.truncate {
            let error = EngineError::Invalid("the input length exceeds the context length".into());
            return async { Err(error) }.boxed();
        }
        let vectors = request.inputs.iter().map(|_| vec![0.6, 0.0, 0.8]).collect();
        let prompt_tokens = request.inputs.iter().map(tokens).sum();
        async move { Ok(EmbedReply { vectors, prompt_tokens }) }.boxed()
    }

    fn tokenize(&self, text: String, _: bool) -> BoxFuture<'static, Result<Vec<u32>, EngineError>> {
        async move { Ok((0..text.split_whitespace().count() as u32).collect()) }.boxed()
    }

    fn detokenize(&self, tokens: Vec<u32>) -> BoxFuture<'static, Result<String, EngineError>> {
        async move { Ok(format!("{tokens:?}")) }.boxed()
    }
}
