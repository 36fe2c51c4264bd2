//! What stands in the files that are made, number by number.

use hanzod::create::{CreateError, CreateErrorKind, CreateRequest, convert, create};
use hanzod::gguf::{Elements, Gguf, Metadata};
use hanzod::store::{Capability, Model, Store};
use hanzod::types::ModelName;
use serde_json::{Value, json};

use super::folders::{
    Files, LoRa, config, lora, request, safetensors, upload, with_bert, with_bytes, with_more_rows, with_pieces,
};

struct Made {
    _folder: tempfile::TempDir,
    model: Model,
    gguf: Gguf,
}

fn make(files: &Files, adapter: &Files) -> Result<Made, CreateError> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut request = request(&store, files, "f32");
    request.adapters = upload(&store, adapter);
    convert(&store, &mut request, |_| true)?;
    create(&store, request, |_| {})?;
    let model = store.model(&ModelName::parse("made").unwrap()).unwrap();
    let gguf = Gguf::open(&model.weights().unwrap()[0]).unwrap();
    Ok(Made { _folder: folder, model, gguf })
}

fn made(files: &Files) -> Made {
    make(files, &Files::new()).unwrap()
}

fn refused(files: &Files, adapter: &Files) -> String {
    make(files, adapter).err().unwrap().to_string()
}

/// The numbers of an F32 tensor, and its shape with the outermost dimension first.
fn tensor(gguf: &Gguf, name: &str) -> (Vec<f32>, Vec<u64>) {
    let tensor = gguf.tensors().iter().find(|tensor| tensor.name() == name).unwrap();
    let at = (gguf.data_offset() + tensor.offset()) as usize;
    let bytes = &std::fs::read(gguf.path()).unwrap()[at..at + tensor.size() as usize];
    let numbers = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (numbers.collect(), tensor.shape().iter().rev().copied().collect())
}

/// The numbers of a tensor of a folder.
fn source(files: &Files, file: &str, name: &str) -> Vec<f32> {
    let bytes = &files[file];
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let [begin, end] = [0, 1].map(|at| header[name]["data_offsets"][at].as_u64().unwrap() as usize + 8 + length);
    bytes[begin..end].chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn numbers(metadata: &Metadata, keys: &[&str]) -> Vec<Option<f64>> {
    let number =
        |key: &&str| metadata.arch(key).and_then(|value| value.as_f64().or(value.as_u64().map(|it| it as f64)));
    keys.iter().map(number).collect()
}

/// A row of ours is that row of theirs.
fn same_row(ours: &[f32], our_row: usize, theirs: &[f32], their_row: usize, row: usize) -> bool {
    ours[our_row * row..][..row] == theirs[their_row * row..][..row]
}

#[test]
fn llama_s_queries_and_keys_are_put_in_pairs() {
    let files = with_bytes("LlamaForCausalLM", json!({"attention_bias": true}));
    let Made { gguf, .. } = &made(&files);
    let theirs = |name: &str| source(&files, "model.safetensors", &format!("model.layers.1.self_attn.{name}"));
    // heads of 16: the first pair is of rows 0 and 8, the second of rows 1 and 9; the next head begins with 16
    for (ours, name) in [("attn_q", "q_proj"), ("attn_k", "k_proj")] {
        let (weight, _) = tensor(gguf, &format!("blk.1.{ours}.weight"));
        let (bias, shape) = tensor(gguf, &format!("blk.1.{ours}.bias"));
        assert_eq!(shape, [bias.len() as u64]);
        for (our_row, their_row) in [(0, 0), (1, 8), (2, 1), (3, 9), (15, 15), (16, 16), (17, 24), (31, 31)] {
            assert!(same_row(&weight, our_row, &theirs(&format!("{name}.weight")), their_row, 64), "{name} {our_row}");
            assert_eq!(bias[our_row], theirs(&format!("{name}.bias"))[their_row], "{name} {our_row}");
        }
    }
    assert_eq!(tensor(gguf, "blk.1.attn_v.weight").0, theirs("v_proj.weight"));
    assert_eq!(tensor(gguf, "blk.1.attn_v.bias").0, theirs("v_proj.bias"));
    let keys = ["attention.head_count", "attention.head_count_kv", "rope.dimension_count", "feed_forward_length"];
    assert_eq!(numbers(gguf.metadata(), &keys), [Some(4.0), Some(2.0), Some(16.0), Some(96.0)]);
}

#[test]
fn experts_are_stacked() {
    for (class, inside, more) in [
        (
            "MixtralForCausalLM",
            "block_sparse_moe.experts.2.w2",
            json!({"num_local_experts": 4, "num_experts_per_tok": 2}),
        ),
        (
            "Qwen3MoeForCausalLM",
            "mlp.experts.2.down_proj",
            json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96}),
        ),
    ] {
        let files = with_bytes(class, more.clone());
        let Made { gguf, .. } = &made(&files);
        let (stacked, shape) = tensor(gguf, "blk.0.ffn_down_exps.weight");
        assert_eq!(shape, [4, 64, 96]);
        let third = source(&files, "model.safetensors", &format!("model.layers.0.{inside}.weight"));
        assert_eq!(stacked[2 * 64 * 96..3 * 64 * 96], third);
        assert_eq!(numbers(gguf.metadata(), &["expert_count", "expert_used_count"]), [Some(4.0), Some(2.0)]);

        let mut more = more;
        more[if class.starts_with("Mixtral") { "num_local_experts" } else { "num_experts" }] = json!(5);
        let mut fewer = files.clone();
        fewer.insert("config.json".into(), config(class, more).to_string().into_bytes());
        assert_eq!(refused(&fewer, &Files::new()), "of 5 experts 4 have the tensor `blk.0.ffn_down_exps.weight`");
    }
}

#[test]
fn gemma_s_norms_are_what_is_over_one() {
    let files = with_pieces("Gemma3ForConditionalGeneration", json!({"tie_word_embeddings": true}));
    let mut config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
    let mut files = files;
    // a model that sees has its text's numbers one level down, and leaves out what is usual
    let mut text = config.clone();
    for key in ["num_attention_heads", "num_key_value_heads", "rope_theta", "max_position_embeddings"] {
        text.as_object_mut().unwrap().remove(key);
    }
    text["head_dim"] = json!(16);
    text["rope_scaling"] = json!({"rope_type": "linear", "factor": 8.0});
    config = json!({"architectures": config["architectures"], "text_config": text, "vision_config": {}});
    files.insert("config.json".into(), config.to_string().into_bytes());
    let Made { gguf, model, .. } = &made(&files);
    let theirs = source(&files, "model.safetensors", "model.layers.0.post_attention_layernorm.weight");
    let ours = tensor(gguf, "blk.0.post_attention_norm.weight").0;
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| *ours == theirs + 1.0));
    assert_eq!(
        tensor(gguf, "blk.0.attn_output.weight").0,
        source(&files, "model.safetensors", "model.layers.0.self_attn.o_proj.weight")
    );
    let keys =
        ["attention.head_count", "attention.head_count_kv", "rope.freq_base", "rope.scaling.factor", "context_length"];
    assert_eq!(numbers(gguf.metadata(), &keys), [Some(8.0), Some(4.0), Some(1e6), Some(8.0), Some(131_072.0)]);
    assert_eq!(model.base_capabilities(), [Capability::Completion], "what it saw with is not in the file");
}

#[test]
fn pieces_have_scores_and_kinds() {
    let files = with_more_rows("Phi3ForCausalLM", json!({}), 8);
    let Made { gguf, .. } = &made(&files);
    let elements = |key: &str| gguf.elements(gguf.get(key).unwrap().as_array().unwrap()).unwrap();
    let Elements::String(tokens) = elements("tokenizer.ggml.tokens") else { panic!("tokens are texts") };
    let Elements::I32(kinds) = elements("tokenizer.ggml.token_type") else { panic!("kinds are numbers") };
    let Elements::F32(scores) = elements("tokenizer.ggml.scores") else { panic!("scores are numbers") };
    let find = |text: &str| tokens.iter().position(|token| token == text).unwrap();
    let kind = |text: &str| kinds[find(text)];
    assert_eq!([kind("<unk>"), kind("<s>"), kind("<0x0A>"), kind("▁the"), kind("<|end|>")], [2, 3, 6, 1, 3]);
    // the first pieces that are merged come after the bytes, the characters that they are made of at the end
    assert!(scores[259..300].is_sorted_by(|before, after| before > after) && scores[300] > scores[find("a")]);
    assert_eq!(kinds.last(), Some(&5), "a row without a token");
    let number = |key: &str| gguf.metadata().u64(&format!("tokenizer.ggml.{key}"));
    assert_eq!(
        (number("bos_token_id"), number("eos_token_id"), number("unknown_token_id")),
        (Some(1), Some(2), Some(0))
    );
    assert_eq!(gguf.eot_token().unwrap().as_deref(), Some("<|end|>"));
    let flag = |key: &str| gguf.metadata().bool(&format!("tokenizer.ggml.{key}"));
    assert_eq!(
        (flag("add_bos_token"), flag("add_eos_token"), flag("add_space_prefix")),
        (Some(true), Some(false), Some(true))
    );

    let mut without = files.clone();
    let mut tokenizer: Value = serde_json::from_slice(&without["tokenizer.json"]).unwrap();
    tokenizer["model"]["vocab"].as_object_mut().unwrap().remove("<0x7F>");
    without.insert("tokenizer.json".into(), tokenizer.to_string().into_bytes());
    assert_eq!(refused(&without, &Files::new()), "the tokenizer has no token <0x7F>");
}

#[test]
fn bert_s_words_bear_a_mark_and_are_pooled() {
    let files = with_bert();
    let Made { gguf, model, .. } = &made(&files);
    let Elements::String(tokens) =
        gguf.elements(gguf.get("tokenizer.ggml.tokens").unwrap().as_array().unwrap()).unwrap()
    else {
        panic!("tokens are texts")
    };
    assert_eq!(tokens, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "▁the", "▁owl", "s"]);
    assert_eq!(numbers(gguf.metadata(), &["pooling_type", "context_length"]), [Some(1.0), Some(128.0)]);
    assert_eq!(model.base_capabilities(), [Capability::Embedding]);

    let with = |modules: Value, pooling: Value| {
        let mut files = files.clone();
        files.insert("modules.json".into(), modules.to_string().into_bytes());
        files.insert("1_Pooling/config.json".into(), pooling.to_string().into_bytes());
        files
    };
    let module =
        |kind: &str| json!({"type": format!("sentence_transformers.models.{kind}"), "path": format!("1_{kind}")});
    let pools = json!([module("Transformer"), module("Pooling"), module("Normalize")]);
    let cls = with(pools.clone(), json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}));
    assert_eq!(numbers(made(&cls).gguf.metadata(), &["pooling_type"]), [Some(2.0)]);
    let mut nowhere = cls.clone();
    nowhere.remove("1_Pooling/config.json");
    for (files, why) in [
        (nowhere, "`1_Pooling/config.json` is missing"),
        (
            with(json!([module("Dense")]), json!({})),
            "the module \"sentence_transformers.models.Dense\" cannot be converted to GGUF",
        ),
        (with(json!([module("Transformer")]), json!({})), "`modules.json` does not say how tokens are pooled"),
        (
            with(pools, json!({"pooling_mode_max_tokens": true})),
            "pooling by [\"pooling_mode_max_tokens\"] cannot be converted to GGUF",
        ),
    ] {
        assert_eq!(refused(&files, &Files::new()), why);
    }
}

#[test]
fn an_adapter_becomes_one_of_gguf() {
    let files = with_bytes("LlamaForCausalLM", json!({}));
    let LoRa { adapter, .. } = lora(&files, false);
    let Made { model, .. } = &make(&files, &adapter).unwrap();
    let gguf = Gguf::open(&model.adapters()[0]).unwrap();
    assert_eq!(
        (gguf.metadata().str("adapter.type"), gguf.metadata().f64("adapter.lora.alpha")),
        (Some("lora"), Some(3.0))
    );
    assert_eq!(gguf.tensors().len(), 16);
    let theirs = |half: &str| {
        source(
            &adapter,
            "adapter_model.safetensors",
            &format!("base_model.model.model.layers.0.self_attn.q_proj.{half}.weight"),
        )
    };
    let (a, shape) = tensor(&gguf, "blk.0.attn_q.weight.lora_a");
    assert_eq!((a, shape), (theirs("lora_A"), vec![2, 64]));
    let (b, shape) = tensor(&gguf, "blk.0.attn_q.weight.lora_b");
    assert_eq!(shape, [64, 2]);
    assert!(same_row(&b, 1, &theirs("lora_B"), 8, 2) && same_row(&b, 2, &theirs("lora_B"), 1, 2));
    let stable = make(&files, &lora(&files, true).adapter).unwrap();
    let alpha = Gguf::open(&stable.model.adapters()[0]).unwrap().metadata().f64("adapter.lora.alpha").unwrap();
    assert!((alpha - 3.0 * 2.0_f64.sqrt()).abs() < 1e-6, "{alpha}");

    let settings = |key: &str, value: Value| {
        let mut adapter = adapter.clone();
        let mut config: Value = serde_json::from_slice(&adapter["adapter_config.json"]).unwrap();
        config[key] = value;
        adapter.insert("adapter_config.json".into(), config.to_string().into_bytes());
        refused(&files, &adapter)
    };
    assert_eq!(settings("peft_type", json!("IA3")), "adapters of the type \"IA3\" cannot be converted to GGUF");
    assert_eq!(settings("use_dora", json!(true)), "a LoRA with `use_dora` cannot be converted to GGUF");
    assert_eq!(settings("r", json!(0)), "`adapter_config.json` has no `r` and `lora_alpha`, positive numbers");
    let tensors = |tensors: &[(&str, &[u64])]| {
        let mut adapter = adapter.clone();
        let tensors =
            tensors.iter().map(|(name, shape)| (format!("base_model.model.{name}"), shape.to_vec())).collect();
        let file = safetensors(&tensors, |_, shape| vec![0.0; shape.iter().product::<u64>() as usize]);
        adapter.insert("adapter_model.safetensors".into(), file);
        refused(&files, &adapter)
    };
    let (a, b) = ("model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj.lora_B.weight");
    assert_eq!(tensors(&[(a, &[2, 64])]), "of `blk.0.attn_q.weight` the adapter has only one half");
    assert!(tensors(&[(a, &[2, 64]), (b, &[64, 3])]).ends_with("do not go together"));
    assert_eq!(tensors(&[(a, &[2, 64]), (b, &[65, 2])]), "`blk.0.attn_q.weight.lora_b` has 65 rows for 4 heads");
    assert!(tensors(&[("model.owl.lora_A.weight", &[2, 64])]).ends_with("has no place in a model of the kind llama"));
    assert!(tensors(&[("model.norm.weight", &[64])]).ends_with("is not of a LoRA that can be converted to GGUF"));
}

/// Every value within a JSON file, put in another's place in turn.
fn changed(text: &[u8], mut with: impl FnMut(Vec<u8>)) {
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(list) => list.iter().enumerate().map(|(place, value)| (place.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        found.push(at.to_owned());
        inner.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{key}"), found));
    }
    let whole: Value = serde_json::from_slice(text).unwrap();
    let mut all = Vec::new();
    pointers(&whole, "", &mut all);
    let values = [json!(null), json!(0), json!(1e300), json!(u64::MAX), json!("x"), json!([])];
    for pointer in all {
        for value in &values {
            let mut changed = whole.clone();
            *changed.pointer_mut(&pointer).unwrap() = value.clone();
            with(changed.to_string().into_bytes());
        }
    }
}

/// What came of many attempts: none may end in a panic, and none may be anybody's fault but the files'.
#[derive(Default)]
struct Tally {
    made: u32,
    refused: u32,
}

impl Tally {
    /// Nothing is written: what is planned is held to its form before the first byte.
    fn attempt(&mut self, store: &Store, mut request: CreateRequest) {
        match convert(store, &mut request, |_| false) {
            Err(CreateError::GivenUp) => self.made += 1,
            Err(error) => {
                assert_eq!(error.kind(), CreateErrorKind::BadRequest, "{error}");
                self.refused += 1;
            }
            Ok(()) => panic!("it was given up"),
        }
    }
}

#[test]
fn no_value_in_a_model_s_files_makes_it_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut bert = with_bert();
    bert.insert("modules.json".into(), br#"[{"type":"a.Transformer"},{"type":"a.Pooling","path":"1_P"}]"#.to_vec());
    bert.insert("1_P/config.json".into(), br#"{"pooling_mode_cls_token":true}"#.to_vec());
    let yarn = json!({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128});
    let llama = with_bytes("LlamaForCausalLM", json!({"rope_scaling": yarn}));
    let mut tally = Tally::default();
    let mut all = |files: &Files, name: &str| {
        changed(&files[name], |text| {
            let mut files = files.clone();
            files.insert(name.to_owned(), text);
            tally.attempt(&store, request(&store, &files, "f32"));
        });
    };
    ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "1_P/config.json"]
        .iter()
        .for_each(|name| all(&bert, name));
    all(&llama, "config.json");
    assert!(tally.made > 100 && tally.refused > 300, "{} made, {} refused", tally.made, tally.refused);
}

#[test]
fn no_value_in_an_adapter_s_files_makes_it_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let llama = with_bytes("LlamaForCausalLM", json!({}));
    let mut base = request(&store, &llama, "f32");
    convert(&store, &mut base, |_| true).unwrap();
    base.quantize = None;
    let adapter = lora(&llama, false).adapter;
    let mut tally = Tally::default();
    let mut attempt = |name: &str, content: Vec<u8>| {
        let mut adapter = adapter.clone();
        adapter.insert(name.to_owned(), content);
        tally.attempt(&store, CreateRequest { adapters: upload(&store, &adapter), ..base.clone() });
    };
    changed(&adapter["adapter_config.json"], |text| attempt("adapter_config.json", text));
    let file = &adapter["adapter_model.safetensors"];
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    changed(&file[8..8 + length], |header| {
        let file = [&(header.len() as u64).to_le_bytes()[..], &header, &file[8 + length..]].concat();
        attempt("adapter_model.safetensors", file);
    });
    assert!(tally.made > 30 && tally.refused > 300, "{} made, {} refused", tally.made, tally.refused);
}
