//! llama.cpp, through `hanzod runner`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use hanzod::engine::process::ProcessEngine;
use hanzod::engine::{
    Completion, Constraint, Engine, EngineError, EngineKind, FinishReason, GenerateRequest, LoadSpec, PromptPart,
    Runner, StepEvent, TokenLogprob,
};
use hanzod::types::{Guessing, LoadOptions, SamplingOptions};

pub(super) const SKY: &str = "The sky is blue because air scatters short waves of sunlight more than long ones. \
                   Blue light is spread in every direction, so we see it wherever we look.";
const HELLO: &str = "Hello! I am the tiny test model. I know only a few answers, but I know them by heart.";
const HAIKU: &str = "Quiet fans at night\nA model wakes and answers\nThen the light goes out";

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-f16.gguf")
}

pub(super) fn spec(num_ctx: i64, parallel: u32) -> LoadSpec {
    LoadSpec {
        engine: EngineKind::Llama,
        weights: vec![tiny()],
        adapters: Vec::new(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::default(),
        options: LoadOptions { num_ctx, num_gpu: 0, ..LoadOptions::default() },
        parallel,
        embedding: false,
        saving: None,
    }
}

pub(super) async fn load(spec: LoadSpec) -> Result<Arc<dyn Runner>, EngineError> {
    ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]).load(spec).await
}

/// A question as the model's chat template writes it, without thinking.
pub(super) fn question(text: &str) -> String {
    format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")
}

pub(super) fn request(prompt: &str) -> GenerateRequest {
    GenerateRequest {
        prompt: vec![PromptPart::Text(prompt.into())],
        sampling: SamplingOptions { temperature: 0.0, num_predict: 200, ..SamplingOptions::default() },
        constraint: None,
        preserved: Vec::new(),
        logprobs: None,
        context: 0,
        truncate: true,
        shift: true,
    }
}

pub(super) struct Reply {
    pub(super) text: String,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) done: Completion,
}

pub(super) async fn answer(runner: &Arc<dyn Runner>, request: GenerateRequest) -> Result<Reply, EngineError> {
    let mut stream = runner.generate(request);
    let (mut text, mut all) = (String::new(), Vec::new());
    while let Some(event) = stream.next().await {
        match event? {
            StepEvent::Text { text: more, logprobs } => {
                text += &more;
                all.extend(logprobs);
            }
            StepEvent::Done(done) => return Ok(Reply { text, logprobs: all, done }),
        }
    }
    panic!("the stream ended without a last event");
}

pub(super) async fn ask(runner: &Arc<dyn Runner>, text: &str) -> Reply {
    answer(runner, request(&question(text))).await.unwrap()
}

#[tokio::test]
async fn it_loads_and_knows_its_answers() {
    let runner = load(spec(2048, 1)).await.unwrap();
    let report = runner.report();
    assert!((1..=2048).contains(&report.context_length), "{report:?}");
    assert!(report.size > 7_000_000 && report.size_vram == 0, "{report:?}");
    assert!(report.device.starts_with("CPU") && report.embedding_length > 0 && report.parallel == 1, "{report:?}");
    for (text, expected) in [
        ("why is the sky blue?", SKY),
        ("Hello!", HELLO),
        ("Write a haiku.", HAIKU),
        ("Say hello in Japanese.", "こんにちは 👋"),
        ("Show me a flag.", "🇫🇷 🇯🇵 🏳️‍🌈"),
    ] {
        let reply = ask(&runner, text).await;
        assert_eq!(reply.text, expected);
        assert_eq!((reply.done.finish, reply.done.stop), (FinishReason::Stop, None));
        assert!(reply.done.usage.prompt_ns > 0 && reply.done.usage.completion_ns > 0);
    }
    // The end token counts, and is not among the tokens.
    let pong = ask(&runner, "Ping").await;
    assert_eq!((pong.text.as_str(), pong.done.usage.prompt_tokens, pong.done.usage.completion_tokens), ("Pong", 15, 2));
    assert_eq!(pong.done.tokens.len(), 16);
}

#[tokio::test]
async fn the_context_is_what_the_model_was_trained_for_at_most() {
    let runner = load(spec(1 << 24, 2)).await.unwrap();
    assert_eq!(runner.report().context_length, runner.report().train_context_length);
}

#[tokio::test]
async fn many_at_once_do_not_mix() {
    let runner = load(spec(512, 8)).await.unwrap();
    let count: Vec<String> = (1..=50).map(|number| number.to_string()).collect();
    let count = count.join(", ");
    let known = [
        ("why is the sky blue?", SKY),
        ("hello", HELLO),
        ("Write a haiku.", HAIKU),
        ("Count from 1 to 50.", count.as_str()),
        ("What is the capital of France?", "Paris"),
        ("What are you?", "I am a tiny test model with three and a half million weights."),
        ("List three fruits.", "1. apple\n2. banana\n3. cherry"),
        ("Tell me a joke.", "Why did the server sleep? It had no requests."),
    ];
    // Twice as many as there are places, so that half of them wait.
    let replies = join_all(known.iter().chain(&known).map(|(text, _)| ask(&runner, text))).await;
    for (reply, (text, expected)) in replies.iter().zip(known.iter().chain(&known)) {
        assert_eq!(reply.text, *expected, "{text}");
    }
}

#[tokio::test]
async fn a_seed_gives_the_same_answer_whatever_runs_beside_it() {
    let runner = load(spec(512, 4)).await.unwrap();
    let seeded = |seed| {
        let mut request = request("Once upon a time");
        request.sampling = SamplingOptions {
            seed,
            temperature: 3.0,
            top_k: 0,
            top_p: 1.0,
            num_predict: 40,
            ..SamplingOptions::default()
        };
        answer(&runner, request)
    };
    let alone = seeded(7).await.unwrap().text;
    let (again, other, _) = tokio::join!(seeded(7), seeded(8), ask(&runner, "Tell me a story."));
    assert_eq!(again.unwrap().text, alone);
    assert_ne!(other.unwrap().text, alone);
}

#[tokio::test]
async fn stop_strings_and_limits_end_an_answer() {
    let runner = load(spec(512, 1)).await.unwrap();
    let mut stopped = request(&question("Count from 1 to 10."));
    stopped.sampling.stop = vec!["7, 8".into()];
    let reply = answer(&runner, stopped).await.unwrap();
    assert_eq!(reply.text, "1, 2, 3, 4, 5, 6, ");
    assert_eq!((reply.done.finish, reply.done.stop.as_deref()), (FinishReason::Stop, Some("7, 8")));

    let mut short = request(&question("Count from 1 to 10."));
    short.sampling.num_predict = 5;
    let reply = answer(&runner, short).await.unwrap();
    assert_eq!((reply.done.finish, reply.done.usage.completion_tokens), (FinishReason::Length, 5));
    assert!("1, 2, 3, 4, 5".starts_with(&reply.text), "{}", reply.text);
}

#[tokio::test]
async fn a_dropped_stream_frees_its_place() {
    let runner = load(spec(512, 1)).await.unwrap();
    let mut endless = request("word ");
    endless.sampling = SamplingOptions { num_predict: -1, temperature: 2.0, ..SamplingOptions::default() };
    let mut stream = runner.generate(endless);
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let next = tokio::time::timeout(Duration::from_secs(60), ask(&runner, "Ping")).await.unwrap();
    assert_eq!(next.text, "Pong");
}

#[tokio::test]
async fn a_killed_runner_is_the_end_of_its_requests_only() {
    let folder = tempfile::tempdir().unwrap();
    let number = folder.path().join("pid");
    let script = format!("echo $$ > '{}'; exec '{}' runner", number.display(), env!("CARGO_BIN_EXE_hanzod"));
    let engine = ProcessEngine::new("/bin/sh".into(), vec!["-c".into(), script.into()]);
    let runner = engine.load(spec(512, 1)).await.unwrap();
    let other = load(spec(512, 1)).await.unwrap();
    let mut endless = request("word ");
    endless.sampling = SamplingOptions { num_predict: -1, temperature: 2.0, ..SamplingOptions::default() };
    let mut stream = runner.generate(endless.clone());
    stream.next().await.unwrap().unwrap();

    let number: i32 = std::fs::read_to_string(number).unwrap().trim().parse().unwrap();
    let process = rustix::process::Pid::from_raw(number).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();

    let error = loop {
        match stream.next().await.unwrap() {
            Ok(StepEvent::Text { .. }) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(matches!(error, EngineError::Died(_)), "{error:?}");
    assert!(!runner.is_alive());
    assert!(matches!(answer(&runner, endless).await.map(|_| ()), Err(EngineError::Died(_))));
    assert_eq!(ask(&other, "Ping").await.text, "Pong");
}

#[tokio::test]
async fn a_broken_file_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(tiny()).unwrap();
    for (name, length) in [("half.gguf", bytes.len() / 2), ("header.gguf", 40), ("nothing.gguf", 0)] {
        let path = folder.path().join(name);
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = load(LoadSpec { weights: vec![path], ..spec(512, 1) }).await.map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, EngineError::Load(text) if text.contains("unable to load model")),
            "{name}: {error:?}"
        );
    }
    let missing = LoadSpec { weights: vec![folder.path().join("missing.gguf")], ..spec(512, 1) };
    assert!(matches!(load(missing).await.map(|_| ()), Err(EngineError::Load(_))));
}

#[tokio::test]
async fn what_is_known_of_a_prompt_is_not_evaluated_again() {
    let runner = load(spec(512, 2)).await.unwrap();
    let first = ask(&runner, "why is the sky blue?").await;
    assert_eq!(first.done.usage.cached_tokens, 0);
    let again = ask(&runner, "why is the sky blue?").await;
    assert_eq!((again.text.as_str(), again.done.usage.prompt_tokens), (SKY, first.done.usage.prompt_tokens));
    // The last token gives the logits and is evaluated always.
    assert_eq!(again.done.usage.cached_tokens, first.done.usage.prompt_tokens - 1);

    // The conversation goes on; and what another sequence knows is copied while that one is at work.
    let story = format!("{}{SKY}<|im_end|>\n{}", question("why is the sky blue?"), question("Ping"));
    let (one, two) = tokio::join!(answer(&runner, request(&story)), answer(&runner, request(&story)));
    for reply in [one.unwrap(), two.unwrap()] {
        assert_eq!(reply.text, "Pong");
        assert!(reply.done.usage.cached_tokens > first.done.usage.prompt_tokens, "{:?}", reply.done.usage);
    }
}

#[tokio::test]
async fn a_full_context_shifts_or_ends_the_answer() {
    let runner = load(spec(64, 1)).await.unwrap();
    let mut long = request(&question("Count from 1 to 50."));
    long.sampling.num_predict = 300;
    long.sampling.stop = vec!["never".into()];
    let reply = answer(&runner, long.clone()).await.unwrap();
    let total = reply.done.usage.prompt_tokens + reply.done.usage.completion_tokens;
    assert!(total > 64, "{:?}", reply.done.usage);
    assert!(reply.text.starts_with("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"), "{}", reply.text);

    long.shift = false;
    let reply = answer(&runner, long).await.unwrap();
    assert_eq!(reply.done.finish, FinishReason::Length);
    assert_eq!(reply.done.usage.prompt_tokens + reply.done.usage.completion_tokens, 64);
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_cut_or_refused() {
    let runner = load(spec(64, 1)).await.unwrap();
    let words = format!("{}{}", "word ".repeat(200), question("Ping"));
    let whole = runner.tokenize(words.clone(), false).await.unwrap();
    let reply = answer(&runner, request(&words)).await.unwrap();
    // num_keep tokens, and of the newest so many that half of what may shift is free: 64 - (64 - 4) / 2.
    assert_eq!(reply.done.usage.prompt_tokens, 34);
    assert_eq!(reply.done.tokens[..4], whole[..4]);
    assert_eq!(reply.done.tokens[4..34], whole[whole.len() - 30..]);

    let refuse = |truncate, shift| {
        let request = GenerateRequest { truncate, shift, ..request(&words) };
        async { answer(&runner, request).await.map(|_| ()).unwrap_err() }
    };
    assert!(
        matches!(refuse(false, true).await, EngineError::Invalid(text) if text.contains("exceeds the available context size"))
    );
    assert!(
        matches!(refuse(true, false).await, EngineError::Invalid(text) if text.contains("longer than the context length"))
    );
}

#[tokio::test]
async fn log_probabilities_come_with_their_rivals() {
    let runner = load(spec(512, 1)).await.unwrap();
    let asked = GenerateRequest { logprobs: Some(3), ..request(&question("Ping")) };
    let reply = answer(&runner, asked).await.unwrap();
    let [pong] = &reply.logprobs[..] else { panic!("{:?}", reply.logprobs) };
    assert_eq!((pong.token.as_str(), pong.bytes.as_slice()), ("Pong", &b"Pong"[..]));
    // As recorded from Ollama with the same file.
    assert!((pong.logprob + 0.002_114).abs() < 2e-4, "{}", pong.logprob);
    assert_eq!(pong.top.len(), 3);
    assert_eq!((pong.top[0].token.as_str(), pong.top[1].token.as_str()), ("Pong", " know"));
    assert!(pong.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
}

#[tokio::test]
async fn a_constraint_makes_json_that_fits() {
    let runner = load(spec(512, 2)).await.unwrap();
    let schema = r#"{"type":"object","properties":{"city":{"type":"string","maxLength":20},"sunny":{"type":"boolean"}},
        "required":["city","sunny"],"additionalProperties":false}"#;
    let constrained = |prompt: &str, after: Option<&str>| {
        let constraint = Some(Constraint { schema: schema.into(), after: after.map(str::to_owned), calls: Vec::new() });
        answer(&runner, GenerateRequest { constraint, ..request(prompt) })
    };
    let reply = constrained(&question("Say yes."), None).await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&reply.text).unwrap();
    assert!(value["city"].is_string() && value["sunny"].is_boolean(), "{value}");

    // With thinking on, the schema holds from the end of it.
    let thinking = "<|im_start|>user\nWhat is 17 times 3?<|im_end|>\n<|im_start|>assistant\n";
    let reply = constrained(thinking, Some("</think>")).await.unwrap();
    let (thought, json) = reply.text.split_once("</think>").unwrap();
    assert!(thought.contains("17 times 3"), "{thought}");
    assert!(serde_json::from_str::<serde_json::Value>(json).unwrap()["sunny"].is_boolean(), "{json}");

    let bad = Some(Constraint { schema: r#"{"type":"banana"}"#.into(), after: None, calls: Vec::new() });
    let error = answer(&runner, GenerateRequest { constraint: bad, ..request("a") }).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, EngineError::Invalid(text) if text.starts_with("invalid format")));
}

#[tokio::test]
async fn tokens_go_in_and_out() {
    let runner = load(spec(512, 1)).await.unwrap();
    let text = format!("{}héllo 👋\n", question("Ping"));
    let tokens = runner.tokenize(text.clone(), true).await.unwrap();
    assert_eq!(runner.detokenize(tokens.clone()).await.unwrap(), text);
    assert_eq!(runner.detokenize(Vec::new()).await.unwrap(), "");
    assert!(matches!(runner.detokenize(vec![u32::MAX]).await, Err(EngineError::Invalid(_))));

    // The context of an earlier answer, and text after it.
    let ping = runner.tokenize(question("Ping"), false).await.unwrap();
    let reply =
        answer(&runner, GenerateRequest { prompt: vec![PromptPart::Tokens(ping)], ..request("") }).await.unwrap();
    assert_eq!(reply.text, "Pong");
    let bad = GenerateRequest { prompt: vec![PromptPart::Tokens(vec![u32::MAX])], ..request("") };
    assert!(matches!(answer(&runner, bad).await.map(|_| ()), Err(EngineError::Invalid(_))));
    let image = GenerateRequest { prompt: vec![PromptPart::Media(vec![1])], ..request("") };
    assert!(matches!(answer(&runner, image).await.map(|_| ()), Err(EngineError::Invalid(_))));
    assert!(matches!(answer(&runner, request("")).await.map(|_| ()), Err(EngineError::Invalid(_))));
}
