//! Vectors of texts, by llama.cpp through `hanzod runner`.

use futures_util::future::join_all;
use hanzod::engine::{EmbedRequest, EngineError, LoadSpec};

use super::llama::{SKY, answer, load, request, spec};

fn embed(inputs: &[&str], max_tokens: i64, truncate: bool) -> EmbedRequest {
    EmbedRequest { inputs: inputs.iter().map(|input| (*input).to_owned()).collect(), truncate, max_tokens }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn embeddings_are_the_same_alone_and_in_a_batch() {
    let runner = load(LoadSpec { embedding: true, ..spec(512, 1) }).await.unwrap();
    let many = ["why is the sky blue?", "Ping", "A server listens.", "why is the sky blue?"];
    let reply = runner.embed(embed(&many, 512, true)).await.unwrap();
    assert_eq!(reply.vectors.len(), 4);
    for vector in &reply.vectors {
        assert_eq!(vector.len() as u64, runner.report().embedding_length);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-4);
    }
    assert!(cosine(&reply.vectors[0], &reply.vectors[3]) > 0.9999);
    assert!(cosine(&reply.vectors[0], &reply.vectors[1]) < 0.99);
    let singles = join_all(many.iter().map(|text| runner.embed(embed(&[text], 512, true)))).await;
    let mut tokens = 0;
    for (single, vector) in singles.into_iter().zip(&reply.vectors) {
        let single = single.unwrap();
        tokens += single.prompt_tokens;
        assert!(cosine(&single.vectors[0], vector) > 0.999);
    }
    assert_eq!(tokens, reply.prompt_tokens);

    assert_eq!(runner.embed(embed(&[], 512, true)).await.unwrap().vectors.len(), 0);
    let cut = runner.embed(embed(&[SKY], 3, true)).await.unwrap();
    assert_eq!(cut.prompt_tokens, 3);
    let error = runner.embed(embed(&[SKY], 3, false)).await.unwrap_err();
    assert_eq!(error, EngineError::Invalid("the input length exceeds the context length".into()));
    assert!(matches!(answer(&runner, request("a")).await.map(|_| ()), Err(EngineError::Invalid(_))));
}

#[tokio::test]
async fn a_text_model_makes_no_embeddings() {
    let runner = load(spec(512, 1)).await.unwrap();
    assert!(matches!(runner.embed(embed(&["a"], 512, true)).await, Err(EngineError::Invalid(_))));
}

/// Against vectors and counts recorded from Ollama with the same file.
#[tokio::test]
async fn minilm_makes_the_vectors_it_is_known_for() {
    let Some(path) = std::env::var_os("HANZOD_TEST_MINILM") else {
        println!("skipped: HANZOD_TEST_MINILM names no all-MiniLM GGUF");
        return;
    };
    let runner = load(LoadSpec { weights: vec![path.into()], embedding: true, ..spec(4096, 1) }).await.unwrap();
    assert_eq!((runner.report().context_length, runner.report().embedding_length), (512, 384));
    let reply = runner.embed(embed(&["a"], 512, true)).await.unwrap();
    assert_eq!(reply.prompt_tokens, 3);
    let long = runner.embed(embed(&[&"word ".repeat(900)], 512, true)).await.unwrap();
    assert_eq!(long.prompt_tokens, 512);
    let why = runner.embed(embed(&["why is the sky blue?"], 3, true)).await.unwrap();
    let short = runner.embed(embed(&["why"], 512, true)).await.unwrap();
    assert!(cosine(&why.vectors[0], &short.vectors[0]) > 0.9999);
    let error = runner.embed(embed(&["why"], 1, true)).await.unwrap_err();
    assert_eq!(error, EngineError::Invalid("input after truncation exceeds maximum context length".into()));
}
