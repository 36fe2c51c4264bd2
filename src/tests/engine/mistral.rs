//! mistral.rs, through `hanzod runner`, with the tiny model, which knows its answers by heart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use hanzod::engine::process::ProcessEngine;
use hanzod::engine::{
    Completion, Constraint, EmbedRequest, Engine, EngineError, EngineKind, FinishReason, GenerateRequest, LoadSpec,
    PromptPart, Runner, StepEvent, StepStream, TokenLogprob,
};
use hanzod::types::{Guessing, LoadOptions, SamplingOptions};
use serde_json::Value;

const FILES: [&str; 5] =
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
const STORY: &str = "Once upon a time a small server lived under a desk. Every night it counted its models, and every \
                     morning it told the first visitor how many it had found. One day the disk was full. The server did \
                     not panic: it kept what was whole, threw away what was broken, and asked for room. In the evening \
                     there was room again, and nothing had been lost. The end.";

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-safetensors")
}

fn spec(folder: &Path, context: i64) -> LoadSpec {
    LoadSpec {
        engine: EngineKind::Mistral,
        weights: vec![folder.to_owned()],
        adapters: Vec::new(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::default(),
        options: LoadOptions { num_ctx: context, ..LoadOptions::default() },
        parallel: 4,
        embedding: false,
        saving: None,
    }
}

async fn load(spec: LoadSpec) -> Result<Arc<dyn Runner>, EngineError> {
    ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]).load(spec).await
}

async fn runner(context: i64) -> Arc<dyn Runner> {
    load(spec(&tiny(), context)).await.unwrap()
}

/// A question in the model's chat format, with thinking turned off.
fn ask(question: &str) -> GenerateRequest {
    let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    GenerateRequest {
        prompt: vec![PromptPart::Text(prompt)],
        sampling: SamplingOptions { temperature: 0.0, ..SamplingOptions::default() },
        constraint: None,
        preserved: Vec::new(),
        logprobs: None,
        context: 0,
        truncate: true,
        shift: true,
    }
}

/// A request whose answer goes on until something ends it.
fn ramble(seed: i64) -> GenerateRequest {
    let mut request = ask("Tell me a story.");
    request.sampling = SamplingOptions { temperature: 50.0, top_k: 0, top_p: 1.0, seed, ..SamplingOptions::default() };
    request
}

async fn answer(runner: &Arc<dyn Runner>, request: GenerateRequest) -> Result<(String, Completion), EngineError> {
    let (text, _, completion) = whole(runner.generate(request)).await?;
    Ok((text, completion))
}

async fn whole(mut events: StepStream) -> Result<(String, Vec<TokenLogprob>, Completion), EngineError> {
    let (mut text, mut logprobs) = (String::new(), Vec::new());
    while let Some(event) = events.next().await {
        match event? {
            StepEvent::Text { text: more, logprobs: some } => {
                text += &more;
                logprobs.extend(some);
            }
            StepEvent::Done(completion) => return Ok((text, logprobs, completion)),
        }
    }
    panic!("the stream has no end");
}

fn count(to: u32) -> String {
    (1..=to).map(|number| number.to_string()).collect::<Vec<_>>().join(", ")
}

/// A folder with links to the tiny model's files, as a store of blobs has it.
fn links() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        std::os::unix::fs::symlink(tiny().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn replace(folder: &tempfile::TempDir, file: &str, content: &[u8]) {
    fs::remove_file(folder.path().join(file)).ok();
    fs::write(folder.path().join(file), content).unwrap();
}

#[tokio::test]
async fn it_knows_its_answers() {
    let runner = runner(1024).await;
    for (question, wanted) in [
        ("Ping", "Pong"),
        (
            "why is the sky blue?",
            "The sky is blue because air scatters short waves of sunlight more than long ones. Blue \
          light is spread in every direction, so we see it wherever we look.",
        ),
        ("Tell me a story.", STORY),
        ("Count from 1 to 50.", &count(50)),
        ("Say hello in Japanese.", "こんにちは 👋"),
        ("Show me a flag.", "🇫🇷 🇯🇵 🏳️‍🌈"),
        ("Write a function that adds two numbers in Python.", "```python\ndef add(a, b):\n    return a + b\n```"),
    ] {
        let (text, completion) = answer(&runner, ask(question)).await.unwrap();
        assert_eq!((text.as_str(), completion.finish), (wanted, FinishReason::Stop));
    }
    let (_, completion) = answer(&runner, ask("Ping")).await.unwrap();
    // As Ollama counts and lists them.
    assert_eq!((completion.usage.prompt_tokens, completion.usage.completion_tokens), (15, 2));
    let tokens = [1306, 337, 198, 1004, 1307, 198, 1306, 335, 198, 1316, 198, 198, 1317, 198, 198, 876];
    assert_eq!(completion.tokens, tokens);
    assert!(completion.usage.prompt_ns > 0 && completion.usage.completion_ns > 0);
}

#[tokio::test]
async fn it_says_what_it_is() {
    let runner = runner(1_000_000).await;
    let report = runner.report();
    assert_eq!((report.context_length, report.train_context_length, report.embedding_length), (4096, 4096, 256));
    assert_eq!((report.parallel, report.size_vram, report.bos.as_deref()), (1, 0, None));
    // 3.5 M weights of four bytes, and the cache of four layers: keys and values of two heads of 64.
    assert!((14_000_000..16_000_000).contains(&(report.size - 4 * 2 * 2 * 64 * 4 * 4096)), "{report:?}");
    assert!(report.device.starts_with("CPU"), "{report:?}");
}

#[tokio::test]
async fn requests_at_once_do_not_mix() {
    let runner = runner(1024).await;
    let questions = ["Count from 1 to 10.", "Count from 1 to 50.", "Tell me a story.", "Say hello in Russian."];
    let answers = join_all(questions.map(|question| answer(&runner, ask(question)))).await;
    let texts: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().0).collect();
    assert_eq!(texts, [count(10), count(50), STORY.into(), "Привет 👋🏽".into()]);
}

#[tokio::test]
async fn a_seed_gives_the_same_tokens() {
    let runner = runner(1024).await;
    let mut said = Vec::new();
    for seed in [7, 7, 8] {
        let mut request = ramble(seed);
        request.sampling.num_predict = 40;
        said.push(answer(&runner, request).await.unwrap().1.tokens);
    }
    assert_eq!(said[0], said[1]);
    assert_ne!(said[0], said[2]);
}

#[tokio::test]
async fn it_ends_where_it_is_told_to() {
    let runner = runner(64).await;
    let mut stopped = ask("Count from 1 to 10.");
    stopped.sampling.stop = vec!["zzz".into(), "4,".into()];
    let (text, completion) = answer(&runner, stopped).await.unwrap();
    assert_eq!((text.as_str(), completion.stop.as_deref()), ("1, 2, 3, ", Some("4,")));
    assert_eq!(completion.usage.completion_tokens, 11);

    let mut short = ask("Count from 1 to 50.");
    short.sampling.num_predict = 7;
    let (text, completion) = answer(&runner, short).await.unwrap();
    assert_eq!((text.as_str(), completion.finish), ("1, 2, 3", FinishReason::Length));
    let mut one = ask("Count from 1 to 50.");
    one.sampling.num_predict = 1;
    assert_eq!(answer(&runner, one).await.unwrap().0, "1");

    let still = GenerateRequest { shift: false, ..ask("Count from 1 to 50.") };
    let (text, completion) = answer(&runner, still).await.unwrap();
    assert_eq!((completion.finish, completion.tokens.len()), (FinishReason::Length, 64));
    assert!(count(50).starts_with(&text));

    // With room made again and again it goes on behind the end of the context.
    let mut shifted = ramble(3);
    shifted.sampling.num_predict = 200;
    let (_, completion) = answer(&runner, shifted).await.unwrap();
    assert!(completion.usage.completion_tokens > 64 && completion.tokens.len() <= 64, "{completion:?}");
}

#[tokio::test]
async fn long_prompts_are_cut_or_refused() {
    let runner = runner(64).await;
    let long = ask(&"word ".repeat(200));
    let (_, completion) = answer(&runner, long.clone()).await.unwrap();
    assert_eq!(completion.usage.prompt_tokens, 64 - (64 - 4) / 2);
    let refused = answer(&runner, GenerateRequest { truncate: false, ..long }).await;
    assert!(
        matches!(&refused, Err(EngineError::Invalid(text)) if text.contains("exceeds the available context size (64"))
    );
    assert_eq!(answer(&runner, ask("Ping")).await.unwrap().0, "Pong");
}

#[tokio::test]
async fn a_dropped_request_makes_room() {
    let runner = runner(4096).await;
    let mut endless = runner.generate(ramble(1));
    assert!(matches!(endless.next().await, Some(Ok(StepEvent::Text { .. }))));
    // One waits behind it and leaves before its turn, one stays.
    let waiting = runner.generate(ramble(2));
    let staying = runner.generate(ask("Ping"));
    drop(waiting);
    drop(endless);
    assert_eq!(whole(staying).await.unwrap().0, "Pong");
}

#[tokio::test]
async fn a_schema_holds() {
    let runner = runner(1024).await;
    let schema = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},
        "age":{"type":"integer","maximum":99}},"required":["name","age"],"additionalProperties":false}"#;
    let constraint = |schema: &str| Some(Constraint { schema: schema.into(), after: None, calls: Vec::new() });
    let told = GenerateRequest { constraint: constraint(schema), ..ask("Describe a person as JSON.") };
    let untold = GenerateRequest { constraint: constraint(schema), ..ramble(5) };
    for request in [told, untold] {
        let (text, completion) = answer(&runner, request).await.unwrap();
        let person: Value = serde_json::from_str(&text).unwrap();
        assert!(person["name"].is_string() && person["age"].is_i64(), "{text}");
        assert_eq!(completion.finish, FinishReason::Stop);
    }
    let bad = GenerateRequest { constraint: constraint(r#"{"type":"banana"}"#), ..ask("Ping") };
    assert!(matches!(answer(&runner, bad).await, Err(EngineError::Invalid(_))));
}

#[tokio::test]
async fn log_probabilities_are_those_of_ollama() {
    let runner = runner(1024).await;
    let request = GenerateRequest { logprobs: Some(2), ..ask("Ping") };
    let (_, logprobs, _) = whole(runner.generate(request)).await.unwrap();
    let [pong] = logprobs.as_slice() else { panic!("{logprobs:?}") };
    assert_eq!((pong.token.as_str(), pong.bytes.as_slice()), ("Pong", &b"Pong"[..]));
    let tops: Vec<(&str, f32)> = pong.top.iter().map(|top| (top.token.as_str(), top.logprob)).collect();
    assert!(matches!(tops[..], [("Pong", _), (" know", _)]), "{tops:?}");
    assert!((pong.logprob + 0.002114).abs() < 1e-4 && (tops[1].1 + 7.8794).abs() < 0.05, "{tops:?}");
}

#[tokio::test]
async fn text_and_tokens_are_each_others() {
    let runner = runner(1024).await;
    let text = "<|im_start|>user\nnaïve  こんにちは 👋🏽\n\tx <tool_call>";
    let tokens = runner.tokenize(text.into(), true).await.unwrap();
    assert_eq!((tokens[0], tokens.last()), (1306, Some(&1312)));
    assert_eq!(runner.detokenize(tokens).await.unwrap(), text);
}

#[tokio::test]
async fn a_folder_may_be_links_to_blobs() {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let blob = folder.path().join(format!("sha256-{}", file.len()));
        fs::copy(tiny().join(file), &blob).unwrap();
        std::os::unix::fs::symlink(&blob, folder.path().join(file)).unwrap();
    }
    let runner = load(spec(folder.path(), 256)).await.unwrap();
    assert_eq!(answer(&runner, ask("Ping")).await.unwrap().0, "Pong");
}

#[tokio::test]
async fn hostile_folders_are_refused() {
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    let config = fs::read_to_string(tiny().join("config.json")).unwrap();
    let cases: [(&str, &str, Option<&[u8]>); 9] = [
        ("cut off", "model.safetensors", Some(&weights[..weights.len() / 2])),
        ("cut off", "model.safetensors", Some(&weights[..100])),
        ("safetensors", "model.safetensors", Some(&[0xff; 64])),
        ("no safetensors file", "model.safetensors", None),
        ("tokenizer.json", "tokenizer.json", None),
        ("tokenizer.json", "tokenizer.json", Some(b"{\"model\": {}}")),
        ("config.json", "config.json", Some(b"[1]")),
        ("`BananaForCausalLM`", "config.json", Some(&config.replace("Qwen3For", "BananaFor").into_bytes())),
        // More layers than the file has.
        (
            "",
            "config.json",
            Some(&config.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 40").into_bytes()),
        ),
    ];
    for (words, file, content) in cases {
        let folder = links();
        match content {
            Some(content) => replace(&folder, file, content),
            None => fs::remove_file(folder.path().join(file)).unwrap(),
        }
        match load(spec(folder.path(), 256)).await {
            Err(EngineError::Load(text)) => {
                assert!(text.contains(words) && !text.contains("terminated") && !text.contains('\n'), "{file}: {text}");
            }
            Err(other) => panic!("{file}: {other:?}"),
            Ok(_) => panic!("{file}: it was loaded"),
        }
    }
}

#[tokio::test]
async fn a_panic_while_loading_is_an_error() {
    // mistral.rs unwraps what the tokenizers crate does without.
    let folder = links();
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(tiny().join("tokenizer.json")).unwrap()).unwrap();
    tokenizer.as_object_mut().unwrap().remove("added_tokens");
    replace(&folder, "tokenizer.json", tokenizer.to_string().as_bytes());
    replace(&folder, "generation_config.json", br#"{"eos_token_id": 7}"#);
    let refused = load(spec(folder.path(), 256)).await.err();
    let words = "mistral.rs cannot load this model: ";
    assert!(matches!(&refused, Some(EngineError::Load(text)) if text.starts_with(words)), "{refused:?}");
}

/// The tiny model as a folder that makes embeddings: its last layer at the last token.
fn embedder(dimension: u32) -> tempfile::TempDir {
    let folder = links();
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(weights[8..8 + length].to_vec()).unwrap().replace("\"model.", "\"");
    let mut renamed = (header.len() as u64).to_le_bytes().to_vec();
    renamed.extend(header.as_bytes());
    renamed.extend(&weights[8 + length..]);
    replace(&folder, "model.safetensors", &renamed);
    let modules = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
        {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
        {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.models.Normalize"}]"#;
    let pooling = r#"{"word_embedding_dimension":SIZE,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":false,
        "pooling_mode_max_tokens":false,"pooling_mode_mean_sqrt_len_tokens":false,
        "pooling_mode_weightedmean_tokens":false,"pooling_mode_lasttoken":true,"include_prompt":true}"#;
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    replace(&folder, "modules.json", modules.as_bytes());
    replace(&folder, "1_Pooling/config.json", pooling.replace("SIZE", &dimension.to_string()).as_bytes());
    folder
}

#[tokio::test]
async fn texts_become_vectors() {
    let folder = embedder(256);
    let runner = load(LoadSpec { embedding: true, ..spec(folder.path(), 64) }).await.unwrap();
    let request = |input: &str, truncate, max_tokens| EmbedRequest {
        inputs: vec!["hello".into(), input.into()],
        truncate,
        max_tokens,
    };
    let reply = runner.embed(request("Tell me a story.", true, 64)).await.unwrap();
    assert_eq!(reply.vectors.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256]);
    for vector in &reply.vectors {
        assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_ne!(reply.vectors[0], reply.vectors[1]);
    assert_eq!(runner.embed(request("hello", true, 64)).await.unwrap().vectors[1], reply.vectors[0]);

    let long = "word ".repeat(100);
    let cut = runner.embed(request(&long, true, 1000)).await.unwrap();
    let hello = runner.tokenize("hello".into(), true).await.unwrap().len() as u64;
    assert_eq!(cut.prompt_tokens, hello + 64);
    for (truncate, max, words) in [
        (false, 1000, "the input length exceeds the context length"),
        (true, 0, "input after truncation exceeds maximum context length"),
    ] {
        let refused = runner.embed(request(&long, truncate, max)).await;
        assert_eq!(refused, Err(EngineError::Invalid(words.into())));
    }
    assert!(matches!(answer(&runner, ask("Ping")).await, Err(EngineError::Invalid(_))));
}

#[tokio::test]
async fn a_failed_step_is_an_error_of_its_request() {
    // The folder promises vectors of another size than its model makes, which is found when one is made.
    let folder = embedder(255);
    let runner = load(LoadSpec { embedding: true, ..spec(folder.path(), 64) }).await.unwrap();
    for _ in 0..2 {
        let request = EmbedRequest { inputs: vec!["Tell me a story.".into()], truncate: true, max_tokens: 64 };
        let failed = runner.embed(request).await;
        assert!(matches!(&failed, Err(EngineError::Failed(text)) if text.contains("dimension")), "{failed:?}");
    }
    assert!(runner.is_alive());
}
