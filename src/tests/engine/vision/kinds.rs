//! What has to hold for every kind of projector, and which ones do not fit.

use std::sync::Arc;

use hanzod::engine::{EngineError, FinishReason, LoadSpec, PromptPart, Runner};

use super::{about, blue, file, red, same, see, seeing, text, view};
use crate::engine::llama::{SKY, ask, load, spec};

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
