//! Images and sounds with the tiny model and projectors of random weights, through `hanzod runner`.

mod images;
mod kinds;
mod sounds;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hanzod::engine::{EngineError, GenerateRequest, LoadSpec, PromptPart, Runner};

use super::llama::{Reply, answer, question, request, spec};

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
