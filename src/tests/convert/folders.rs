//! Small models as their makers give them: a `config.json` of their class, random weights, a tokenizer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hanzod::create::{CreateFile, CreateRequest};
use hanzod::store::Store;
use hanzod::types::ModelName;
use serde_json::{Map, Value, json};

/// A folder's files by their names.
pub type Files = BTreeMap<String, Vec<u8>>;
type Tensors = Vec<(String, Vec<u64>)>;

const HIDDEN: u64 = 64;
const HEADS: u64 = 4;
const KV_HEADS: u64 = 2;
const HEAD: u64 = 16;
const FEED: u64 = 96;
const EXPERTS: u64 = 4;
const LAYERS: u64 = 2;
/// Tokens of the tiny model's tokenizer.
const BYTE_TOKENS: u64 = 1318;

/// What the classes share, and what each has over it.
pub fn config(class: &str, more: Value) -> Value {
    let mut config = json!({
        "architectures": [class], "hidden_size": HIDDEN, "intermediate_size": FEED, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "vocab_size": BYTE_TOKENS,
        "tie_word_embeddings": false, "torch_dtype": "float32",
    });
    let (into, more) = (config.as_object_mut().unwrap(), more.as_object().unwrap().clone());
    into.extend(more);
    config
}

/// The tensors of a class, in random numbers.
pub fn weights(config: &Value) -> Vec<u8> {
    let number = |key: &str| config[key].as_u64();
    let class = config["architectures"][0].as_str().unwrap();
    let (rows, head) = (number("vocab_size").unwrap(), number("head_dim").unwrap_or(HEAD));
    let mut tensors: Tensors = vec![("model.embed_tokens.weight".into(), vec![rows, HIDDEN])];
    let mut add = |name: String, shape: &[u64]| tensors.push((name, shape.to_vec()));
    add("model.norm.weight".into(), &[HIDDEN]);
    if config["tie_word_embeddings"] == false {
        add("lm_head.weight".into(), &[rows, HIDDEN]);
    }
    for layer in 0..LAYERS {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        add(at("input_layernorm"), &[HIDDEN]);
        add(at("post_attention_layernorm"), &[HIDDEN]);
        add(at("self_attn.o_proj"), &[HIDDEN, HEADS * head]);
        if class.starts_with("Phi3") {
            add(at("self_attn.qkv_proj"), &[(HEADS + 2 * KV_HEADS) * head, HIDDEN]);
            add(at("mlp.gate_up_proj"), &[2 * FEED, HIDDEN]);
            add(at("mlp.down_proj"), &[HIDDEN, FEED]);
            continue;
        }
        for (name, heads) in [("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)] {
            add(at(&format!("self_attn.{name}_proj")), &[heads * head, HIDDEN]);
            if class.starts_with("Qwen2") || config["attention_bias"] == true {
                add(at(&format!("self_attn.{name}_proj")).replace(".weight", ".bias"), &[heads * head]);
            }
            if (class.starts_with("Qwen3") || class.starts_with("Gemma3")) && name != "v" {
                add(at(&format!("self_attn.{name}_norm")), &[head]);
            }
        }
        if class.starts_with("Gemma2") || class.starts_with("Gemma3") {
            add(at("pre_feedforward_layernorm"), &[HIDDEN]);
            add(at("post_feedforward_layernorm"), &[HIDDEN]);
        }
        let (experts, names) = match class {
            "MixtralForCausalLM" => (Some("block_sparse_moe"), ["w1", "w2", "w3"]),
            "Qwen3MoeForCausalLM" => (Some("mlp"), ["gate_proj", "down_proj", "up_proj"]),
            _ => (None, ["gate_proj", "down_proj", "up_proj"]),
        };
        if let Some(inside) = experts {
            add(at(&format!("{inside}.gate")), &[EXPERTS, HIDDEN]);
        }
        for expert in 0..experts.map_or(1, |_| EXPERTS) {
            let inside = experts.map_or("mlp".to_owned(), |inside| format!("{inside}.experts.{expert}"));
            for (name, shape) in names.into_iter().zip([[FEED, HIDDEN], [HIDDEN, FEED], [FEED, HIDDEN]]) {
                add(at(&format!("{inside}.{name}")), &shape);
            }
        }
    }
    safetensors(&tensors, random(class.starts_with("Gemma")))
}

/// Numbers that look trained: norms near one (Gemma keeps what is over it), matrices that keep lengths as they are.
pub fn random(norms_from_zero: bool) -> impl FnMut(&str, &[u64]) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move |name, shape| {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let norm = name.contains("norm") || name.contains("LayerNorm.weight");
        let (middle, width) = match shape {
            _ if norm => (if norms_from_zero { 0.0 } else { 1.0 }, 0.3),
            // Gemma's are scaled up, and would drown what the layers say
            _ if name.contains("embed") => (0.0, if norms_from_zero { 0.1 } else { 1.0 }),
            [_, row] => (0.0, 2.5 / (*row as f32).sqrt()),
            _ => (0.0, 0.5),
        };
        (0..shape.iter().product()).map(|_| middle + width * next()).collect()
    }
}

/// A safetensors file in F32.
pub fn safetensors(tensors: &Tensors, mut numbers: impl FnMut(&str, &[u64]) -> Vec<f32>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors {
        let begin = data.len();
        numbers(name, shape).iter().for_each(|number| data.extend(number.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn tiny(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny/tiny-safetensors");
    fs::read(folder.join(name)).unwrap()
}

/// A model of this class with the tiny model's tokenizer, of bytes.
pub fn with_bytes(class: &str, more: Value) -> Files {
    let config = config(class, more);
    let mut files = Files::from([
        ("config.json".to_owned(), config.to_string().into_bytes()),
        ("model.safetensors".to_owned(), weights(&config)),
    ]);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        files.insert(name.to_owned(), tiny(name));
    }
    files
}

/// A vocabulary as SentencePiece makes them: bytes, characters, and pairs merged in the order of their number.
pub struct Pieces {
    pub tokens: Vec<String>,
    pub merges: Vec<(String, String)>,
}

const WORDS: &str = "the owl sat on the old oak and the night was long and the moon was low on the lake there the other \
                     owls had all gone to the town to look at the lights and to listen to the tunes naïve café 12 123";

impl Pieces {
    pub fn new(merges: usize) -> Self {
        let mut words: Vec<Vec<String>> =
            WORDS.split(' ').map(|word| format!("▁{word}").chars().map(String::from).collect()).collect();
        let mut pieces = Self { tokens: ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec(), merges: Vec::new() };
        pieces.tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
        let characters: std::collections::BTreeSet<String> = words.iter().flatten().cloned().collect();
        for _ in 0..merges {
            let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
            for pair in words.iter().flat_map(|word| word.windows(2)) {
                *counts.entry((pair[0].clone(), pair[1].clone())).or_default() += 1;
            }
            counts.retain(|(one, other), _| !pieces.tokens.contains(&format!("{one}{other}")));
            let Some(((one, other), _)) = counts.into_iter().max_by_key(|(pair, count)| (*count, pair.clone())) else {
                break;
            };
            for word in &mut words {
                while let Some(at) = word.windows(2).position(|pair| pair[0] == one && pair[1] == other) {
                    word.splice(at..at + 2, [format!("{one}{other}")]);
                }
            }
            pieces.tokens.push(format!("{one}{other}"));
        }
        let merged: Vec<String> = pieces.tokens.iter().skip(259).cloned().collect();
        pieces.tokens.extend(characters);
        // a piece may be made of any two that it is the whole of, as SentencePiece does it
        for whole in &merged {
            let splits = whole.char_indices().skip(1).map(|(at, _)| whole.split_at(at));
            let both =
                splits.filter(|(one, other)| [one, other].iter().all(|it| pieces.tokens.iter().any(|t| t == *it)));
            pieces.merges.extend(both.map(|(one, other)| (one.to_owned(), other.to_owned())));
        }
        pieces
    }

    /// `tokenizer.json`, with a token that was added.
    pub fn file(&self) -> Value {
        let vocab: Map<String, Value> = self.tokens.iter().cloned().zip((0..).map(|id: u64| json!(id))).collect();
        let added = |id: usize, content: &str| {
            json!({"id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
        };
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(self.tokens.len(), "<|end|>")],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
            "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
                "vocab": vocab, "merges": self.merges},
        })
    }
}

/// A model of this class with a tokenizer of pieces, and a row in the weights for each of its tokens.
pub fn with_pieces(class: &str, more: Value) -> Files {
    with_more_rows(class, more, 0)
}

/// As [`with_pieces`], and with some more rows.
pub fn with_more_rows(class: &str, more: Value, rows: usize) -> Files {
    let pieces = Pieces::new(120);
    let mut config = config(class, more);
    config["vocab_size"] = json!(pieces.tokens.len() + 1 + rows);
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
    Files::from([
        ("config.json".to_owned(), config.to_string().into_bytes()),
        ("model.safetensors".to_owned(), weights(&config)),
        ("tokenizer.json".to_owned(), pieces.file().to_string().into_bytes()),
        ("tokenizer_config.json".to_owned(), settings.to_string().into_bytes()),
    ])
}

/// BERT with seven pieces, pooled by the mean.
pub fn with_bert() -> Files {
    let config = json!({"architectures": ["BertModel"], "hidden_size": HIDDEN, "intermediate_size": FEED,
        "num_hidden_layers": 1, "num_attention_heads": HEADS, "max_position_embeddings": 128, "layer_norm_eps": 1e-12,
        "type_vocab_size": 2, "vocab_size": 8});
    let mut tensors: Tensors = Vec::new();
    let mut add = |name: &str, shape: &[u64]| tensors.push((name.to_owned(), shape.to_vec()));
    add("embeddings.word_embeddings.weight", &[8, HIDDEN]);
    add("embeddings.position_embeddings.weight", &[128, HIDDEN]);
    add("embeddings.token_type_embeddings.weight", &[2, HIDDEN]);
    add("embeddings.position_ids", &[1, 128]);
    add("pooler.dense.weight", &[HIDDEN, HIDDEN]);
    for norm in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
        add(&format!("{norm}.LayerNorm.weight"), &[HIDDEN]);
        add(&format!("{norm}.LayerNorm.bias"), &[HIDDEN]);
    }
    for (name, rows, row) in [
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", FEED, HIDDEN),
        ("output.dense", HIDDEN, FEED),
    ] {
        add(&format!("encoder.layer.0.{name}.weight"), &[rows, row]);
        add(&format!("encoder.layer.0.{name}.bias"), &[rows]);
    }
    let pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "the", "owl", "##s"];
    let vocab: Map<String, Value> =
        pieces.iter().zip(0..).map(|(piece, id)| ((*piece).to_owned(), json!(id))).collect();
    let added: Vec<Value> =
        pieces[..5].iter().zip(0..).map(|(piece, id)| json!({"id": id, "content": piece, "special": true})).collect();
    let tokenizer = json!({"added_tokens": added, "normalizer": {"type": "BertNormalizer", "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocab}});
    let settings = json!({"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
        "mask_token": "[MASK]"});
    Files::from([
        ("config.json".to_owned(), config.to_string().into_bytes()),
        ("model.safetensors".to_owned(), safetensors(&tensors, random(false))),
        ("tokenizer.json".to_owned(), tokenizer.to_string().into_bytes()),
        ("tokenizer_config.json".to_owned(), settings.to_string().into_bytes()),
    ])
}

/// An adapter, and the model with what it changes put into its weights.
pub struct LoRa {
    pub adapter: Files,
    #[cfg_attr(not(all(feature = "llama", feature = "mistral")), expect(dead_code, reason = "for answers only"))]
    pub merged: Files,
}

/// Changes queries, keys, values and the way out of the feed-forward of both layers, at rank 2.
pub fn lora(plain: &Files, rank_stable: bool) -> LoRa {
    const RANK: u64 = 2;
    let alpha = 3.0_f32;
    let scale = if rank_stable { alpha / (RANK as f32).sqrt() } else { alpha / RANK as f32 };
    let mut merged = plain.clone();
    let weights = merged.get_mut("model.safetensors").unwrap();
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let mut number = random(false);
    let (mut tensors, mut all): (Tensors, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
    let modules = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"];
    for (layer, module) in (0..LAYERS).flat_map(|layer| modules.map(|module| (layer, module))) {
        let name = format!("model.layers.{layer}.{module}");
        let entry = &header[format!("{name}.weight")];
        let [rows, row] = [0, 1].map(|at| entry["shape"][at].as_u64().unwrap());
        let (a, b) = (number("a", &[RANK, row]), number("b", &[rows, RANK]));
        let begin = 8 + length + entry["data_offsets"][0].as_u64().unwrap() as usize;
        for (place, bytes) in weights[begin..begin + (rows * row * 4) as usize].chunks_exact_mut(4).enumerate() {
            let (out, into) = (place as u64 / row, place as u64 % row);
            let change: f32 =
                (0..RANK).map(|rank| b[(out * RANK + rank) as usize] * a[(rank * row + into) as usize]).sum();
            let whole = f32::from_le_bytes(bytes.try_into().unwrap()) + scale * change;
            bytes.copy_from_slice(&whole.to_le_bytes());
        }
        tensors.push((format!("base_model.model.{name}.lora_A.weight"), vec![RANK, row]));
        tensors.push((format!("base_model.model.{name}.lora_B.weight"), vec![rows, RANK]));
        all.extend([a, b]);
    }
    let mut all = all.into_iter();
    let config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": alpha, "use_rslora": rank_stable,
        "use_dora": false, "modules_to_save": null, "alpha_pattern": {}, "rank_pattern": {}, "bias": "none"});
    let adapter = Files::from([
        ("adapter_config.json".to_owned(), config.to_string().into_bytes()),
        ("adapter_model.safetensors".to_owned(), safetensors(&tensors, |_, _| all.next().unwrap())),
    ]);
    LoRa { adapter, merged }
}

/// Puts the files into the store, to be asked for as a model named `made`.
pub fn request(store: &Store, files: &Files, quantize: &str) -> CreateRequest {
    let mut request = CreateRequest::new(ModelName::parse("made").unwrap());
    request.files = upload(store, files);
    request.quantize = Some(quantize.to_owned());
    request
}

pub fn upload(store: &Store, files: &Files) -> Vec<CreateFile> {
    let upload = |(name, content): (&String, &Vec<u8>)| {
        CreateFile::new(name, &store.blobs().put(content).unwrap().to_string()).unwrap()
    };
    files.iter().map(upload).collect()
}

/// Writes the files into a folder.
pub fn lay_out(files: &Files, folder: &Path) {
    for (name, content) in files {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), content).unwrap();
    }
}
