//! Images with the tiny model and projectors of random weights, through `hanzod runner`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use hanzod::engine::{
    Constraint, EngineError, FinishReason, GenerateRequest, LoadSpec, PromptPart, Runner, StepEvent, StepStream,
};

use super::llama::{Reply, SKY, answer, ask, load, question, request, spec};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/vision").join(name)
}

/// A spec with this projector.
fn seeing(projector: &str, parallel: u32) -> LoadSpec {
    LoadSpec { projectors: vec![file(projector)], ..spec(2048, parallel) }
}

/// An image of one colour with a bright corner, as BMP.
fn image(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4) as usize;
    let numbers = [54, 40, width, height, (24 << 16) | 1];
    let [offset, header, width, _, planes] = numbers.map(u32::to_le_bytes);
    let mut bytes = [b"BM".to_vec(), vec![0; 8], offset.into(), header.into(), width.into()].concat();
    bytes.extend(height.to_le_bytes());
    bytes.extend(planes);
    bytes.resize(54, 0);
    for y in 0..height {
        let start = bytes.len();
        for x in 0..u32::from_le_bytes(width) {
            bytes.extend(if 2 * y < height && 2 * x < u32::from_le_bytes(width) { [250; 3] } else { colour });
        }
        bytes.resize(start + row, 0);
    }
    bytes
}

fn red() -> Vec<u8> {
    image(40, 40, [20, 20, 220])
}

fn blue() -> Vec<u8> {
    image(40, 40, [220, 40, 10])
}

fn text(text: &str) -> PromptPart {
    PromptPart::Text(text.into())
}

/// A question with images before its text, as a chat template writes it.
fn about(images: &[Vec<u8>], words: &str) -> Vec<PromptPart> {
    let whole = question(words);
    let (before, after) = whole.split_at(whole.find(words).unwrap());
    let images = images.iter().cloned().map(PromptPart::Media);
    [text(before)].into_iter().chain(images).chain([text(after)]).collect()
}

fn look(prompt: Vec<PromptPart>) -> GenerateRequest {
    let mut request = GenerateRequest { prompt, logprobs: Some(5), ..request("") };
    request.sampling.num_predict = 12;
    request
}

async fn see(runner: &Arc<dyn Runner>, prompt: Vec<PromptPart>) -> Result<Reply, EngineError> {
    answer(runner, look(prompt)).await
}

/// The likeliest first tokens and their chances. Random embeddings leave the model sure of nothing, so this tells images apart.
fn view(reply: &Reply) -> Vec<(String, f32)> {
    let first = reply.logprobs.first().expect("an answer of one token at the least");
    first.top.iter().map(|token| (token.token.clone(), token.logprob)).collect()
}

/// As near as the same prompt comes to itself when its keys lie elsewhere in the cache.
fn same(a: &Reply, b: &Reply) -> bool {
    let (a, b) = (view(a), view(b));
    let near =
        |(token, chance): &(String, f32)| b.iter().any(|other| other.0 == *token && (other.1 - chance).abs() < 0.06);
    a.iter().take(3).all(near)
}

async fn tokens(runner: &Arc<dyn Runner>, prompt: &[PromptPart]) -> u64 {
    let mut count = 0;
    for part in prompt {
        if let PromptPart::Text(text) = part {
            count += runner.tokenize(text.clone(), false).await.unwrap().len();
        }
    }
    count as u64
}

/// What has to hold for every kind of projector. Gives the tokens of one image.
async fn sees(spec: LoadSpec) -> u64 {
    let runner = load(spec.clone()).await.unwrap();
    assert_eq!(ask(&runner, "why is the sky blue?").await.text, SKY);

    let prompt = about(&[red()], "What is this?");
    let text_tokens = tokens(&runner, &prompt).await;
    let first = see(&runner, prompt.clone()).await.unwrap();
    let image = first.done.usage.prompt_tokens - text_tokens;
    assert!(image >= 4, "{:?}", first.done.usage);
    // What stands for an image is not among the tokens.
    let answered = first.done.tokens.len() as u64 - text_tokens;
    let ended = u64::from(first.done.finish == FinishReason::Stop);
    assert_eq!(answered + ended, first.done.usage.completion_tokens);

    let again = see(&runner, prompt.clone()).await.unwrap();
    assert!(same(&first, &again), "{:?} {:?}", view(&first), view(&again));
    assert_eq!(again.done.usage.cached_tokens, again.done.usage.prompt_tokens - 1);
    let other = see(&runner, about(&[blue()], "What is this?")).await.unwrap();
    assert!(!same(&first, &other), "{:?}", view(&first));
    assert!(other.done.usage.cached_tokens < text_tokens, "{:?}", other.done.usage);

    // Between texts, and two of them, in both orders.
    let end = " we are.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
    let between = |a, b| vec![text("<|im_start|>user\nHere "), a, text(" and there "), b, text(end)];
    let [red, blue] = [red(), blue()].map(PromptPart::Media);
    let both = see(&runner, between(red.clone(), blue.clone())).await.unwrap();
    assert_eq!(both.done.usage.prompt_tokens, tokens(&runner, &between(text(""), text(""))).await + 2 * image);
    let turned = see(&runner, between(blue.clone(), red.clone())).await.unwrap();
    assert!(!same(&both, &turned), "{:?}", view(&both));

    // None of it came from what was there before.
    let fresh = load(spec).await.unwrap();
    for (reply, prompt) in [(&turned, between(blue.clone(), red.clone())), (&both, between(red, blue))] {
        let alone = see(&fresh, prompt).await.unwrap();
        assert!(same(&alone, reply), "{:?} {:?}", view(&alone), view(reply));
    }
    let alone = see(&fresh, prompt).await.unwrap();
    assert!(same(&alone, &first), "{:?} {:?}", view(&alone), view(&first));
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
    image
}

#[tokio::test]
async fn a_projector_of_llava() {
    assert_eq!(sees(seeing("mmproj-llava.gguf", 1)).await, 16);
}

#[tokio::test]
async fn a_projector_from_before_there_were_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(file("mmproj-llava.gguf")).unwrap();
    let key = b"clip.projector_type";
    let at = bytes.windows(key.len()).position(|part| part == key).unwrap();
    bytes[at..at + key.len()].copy_from_slice(b"clip.projector_none");
    let old = folder.path().join("old.gguf");
    std::fs::write(&old, bytes).unwrap();
    let old = load(LoadSpec { projectors: vec![old], ..spec(512, 1) }).await.unwrap();
    let new = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    let [old, new] = [&old, &new].map(|runner| see(runner, about(&[red()], "What is this?")));
    let (old, new) = tokio::join!(old, new);
    assert!(same(&old.unwrap(), &new.unwrap()));
}

#[tokio::test]
async fn a_projector_of_gemma() {
    // All of its tokens must be in one batch, whatever the option says.
    let mut spec = seeing("mmproj-gemma3.gguf", 2);
    spec.options.num_batch = 8;
    assert!(sees(spec).await >= 16);
}

#[tokio::test]
async fn a_projector_of_qwen() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("tiny.gguf");
    std::fs::write(&weights, as_qwen3vl(&std::fs::read(&spec(512, 1).weights[0]).unwrap())).unwrap();
    assert!(sees(LoadSpec { weights: vec![weights], ..seeing("mmproj-qwen3vl.gguf", 1) }).await >= 9);
}

/// A tone as WAV.
fn tone(hertz: f32, rate: u32, samples: u32) -> Vec<u8> {
    let samples = (0..samples).map(|at| ((at as f32 * hertz * std::f32::consts::TAU / rate as f32).sin() * 9e3) as i16);
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let format = [&[1, 0, 1, 0][..], &rate.to_le_bytes(), &(rate * 2).to_le_bytes(), &[2, 0, 16, 0]].concat();
    let [whole, length] = [36 + data.len(), data.len()].map(|length| (length as u32).to_le_bytes());
    [b"RIFF", &whole[..], b"WAVEfmt ", &[16, 0, 0, 0], &format, b"data", &length, &data].concat()
}

#[tokio::test]
async fn a_projector_that_hears() {
    let runner = load(seeing("mmproj-ultravox.gguf", 1)).await.unwrap();
    let [low, high] = [200.0, 3000.0].map(|hertz| tone(hertz, 16_000, 8000));
    let first = see(&runner, about(std::slice::from_ref(&low), "What is this?")).await.unwrap();
    assert!(first.done.usage.prompt_tokens > 75, "{:?}", first.done.usage);
    let other = see(&runner, about(&[high], "What is this?")).await.unwrap();
    let again = see(&runner, about(std::slice::from_ref(&low), "What is this?")).await.unwrap();
    assert!(same(&first, &again) && !same(&first, &other), "{:?} {:?}", view(&first), view(&other));
    for bad in [low[..low.len() - 15_999].to_vec(), low[..46].to_vec(), low[..44].to_vec(), b"fLaC".to_vec(), red()] {
        let error = see(&runner, about(std::slice::from_ref(&bad), "x")).await.map(drop);
        assert!(matches!(&error, Err(EngineError::Invalid(_)) | Ok(())), "{error:?}");
    }
    let seen = see(&runner, about(&[red()], "x")).await.map(drop).unwrap_err();
    assert_eq!(seen, EngineError::Invalid("this model does not support image input".into()));
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}

/// An answer that does not end by itself.
fn endless() -> GenerateRequest {
    let schema = r#"{"type":"array","minItems":100000,"items":{"type":"integer"}}"#.into();
    let constraint = Some(Constraint { schema, after: None, calls: Vec::new() });
    let mut endless = GenerateRequest { constraint, ..request(&question("Count from 1 to 50.")) };
    endless.sampling.num_predict = -1;
    endless
}

/// Reads from `answer` until `other` gives something or there were `most` tokens: how many those were.
async fn tokens_until(other: &mut StepStream, answer: &mut StepStream, most: usize) -> usize {
    for count in 0..most {
        tokio::select! {
            biased;
            event = other.next() => {
                event.unwrap().unwrap();
                return count;
            }
            event = answer.next() => assert!(matches!(event, Some(Ok(StepEvent::Text { .. })))),
        }
    }
    most
}

#[tokio::test]
async fn an_answer_goes_on_while_a_long_sound_is_heard() {
    let runner = load(seeing("mmproj-ultravox.gguf", 2)).await.unwrap();
    // Five minutes go through the encoder in ten parts, and each comes into the batches by itself.
    let sound = about(&[tone(300.0, 4000, 4000 * 300)], "What is this?");
    let mut answer = runner.generate(endless());
    answer.next().await.unwrap().unwrap();

    let tokens = tokens_until(&mut runner.generate(look(sound)), &mut answer, usize::MAX).await;
    assert!(tokens > 100, "the answer got {tokens} tokens while the sound was heard");

    // Given up in the middle it leaves nothing behind.
    let sound = about(&[tone(2000.0, 4000, 4000 * 300)], "What is this?");
    tokens_until(&mut runner.generate(look(sound.clone())), &mut answer, tokens / 2).await;
    let after = see(&runner, sound.clone()).await.unwrap();
    let alone = see(&load(seeing("mmproj-ultravox.gguf", 2)).await.unwrap(), sound).await.unwrap();
    assert!(same(&after, &alone), "{:?} {:?}", view(&after), view(&alone));
}

#[tokio::test]
async fn every_usual_format_is_read() {
    let runner = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    let mut replies = Vec::new();
    for name in ["sun.png", "sun.bmp", "sun.gif", "sun.jpg", "sun-progressive.jpg"] {
        let image = std::fs::read(file(name)).unwrap();
        replies.push(see(&runner, about(&[image], "What is this?")).await.unwrap());
    }
    assert!(same(&replies[0], &replies[1]), "{:?} {:?}", view(&replies[0]), view(&replies[1]));
    assert_eq!(replies[0].done.usage.prompt_tokens, replies[4].done.usage.prompt_tokens);
    let webp = see(&runner, about(&[std::fs::read(file("sun.webp")).unwrap()], "x")).await.map(drop).unwrap_err();
    assert!(matches!(&webp, EngineError::Invalid(text) if text.contains("WebP")), "{webp}");
}

#[tokio::test]
async fn a_conversation_goes_on_behind_its_image() {
    let runner = load(seeing("mmproj-llava.gguf", 2)).await.unwrap();
    let mut prompt = about(&[red(), blue()], "What is this?");
    let first = see(&runner, prompt.clone()).await.unwrap();
    prompt.push(text(&format!("{}<|im_end|>\n{}", first.text, question("Ping"))));
    let (second, beside) = tokio::join!(see(&runner, prompt.clone()), see(&runner, prompt));
    for reply in [second.unwrap(), beside.unwrap()] {
        let usage = reply.done.usage;
        assert!(usage.cached_tokens + 1 >= first.done.usage.prompt_tokens, "{usage:?}");
    }
}

#[tokio::test]
async fn many_at_once_with_texts_among_them() {
    let runner = load(seeing("mmproj-llava.gguf", 4)).await.unwrap();
    let images: Vec<_> = (0..8).map(|n| image(30 + n, 40, [(n * 30) as u8, 90, 200])).collect();
    let prompts: Vec<_> = images.iter().map(|image| about(std::slice::from_ref(image), "What is this?")).collect();
    let looked = join_all(prompts.iter().map(|prompt| see(&runner, prompt.clone())));
    let asked = join_all((0..4).map(|_| ask(&runner, "why is the sky blue?")));
    let (looked, asked) = tokio::join!(looked, asked);
    for reply in asked {
        assert_eq!(reply.text, SKY);
    }
    let alone = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    for (reply, prompt) in looked.iter().zip(prompts) {
        let expected = see(&alone, prompt).await.unwrap();
        let reply = reply.as_ref().map_err(EngineError::to_string).unwrap();
        assert!(same(reply, &expected), "{:?} {:?}", view(reply), view(&expected));
    }
}

#[tokio::test]
async fn a_bad_image_is_the_end_of_its_request_only() {
    let runner = load(seeing("mmproj-llava.gguf", 1)).await.unwrap();
    let png = std::fs::read(file("sun.png")).unwrap();
    let jpeg = std::fs::read(file("sun.jpg")).unwrap();
    let mut garbled = png.clone();
    garbled[60..].iter_mut().take(40).for_each(|byte| *byte = 0x55);
    let bad = [
        Vec::new(),
        b"no image".to_vec(),
        png[..png.len() / 2].to_vec(),
        jpeg[..jpeg.len() / 2].to_vec(),
        garbled,
        image(0, 0, [0; 3]),
        image(1, 300, [0; 3]),
        [&b"RIFF\x10\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0"[..], &[0; 20]].concat(),
    ];
    for file in bad {
        let error = see(&runner, about(std::slice::from_ref(&file), "x")).await.map(drop).unwrap_err();
        assert!(matches!(&error, EngineError::Invalid(_)), "{error:?}");
    }
    assert!(see(&runner, about(&[image(1, 1, [9; 3])], "x")).await.is_ok());
    assert!(see(&runner, vec![PromptPart::Media(red())]).await.is_ok());
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}

#[tokio::test]
async fn an_image_is_never_cut_in_two() {
    let runner = load(LoadSpec { projectors: vec![file("mmproj-llava.gguf")], ..spec(64, 1) }).await.unwrap();
    let mut long = GenerateRequest { prompt: about(&[red()], "Count from 1 to 50."), ..request("") };
    long.sampling.num_predict = 300;
    long.sampling.temperature = 3.0;
    long.sampling.seed = 1;
    let reply = answer(&runner, long).await.unwrap();
    let usage = reply.done.usage;
    let ended = reply.done.finish == FinishReason::Stop;
    assert!(ended || usage.prompt_tokens + usage.completion_tokens == 64, "{usage:?}");

    let error = see(&runner, about(&[red(), blue(), red(), blue()], "Ping")).await.map(drop).unwrap_err();
    let expected = "exceeds the available context size (64 tokens)";
    assert!(matches!(&error, EngineError::Invalid(text) if text.contains(expected)), "{error}");
    assert_eq!(ask(&runner, "Ping").await.text, "Pong");
}

#[tokio::test]
async fn a_projector_that_does_not_fit_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(file("mmproj-llava.gguf")).unwrap();
    let at = whole.windows(11).position(|bytes| bytes == b"\x03\0\0\0\0\0\0\0mlp").unwrap();
    let mut unknown = whole.clone();
    unknown[at + 8..at + 11].copy_from_slice(b"eye");
    let broken = whole[..whole.len() / 2].to_vec();
    for (name, content, why) in [
        ("unknown.gguf", unknown, "unknown projector type: eye"),
        ("broken.gguf", broken, "unable to load model"),
        ("narrow.gguf", std::fs::read(file("mmproj-narrow.gguf")).unwrap(), "n_embd = 64"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = load(LoadSpec { projectors: vec![path], ..spec(512, 1) }).await.map(drop).unwrap_err();
        assert!(matches!(&error, EngineError::Load(text) if text.contains(why)), "{name}: {error:?}");
    }
}

/// The file of a Qwen3 model with the name of Qwen3-VL, which computes the same of text and counts an image's positions in
/// two dimensions.
fn as_qwen3vl(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let text = |at: usize| (&file[at + 8..at + 8 + number(at)], at + 8 + number(at));
    let sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    let end = |kind: u32, at: usize| match kind {
        8 => text(at).1,
        9 => match word(at) {
            8 => (0..number(at + 4)).fold(at + 12, |at, _| text(at).1),
            kind => at + 12 + number(at + 4) * sizes[kind as usize],
        },
        kind => at + sizes[kind as usize],
    };
    let string = |bytes: &[u8]| [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    let (tensors, entries) = (number(8), number(16));
    let mut out = [&file[..16], &(entries as u64 + 1).to_le_bytes()[..]].concat();
    let mut at = 24;
    let mut head = 0;
    for _ in 0..entries {
        let (key, value) = text(at);
        let next = end(word(value), value + 4);
        let renamed = key.strip_prefix(b"qwen3.").map(|rest| [&b"qwen3vl."[..], rest].concat());
        out.extend(string(renamed.as_deref().unwrap_or(key)));
        match key {
            b"general.architecture" => out.extend([&8u32.to_le_bytes()[..], &string(b"qwen3vl")].concat()),
            _ => out.extend(&file[value..next]),
        }
        if key == b"qwen3.attention.key_length" {
            head = word(value + 4);
        }
        at = next;
    }
    let pairs = head / 2;
    out.extend(string(b"qwen3vl.rope.dimension_sections"));
    out.extend([9u32.to_le_bytes(), 5u32.to_le_bytes()].concat());
    out.extend(4u64.to_le_bytes());
    out.extend([pairs - 2 * (pairs / 3), pairs / 3, pairs / 3, 0].map(u32::to_le_bytes).concat());
    let described = at;
    for _ in 0..tensors {
        let dimensions = text(at).1;
        at = dimensions + 4 + word(dimensions) as usize * 8 + 4 + 8;
    }
    out.extend(&file[described..at]);
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(&file[at.next_multiple_of(32)..]);
    out
}
