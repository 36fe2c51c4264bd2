//! The same random weights in both engines: mistral.rs runs the folder, llama.cpp the file that was made of it, in full
//! precision. They were written by different people, so what both say is what the weights say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use hanzod::create::{convert, create};
use hanzod::engine::process::ProcessEngine;
use hanzod::engine::{EmbedRequest, Engine, EngineKind, GenerateRequest, LoadSpec, PromptPart, Runner, StepEvent};
use hanzod::store::Store;
use hanzod::types::{Guessing, LoadOptions, ModelName, SamplingOptions};
use serde_json::{Value, json};

use super::folders::{Files, LoRa, lay_out, lora, request, upload, with_bert, with_bytes, with_pieces};

async fn load(engine: EngineKind, weights: &Path, adapters: &[PathBuf], embedding: bool) -> Arc<dyn Runner> {
    let spec = LoadSpec {
        engine,
        weights: vec![weights.to_owned()],
        adapters: adapters.to_vec(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::Off,
        options: LoadOptions { num_ctx: 128, num_gpu: 0, ..LoadOptions::default() },
        parallel: 1,
        embedding,
        saving: None,
    };
    ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]).load(spec).await.unwrap()
}

/// Tokens and how likely each was, of what follows a prompt.
async fn answer(runner: &Arc<dyn Runner>, prompt: &[u32]) -> (Vec<u32>, Vec<f32>) {
    let mut steps = runner.generate(GenerateRequest {
        prompt: vec![PromptPart::Tokens(prompt.to_vec())],
        sampling: SamplingOptions {
            temperature: 0.0,
            num_predict: 12,
            repeat_penalty: 1.0,
            ..SamplingOptions::default()
        },
        constraint: None,
        preserved: Vec::new(),
        logprobs: Some(1),
        context: 0,
        truncate: true,
        shift: true,
    });
    let mut chances = Vec::new();
    while let Some(step) = steps.next().await {
        match step.unwrap() {
            StepEvent::Text { logprobs, .. } => chances.extend(logprobs.into_iter().map(|token| token.logprob)),
            StepEvent::Done(done) => return (done.tokens, chances),
        }
    }
    panic!("the answer has no end");
}

/// Both engines with the same model.
struct Both {
    _folder: tempfile::TempDir,
    theirs: Arc<dyn Runner>,
    ours: Arc<dyn Runner>,
}

impl Both {
    async fn load(files: &Files, embedding: bool) -> Self {
        Self::load_with(files, files, &Files::new(), embedding).await
    }

    /// `converted` and its adapter in llama.cpp, beside `kept` in mistral.rs.
    async fn load_with(kept: &Files, converted: &Files, adapter: &Files, embedding: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (model, store) = (folder.path().join("model"), Store::open(&folder.path().join("store")).unwrap());
        lay_out(kept, &model);
        let mut request = request(&store, converted, "f32");
        request.adapters = upload(&store, adapter);
        convert(&store, &mut request, |_| true).unwrap();
        create(&store, request, |_| {}).unwrap();
        let made = store.model(&ModelName::parse("made").unwrap()).unwrap();
        assert_eq!(made.adapters().len(), usize::from(!adapter.is_empty()));
        let theirs = load(EngineKind::Mistral, &model, &[], embedding).await;
        let ours = load(EngineKind::Llama, &made.weights().unwrap()[0], &made.adapters(), embedding).await;
        Self { _folder: folder, theirs, ours }
    }

    async fn answer_alike(&self, what: &str) {
        let text = "the old owl sat on the oak 123, naïve 🦉\n\n  and the others were gone";
        let tokens = self.theirs.tokenize(text.into(), true).await.unwrap();
        assert_eq!(self.ours.tokenize(text.into(), true).await.unwrap(), tokens, "{what}");
        let mut compared = 0;
        for length in [1, 7, tokens.len()] {
            let (theirs, ours) =
                (answer(&self.theirs, &tokens[..length]).await, answer(&self.ours, &tokens[..length]).await);
            assert_eq!(theirs.1.len(), theirs.0.len() - length);
            for (place, (their_chance, our_chance)) in theirs.1.iter().zip(&ours.1).enumerate() {
                let alike = (their_chance - our_chance).abs() < 0.05;
                assert!(alike, "{what}, token {place} after {length}: {their_chance} or {our_chance}");
                compared += 1;
                // two that were equally likely, to the last digits
                if theirs.0[length + place] != ours.0[length + place] {
                    break;
                }
            }
        }
        assert!(compared > 12, "{what}: {compared} tokens");
    }
}

/// Stretched so that it matters within the prompt.
fn llama3() -> Value {
    json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64})
}

#[tokio::test]
async fn models_of_bytes_answer_alike() {
    let sliding = json!({"sliding_window": null, "use_sliding_window": false, "max_window_layers": 2});
    let with = |more: Value| {
        let mut all = sliding.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for (class, more) in [
        ("LlamaForCausalLM", json!({"rope_scaling": llama3()})),
        ("MistralForCausalLM", json!({"sliding_window": null, "head_dim": 32})),
        ("MixtralForCausalLM", with(json!({"num_local_experts": 4, "num_experts_per_tok": 2}))),
        ("Qwen2ForCausalLM", sliding.clone()),
        ("Qwen3ForCausalLM", with(json!({"head_dim": 32, "tie_word_embeddings": true}))),
    ] {
        Both::load(&with_bytes(class, more), false).await.answer_alike(class).await;
    }
}

#[tokio::test]
async fn models_of_pieces_answer_alike() {
    let gemma = json!({"head_dim": 32, "attention_bias": false, "hidden_act": null, "tie_word_embeddings": true,
        "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 32, "sliding_window": 64,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0});
    let ones: Vec<f32> = vec![1.0; 8];
    let halves: Vec<f32> = (0..8_u8).map(|pair| 1.0 + f32::from(pair) / 2.0).collect();
    let long = json!({"type": "longrope", "long_factor": ones, "short_factor": halves});
    for (class, more) in [
        ("LlamaForCausalLM", json!({})),
        ("GemmaForCausalLM", gemma.clone()),
        ("Gemma2ForCausalLM", gemma),
        ("Phi3ForCausalLM", json!({"sliding_window": null, "original_max_position_embeddings": 256})),
        (
            "Phi3ForCausalLM",
            json!({"sliding_window": null, "original_max_position_embeddings": 256,
                "max_position_embeddings": 512, "rope_scaling": long}),
        ),
    ] {
        Both::load(&with_pieces(class, more), false).await.answer_alike(class).await;
    }
}

/// A sentence transformer of the tiny model's weights, pooled at the last token.
#[tokio::test]
async fn texts_become_the_same_vectors() {
    let mut files = with_bytes(
        "Qwen3ForCausalLM",
        json!({"sliding_window": null, "use_sliding_window": false,
        "max_window_layers": 2, "head_dim": 32, "tie_word_embeddings": true}),
    );
    let weights = files.get_mut("model.safetensors").unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(weights[8..8 + length].to_vec()).unwrap().replace("\"model.", "\"");
    let renamed = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &weights[8 + length..]].concat();
    *weights = renamed;
    let module = |kind: &str, path: &str| {
        json!({"idx": 0, "name": "", "path": path,
        "type": format!("sentence_transformers.models.{kind}")})
    };
    let modules =
        json!([module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2_Normalize")]);
    let pooling = json!({"word_embedding_dimension": 64, "pooling_mode_cls_token": false, "include_prompt": true,
        "pooling_mode_mean_tokens": false, "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,
        "pooling_mode_weightedmean_tokens": false, "pooling_mode_lasttoken": true});
    files.insert("modules.json".into(), modules.to_string().into_bytes());
    files.insert("1_Pooling/config.json".into(), pooling.to_string().into_bytes());

    let both = Both::load(&files, true).await;
    let request = || EmbedRequest {
        inputs: ["the owl", "Tell me a story about it."].map(str::to_owned).to_vec(),
        truncate: true,
        max_tokens: 64,
    };
    let (theirs, ours) = (both.theirs.embed(request()).await.unwrap(), both.ours.embed(request()).await.unwrap());
    assert_eq!(theirs.vectors.len(), 2);
    for (theirs, ours) in theirs.vectors.iter().zip(&ours.vectors) {
        let cosine: f32 = theirs.iter().zip(ours).map(|(one, other)| one * other).sum();
        assert!(cosine > 0.999, "{cosine}");
    }
}

/// A model whose weights were changed for good answers as one that is given the change as an adapter.
#[tokio::test]
async fn an_adapter_does_what_merging_does() {
    let sliding = json!({"sliding_window": null, "use_sliding_window": false, "max_window_layers": 2});
    for (class, more) in [("LlamaForCausalLM", json!({})), ("Qwen2ForCausalLM", sliding)] {
        let plain = with_bytes(class, more);
        for rank_stable in [false, true] {
            let LoRa { adapter, merged } = lora(&plain, rank_stable);
            let both = Both::load_with(&merged, &plain, &adapter, false).await;
            both.answer_alike(class).await;
            let tokens = both.ours.tokenize("the owl".into(), true).await.unwrap();
            let untouched = Both::load(&plain, false).await;
            let (changed, before) = (answer(&both.ours, &tokens).await, answer(&untouched.ours, &tokens).await);
            assert_ne!(changed.0, before.0, "the adapter changes something");
        }
    }
}

/// What mistral.rs does not run (Qwen3 with experts fails in it on a CPU) must at least run in llama.cpp.
#[tokio::test]
async fn gemma_3_bert_and_qwen_3_with_experts_run() {
    let folder = tempfile::tempdir().unwrap();
    let made = |files: &Files, name: &str| {
        let store = Store::open(&folder.path().join(name)).unwrap();
        let mut request = request(&store, files, "f16");
        convert(&store, &mut request, |_| true).unwrap();
        create(&store, request, |_| {}).unwrap();
        store.model(&ModelName::parse("made").unwrap()).unwrap().weights().unwrap().remove(0)
    };
    let gemma = json!({"head_dim": 32, "sliding_window": 64, "tie_word_embeddings": true, "hidden_act": null});
    let experts = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "head_dim": 16});
    for (files, name) in
        [(with_pieces("Gemma3ForCausalLM", gemma), "gemma"), (with_bytes("Qwen3MoeForCausalLM", experts), "qwen")]
    {
        let runner = load(EngineKind::Llama, &made(&files, name), &[], false).await;
        let tokens = runner.tokenize("the old owl".into(), true).await.unwrap();
        let (_, chances) = answer(&runner, &tokens).await;
        assert!(!chances.is_empty() && chances.iter().all(|chance| *chance < 0.0), "{name}: {chances:?}");
    }

    let bert = made(&with_bert(), "bert");
    let runner = load(EngineKind::Llama, &bert, &[], true).await;
    assert_eq!(runner.tokenize("The owls".into(), true).await.unwrap(), [1, 5, 6, 7, 2]);
    let request = EmbedRequest { inputs: vec!["the owl".into(), "owls".into()], truncate: true, max_tokens: 64 };
    let vectors = runner.embed(request).await.unwrap().vectors;
    assert_eq!(vectors[0].len(), 64);
    assert_ne!(vectors[0], vectors[1]);
}
