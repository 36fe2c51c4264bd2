//! Folders of safetensors made into GGUF: the tiny model's against the file that llama.cpp's own writer made of it,
//! others against numbers worked out by hand.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::create::tests::{Place, request, tiny};
use crate::create::{CreateErrorKind, Quantized, quantizations};
use crate::gguf::Value as Field;
use crate::store::Capability;

const TINY: [&str; 5] =
    ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

/// A folder's files by their names.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn tiny_files() -> Files {
    TINY.into_iter().map(|name| (name, tiny(&format!("tiny-safetensors/{name}")))).collect()
}

impl Place {
    fn files(&self, files: &Files) -> Vec<CreateFile> {
        files.iter().map(|(name, content)| self.file(name, content)).collect()
    }

    fn quantize(&self, files: &Files, to: &str) -> CreateRequest {
        CreateRequest { files: self.files(files), quantize: Some(to.to_owned()), ..request("made") }
    }

    /// Converts and makes, without an engine.
    fn convert(&self, mut request: CreateRequest) -> Result<(Gguf, Vec<String>), CreateError> {
        let mut said = Vec::new();
        convert(&self.store, &mut request, |done| {
            said.push(done.to_string());
            true
        })?;
        said.dedup();
        said.extend(self.create(request)?);
        let path = self.model("made").weights().unwrap().remove(0);
        Ok((Gguf::open(&path).unwrap(), said))
    }

    fn refused(&self, files: &Files) -> String {
        let error = self.convert(self.quantize(files, "f16")).unwrap_err();
        assert_eq!(error.kind(), CreateErrorKind::BadRequest, "{error}");
        error.to_string()
    }
}

fn bytes(gguf: &Gguf, name: &str) -> Vec<u8> {
    let tensor = gguf.tensors().iter().find(|tensor| tensor.name() == name).unwrap();
    let at = (gguf.data_offset() + tensor.offset()) as usize;
    std::fs::read(gguf.path()).unwrap()[at..at + tensor.size() as usize].to_vec()
}

/// A value as it can be compared: an array by its elements.
fn shown(gguf: &Gguf, value: &Field) -> String {
    match value.as_array() {
        Some(array) => format!("{:?}", gguf.elements(array).unwrap()),
        None => format!("{value:?}"),
    }
}

#[test]
fn the_tiny_model_comes_out_as_llama_cpp_s_own_writer_wrote_it() {
    let place = Place::new();
    let (made, said) = place.convert(place.quantize(&tiny_files(), "F16")).unwrap();
    let layer = place.model("made").manifest.layers[0].digest;
    assert_eq!(said, ["converting model", &format!("creating new layer {layer}"), "writing manifest", "success"]);

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny");
    let wanted = Gguf::open(&folder.join("tiny-f16.gguf")).unwrap();
    assert_eq!(made.tensors().len(), wanted.tensors().len());
    for tensor in wanted.tensors() {
        let ours = made.tensors().iter().find(|ours| ours.name() == tensor.name()).unwrap();
        assert_eq!((ours.shape(), ours.kind()), (tensor.shape(), tensor.kind()), "{}", tensor.name());
        assert_eq!(bytes(&made, tensor.name()), bytes(&wanted, tensor.name()), "{}", tensor.name());
    }
    let mut missing = Vec::new();
    for (key, value) in wanted.metadata().iter() {
        match made.get(key) {
            Some(ours) => assert_eq!(shown(&made, ours), shown(&wanted, value), "{key}"),
            None => missing.push(key),
        }
    }
    assert_eq!(missing, ["general.name", "general.size_label", "general.license"], "the maker's own words");
    let more: Vec<_> = made.metadata().iter().map(|(key, _)| key).filter(|key| wanted.get(key).is_none()).collect();
    assert_eq!(more, ["general.type", "qwen3.rope.dimension_count", "tokenizer.ggml.add_eos_token"]);
    let model = place.model("made");
    assert_eq!((model.details().format.as_str(), model.details().quantization_level.as_str()), ("gguf", "F16"));
    assert_eq!(model.base_capabilities(), [Capability::Completion]);
}

#[test]
fn what_comes_between_goes() {
    let place = Place::new();
    let request = place.quantize(&tiny_files(), "q8_0");
    let before = place.blobs();
    let mut converted = request.clone();
    convert(&place.store, &mut converted, |_| true).unwrap();
    assert_eq!(place.blobs(), before + 1, "a file in full precision");
    let steps = quantizations(&place.store, &converted, |_| {}).unwrap();
    assert_eq!(steps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["quantizing F16 model to Q8_0"]);
    let done = steps.into_iter().map(|step| {
        let output = place.store.blobs().ingest_file().unwrap();
        std::fs::write(output.path(), tiny("tiny-q8_0.gguf")).unwrap();
        step.commit(&place.store, output).unwrap()
    });
    converted.quantized = done.collect::<Vec<Quantized>>();
    let said = place.create(converted).unwrap();
    let digest = Digest::of(&tiny("tiny-q8_0.gguf"));
    assert_eq!(said, [&format!("creating new layer {digest}"), "writing manifest", "success"]);
    assert_eq!(place.blobs(), before + 2, "the quantised model and its config");

    let mut told = 0;
    let error = convert(&place.store, &mut request.clone(), |_| {
        told += 1;
        told < 5
    });
    assert_eq!((error.unwrap_err().to_string().as_str(), told), ("the client has gone", 5));
    assert_eq!(place.blobs(), before + 2);
    drop(request);
}

#[test]
fn a_safetensors_model_of_the_store_is_converted_too() {
    let place = Place::new();
    let system = "Be brief.".to_owned();
    place.create(CreateRequest { files: place.files(&tiny_files()), system, ..request("st") }).unwrap();
    let from = Some(ModelName::parse("st").unwrap());
    let (made, said) = place.convert(CreateRequest { from, quantize: Some("bf16".into()), ..request("made") }).unwrap();
    assert_eq!((made.file_type(), said[0].as_str()), ("BF16", "converting model"));
    let model = place.model("made");
    let kinds: Vec<_> = model.manifest.layers.iter().map(|layer| layer.media_type.clone()).collect();
    assert_eq!(kinds, [MediaType::System, MediaType::Model], "no file of the folder is left");
    assert_eq!((model.details().format.as_str(), model.details().quantization_level.as_str()), ("gguf", "BF16"));
    assert!(model.config.capabilities.is_empty());
}

#[test]
fn what_cannot_be_converted_is_named() {
    let place = Place::new();
    let changed = |name: &'static str, change: &dyn Fn(&mut Value)| {
        let mut files = tiny_files();
        let mut value: Value = serde_json::from_slice(&files[name]).unwrap();
        change(&mut value);
        files.insert(name, value.to_string().into_bytes());
        place.refused(&files)
    };
    let set = |name: &'static str, pointer: &'static str, to: Value| {
        changed(name, &|value| *value.pointer_mut(pointer).unwrap() = to.clone())
    };
    let class = json!("OwlForCausalLM");
    assert_eq!(
        set("config.json", "/architectures/0", class),
        "the architecture \"OwlForCausalLM\" cannot be converted to GGUF"
    );
    assert_eq!(
        set("config.json", "/architectures/0", json!("LlamaForCausalLM")),
        "tensor `model.layers.0.self_attn.k_norm.weight` has no place in a model of the kind llama"
    );
    assert_eq!(
        set("config.json", "/num_hidden_layers", json!(5)),
        "the model has 5 layers, but there are tensors for 4"
    );
    assert_eq!(
        set("config.json", "/head_dim", json!(1_000_000)),
        "the heads in `config.json` have 1000000 numbers each, not from 1 to 65536"
    );
    assert_eq!(
        set("config.json", "/hidden_size", json!("x")),
        "`hidden_size` in `config.json` is not a positive integer"
    );
    let quantized = changed("config.json", &|value| value["quantization_config"] = json!({"quant_method": "fp8"}));
    assert_eq!(quantized, "the weights are quantized already (fp8), which cannot be converted");
    assert_eq!(
        set("tokenizer.json", "/model/type", json!("Unigram")),
        "the tokenizer model \"Unigram\" cannot be converted to GGUF"
    );
    assert_eq!(
        set("tokenizer.json", "/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("owl+")),
        "the tokenizer cuts text in a way that llama.cpp does not know: owl+"
    );
    let wide = changed("tokenizer.json", &|value| value["model"]["vocab"]["owl"] = json!(1_000_000));
    assert_eq!(wide, "the tokenizer's ids have gaps too wide: there is a token 1000000");
    let many = changed("tokenizer.json", &|value| value["model"]["vocab"]["owl"] = json!(1536));
    assert_eq!(many, "the tokenizer has 1537 tokens, but the weights are for 1536");

    let before = place.blobs();
    for (to, error) in [("Q9_9", "unsupported quantization type Q9_9"), ("iq1_s", "quantization to IQ1_S needs")] {
        let told = place.convert(place.quantize(&tiny_files(), to)).unwrap_err().to_string();
        assert!(told.starts_with(error), "{told}");
    }
    assert_eq!(place.blobs(), before, "nothing was made");
}

#[test]
fn sentencepiece_s_own_file_goes_before_the_merges() {
    let mut files = tiny_files();
    let bytes: Vec<String> = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut pieces = vec![("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)];
    pieces.extend(bytes.iter().map(|byte| (byte.as_str(), 0.0, 6)));
    pieces.extend([("<start_of_turn>", 0.0, 4), ("▁▁", 0.0, 4), ("ab", -7.5, 1)]);
    files.insert("tokenizer.model", vocab::pieces(&pieces));
    // a file beside it that says the same, but for the scores
    let vocab: Value = pieces.iter().zip(0..).map(|((piece, ..), id)| ((*piece).to_owned(), json!(id))).collect();
    let model = json!({"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": []});
    files.insert("tokenizer.json", json!({"model": model}).to_string().into_bytes());
    let settings = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "added_tokens_decoder": {
        "259": {"content": "<start_of_turn>", "special": true}, "300": {"content": "<end_of_turn>", "special": true}}});
    files.insert("tokenizer_config.json", settings.to_string().into_bytes());
    for without in ["", "tokenizer.json"] {
        files.remove(without);
        let place = Place::new();
        let (made, _) = place.convert(place.quantize(&files, "f16")).unwrap();
        let at = |key: &str, id: usize| {
            let elements = made.elements(made.get(key).unwrap().as_array().unwrap()).unwrap();
            serde_json::to_value(&elements).unwrap()[id].clone()
        };
        let token = |id| {
            let key = |name: &str| format!("tokenizer.ggml.{name}");
            (at(&key("tokens"), id), at(&key("token_type"), id), at(&key("scores"), id))
        };
        assert_eq!(token(0), (json!("<unk>"), json!(2), json!(0.0)));
        assert_eq!(token(13), (json!("<0x0A>"), json!(6), json!(0.0)));
        assert_eq!(token(259), (json!("<start_of_turn>"), json!(3), json!(0.0)));
        assert_eq!(token(260), (json!("  "), json!(4), json!(0.0)));
        assert_eq!(token(261), (json!("ab"), json!(1), json!(-7.5)));
        assert_eq!(token(300).0, json!("<end_of_turn>"));
        let id = |key: &str| made.metadata().u64(&format!("tokenizer.ggml.{key}_token_id"));
        assert_eq!((id("bos"), id("eos"), id("eot")), (Some(1), Some(2), Some(300)));
    }
}
