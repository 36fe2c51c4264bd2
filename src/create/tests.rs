//! Models made in a store of their own, of the tiny model's files.

use serde_json::{Value, json};

use super::*;
use crate::store::Capability;
use crate::types::{Message, ModelName};

pub(super) const TEMPLATE: &str = "{{ .System }}|{{ .Prompt }}|{{ .Response }}";

pub(super) struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

pub(super) fn tiny(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/compat-tests/models/tiny/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub(super) fn request(name: &str) -> CreateRequest {
    CreateRequest::new(ModelName::parse(name).unwrap())
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { _folder: folder, store }
    }

    /// A place with `tiny:latest`.
    fn with_tiny(weights: &str) -> Self {
        let place = Self::new();
        let file = place.file("tiny.gguf", &tiny(weights));
        let parameters = object(json!({"temperature": 0, "stop": ["<|im_end|>", "<|im_start|>", "<|endoftext|>"]}));
        let template = "{{ .Prompt }}".to_owned();
        place.create(CreateRequest { files: vec![file], template, parameters, ..request("tiny") }).unwrap();
        place
    }

    pub(super) fn file(&self, path: &str, content: &[u8]) -> CreateFile {
        let digest = self.store.blobs().put(content).unwrap();
        CreateFile::new(path, &digest.to_string()).unwrap()
    }

    pub(super) fn create(&self, request: CreateRequest) -> Result<Vec<String>, CreateError> {
        let mut said = Vec::new();
        create(&self.store, request, |event| said.push(event.to_string())).map(|()| said)
    }

    pub(super) fn model(&self, name: &str) -> Model {
        self.store.model(&ModelName::parse(name).unwrap()).unwrap()
    }

    fn blobs(&self) -> usize {
        self.store.blobs().list().len()
    }
}

#[test]
fn from_a_gguf_file() {
    let place = Place::with_tiny("tiny-f16.gguf");
    let model = place.model("tiny");
    let digest = Digest::of(&tiny("tiny-f16.gguf"));
    assert_eq!(model.manifest.layers[0].digest, digest, "the upload is kept as it is");
    // the bytes of the config that Ollama made of this file
    let config = "{\"model_format\":\"gguf\",\"model_family\":\"qwen3\",\"model_families\":[\"qwen3\"],\
                  \"model_type\":\"3.54M\",\"file_type\":\"F16\",\"architecture\":\"amd64\",\"os\":\"linux\"}\n";
    assert_eq!(model.manifest.config.digest, Digest::of(config.as_bytes()));
    let again = CreateRequest { from: Some(model.name.clone()), ..request("tiny") };
    let said = place.create(again).unwrap();
    assert_eq!(said[0], format!("using existing layer {digest}"));
    assert_eq!(said[said.len() - 2..], ["writing manifest", "success"]);
}

/// Layers, their order, their digests and the statuses are those that Ollama was recorded to give for these requests.
#[test]
fn from_a_model() {
    let place = Place::with_tiny("tiny-q4_k_m.gguf");
    let tiny = place.model("tiny").name;
    let said = place.create(CreateRequest {
        from: Some(tiny.clone()),
        system: "You are Mario from Super Mario Bros.".to_owned(),
        parameters: object(json!({"temperature": 0, "stop": ["<|im_end|>", "!!"]})),
        licenses: vec!["A".to_owned(), "B".to_owned()],
        messages: vec![Message::text("user", "hi"), Message::text("assistant", "It's-a me, Mario!")],
        ..request("mario")
    });
    let new = [
        "941b69ca7dc2a85c053c38d9e8029c9df6224e545060954fa97587f87c044a64",
        "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd",
        "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c",
        "d193666197d67443654b09743e8858fb29f9f1e4f4912a5c244b9a00fe9c1873",
        "e6dbb357b008db1f712be6154b1ed90f09a6e164c1644c7703dd7a711588b136",
    ];
    let new: Vec<_> = new.iter().map(|hex| format!("creating new layer sha256:{hex}")).collect();
    let said = said.unwrap();
    assert_eq!(said[2..7], new);
    assert!(said[..2].iter().all(|line| line.starts_with("using existing layer sha256:")));
    let mario = place.model("mario");
    let from: Vec<_> = mario.manifest.layers.iter().map(|layer| layer.from.as_deref()).collect();
    assert_eq!(from, [Some("tiny:latest"), Some("tiny:latest"), None, None, None, None, None]);
    assert_eq!((mario.details().parent_model.as_str(), mario.licenses.len()), ("tiny:latest", 2));

    let said = place.create(CreateRequest { from: Some(tiny), template: TEMPLATE.to_owned(), ..request("plain") });
    let said = said.unwrap();
    assert_eq!(
        said[1..],
        [
            "creating new layer sha256:702e47c24f7a5646260af89689936ebdad0daca96e827682fde36c0e877b8e63",
            "using existing layer sha256:9b206f39187c5eaaf089a501e6e45ef1bcc2e22a706e83de3383d95a66a4a5dd",
            "writing manifest",
            "success",
        ]
    );
    let plain = place.model("plain").manifest;
    assert_eq!(
        (plain.layers.len(), plain.layers[2].from.as_deref()),
        (3, None),
        "parameters are merged and written anew"
    );
}

#[test]
fn a_replaced_model_s_blobs_go() {
    let place = Place::with_tiny("tiny-q4_k_m.gguf");
    let before = place.blobs();
    let made = |system: &str| CreateRequest {
        from: Some(ModelName::parse("tiny").unwrap()),
        system: system.to_owned(),
        ..request("bird")
    };
    place.create(made("one")).unwrap();
    place.create(made("two")).unwrap();
    assert_eq!(place.blobs(), before + 1);
    assert_eq!(place.model("bird").system.as_deref(), Some("two"));
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let place = Place::with_tiny("tiny-f16.gguf");
    let weights = tiny("tiny-q4_k_m.gguf");
    let mut unknown = weights.clone();
    let name = b"output_norm.weight";
    let at = unknown.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    unknown[at + 12] = 99;
    let files = |path: &str, content: &[u8]| CreateRequest { files: vec![place.file(path, content)], ..request("x") };
    let from = || CreateRequest { from: Some(ModelName::parse("tiny").unwrap()), ..request("x") };
    let lost = CreateFile::new("x.gguf", &Digest::of(b"lost").to_string()).unwrap();
    let cases = [
        (request("x"), "neither 'from' or 'files' was specified", CreateErrorKind::BadRequest),
        (files("x.gguf", b"hello"), "supplied file was not in GGUF format", CreateErrorKind::BadRequest),
        (files("x.gguf", b""), "supplied file was not in GGUF format", CreateErrorKind::BadRequest),
        (files("x.txt", b"hello"), "unknown type", CreateErrorKind::BadRequest),
        (files("x.gguf", &weights[..99_999]), "`x.gguf`: tensor", CreateErrorKind::BadRequest),
        (files("x.gguf", &weights[..40]), "`x.gguf`: GGUF file", CreateErrorKind::BadRequest),
        (
            files("x.gguf", &unknown),
            "`x.gguf`: tensor `output_norm.weight` has the unknown type 99",
            CreateErrorKind::BadRequest,
        ),
        (CreateRequest { files: vec![lost], ..request("x") }, "blob sha256:", CreateErrorKind::Internal),
        (
            CreateRequest { from: Some(ModelName::parse("owl").unwrap()), ..request("x") },
            "model 'owl:latest' not found",
            CreateErrorKind::NotFound,
        ),
        (
            CreateRequest { quantize: Some("Q9_9".to_owned()), ..from() },
            "unsupported quantization type Q9_9 - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
            CreateErrorKind::Internal,
        ),
        (
            CreateRequest { quantize: Some("q4_K_M".to_owned()), ..from() },
            "the weights are F16 and were not quantized to Q4_K_M",
            CreateErrorKind::Internal,
        ),
        (
            CreateRequest { draft_quantize: Some("Q8_0".to_owned()), ..from() },
            "--draft-quantize requires a DRAFT model",
            CreateErrorKind::BadRequest,
        ),
        (
            CreateRequest { parameters: object(json!({"stop": "one"})), ..from() },
            "option \"stop\" must be of type array",
            CreateErrorKind::BadRequest,
        ),
        (
            CreateRequest { adapters: vec![place.file("lora.gguf", &weights)], ..from() },
            "`lora.gguf` is not an adapter",
            CreateErrorKind::BadRequest,
        ),
        (
            CreateRequest {
                files: vec![place.file("a.gguf", &weights), place.file("b.gguf", &weights)],
                ..request("x")
            },
            "only one model can be created from, but `a.gguf`, `b.gguf` were given",
            CreateErrorKind::BadRequest,
        ),
    ];
    let before = place.blobs();
    for (request, text, kind) in cases {
        let mut events = 0;
        let error = create(&place.store, request, |_| events += 1).unwrap_err();
        assert!(error.to_string().starts_with(text), "{error} for {text}");
        assert_eq!((error.kind(), events), (kind, 0), "{text}");
    }
    assert_eq!((place.blobs(), place.store.tags().list().len()), (before, 1));
    let same = CreateRequest { quantize: Some("f16".to_owned()), ..from() };
    assert!(place.create(same).is_ok(), "what the weights are already may be asked for");
}

impl Place {
    /// What `create` would be given if a quantisation had made `file`.
    fn quantized(&self, request: &CreateRequest, file: &str) -> (Vec<String>, Vec<Quantized>) {
        let mut said = Vec::new();
        let todo = quantizations(&self.store, request, |event| said.push(event.to_string())).unwrap();
        let done = todo.into_iter().map(|quantization| {
            said.push(quantization.to_string());
            assert!(quantization.input().iter().all(|path| path.exists()));
            let output = self.store.blobs().ingest_file().unwrap();
            std::fs::write(output.path(), tiny(file)).unwrap();
            quantization.commit(&self.store, output).unwrap()
        });
        let done = done.collect();
        (said, done)
    }
}

#[test]
fn quantized_weights_take_the_place_of_those_given() {
    let place = Place::with_tiny("tiny-f16.gguf");
    let digest = Digest::of(&tiny("tiny-q8_0.gguf"));
    let file = place.file("tiny.gguf", &tiny("tiny-f16.gguf"));
    let of_file = CreateRequest { files: vec![file], quantize: Some("q8_0".to_owned()), ..request("small") };
    let (said, quantized) = place.quantized(&of_file, "tiny-q8_0.gguf");
    assert_eq!(said, ["parsing GGUF", "quantizing F16 model to Q8_0"]);
    let said = place.create(CreateRequest { quantized, ..of_file }).unwrap();
    assert_eq!(said, [&format!("creating new layer {digest}"), "writing manifest", "success"]);

    let from = Some(ModelName::parse("tiny").unwrap());
    let of_model = CreateRequest { from, quantize: Some("Q8_0".to_owned()), ..request("smaller") };
    let (said, quantized) = place.quantized(&of_model, "tiny-q8_0.gguf");
    assert_eq!(said, ["quantizing F16 model to Q8_0"]);
    let said = place.create(CreateRequest { quantized, ..of_model }).unwrap();
    assert_eq!(said[0], format!("creating new layer {digest}"), "the weights keep their place");
    assert!(said[1].starts_with("using existing layer "));

    for name in ["small", "smaller"] {
        let model = place.model(name);
        assert_eq!(model.details().quantization_level, "Q8_0");
        assert_eq!((model.manifest.layers[0].digest, model.manifest.layers[0].from.as_deref()), (digest, None));
        let weights = model.manifest.layers.iter().filter(|layer| layer.media_type == MediaType::Model);
        assert_eq!(weights.count(), 1);
    }
    assert_eq!(place.model("smaller").template, place.model("tiny").template);
}

#[test]
fn what_was_not_quantized_as_asked_is_not_taken() {
    let place = Place::with_tiny("tiny-f16.gguf");
    let from = Some(ModelName::parse("tiny").unwrap());
    let wanted = |kind: &str| CreateRequest { from: from.clone(), quantize: Some(kind.to_owned()), ..request("x") };
    let (_, quantized) = place.quantized(&wanted("Q8_0"), "tiny-q4_k_m.gguf");
    let error = place.create(CreateRequest { quantized, ..wanted("Q8_0") }).unwrap_err();
    assert_eq!(error.to_string(), "the weights are Q4_K_M and were not quantized to Q8_0");
    for (kind, count) in [("F16", 0), ("", 0), ("Q8_0", 1)] {
        assert_eq!(quantizations(&place.store, &wanted(kind), |_| {}).unwrap().len(), count, "{kind}");
    }

    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let files = names.map(|name| place.file(name, &tiny(&format!("tiny-safetensors/{name}")))).to_vec();
    let other = CreateRequest { files, quantize: Some("Q8_0".to_owned()), ..request("st") };
    let error = quantizations(&place.store, &other, |_| {}).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("only GGUF weights can be quantized", CreateErrorKind::BadRequest)
    );
}

#[test]
fn projectors_adapters_and_parts() {
    let place = Place::with_tiny("tiny-q4_k_m.gguf");
    let projector = place.file("mmproj.gguf", &head(&[("general.architecture", "clip")], &[]));
    let adapter = head(&[("general.architecture", "qwen3"), ("general.type", "adapter")], &[]);
    let made = CreateRequest {
        files: vec![place.file("lora.gguf", &adapter), projector, place.file("a.gguf", &tiny("tiny-q8_0.gguf"))],
        ..request("seeing")
    };
    assert_eq!(place.create(made).unwrap()[..3], ["parsing GGUF"; 3]);
    let model = place.model("seeing");
    let kinds: Vec<_> = model.manifest.layers.iter().map(|layer| layer.media_type.clone()).collect();
    assert_eq!(kinds, [MediaType::Model, MediaType::Projector, MediaType::Adapter]);
    assert_eq!(model.base_capabilities(), [Capability::Completion, Capability::Vision]);
    assert_eq!(model.config.model_families.as_deref(), Some(&["qwen3".to_owned(), "clip".to_owned()][..]));

    let part = |number, first: &[(&str, &str)]| head(first, &[("split.no", number), ("split.count", 2)]);
    let (one, two) = (part(0, &[("general.architecture", "qwen3")]), part(1, &[]));
    let two =
        CreateRequest { files: vec![place.file("m-2.gguf", &two), place.file("m-1.gguf", &one)], ..request("split") };
    place.create(two).unwrap();
    assert_eq!(place.model("split").weights().unwrap()[0], place.store.blobs().path(&Digest::of(&one)));
    let half = CreateRequest { files: vec![place.file("m-1.gguf", &one)], ..request("half") };
    assert_eq!(place.create(half).unwrap_err().to_string(), "of the 2 parts of a split model 1 were given");
}

#[test]
fn from_a_safetensors_folder() {
    let place = Place::new();
    let names =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let files = names.map(|name| place.file(name, &tiny(&format!("tiny-safetensors/{name}")))).to_vec();
    let files = || files.clone();
    assert_eq!(place.create(CreateRequest { files: files(), ..request("st") }).unwrap()[0], "parsing safetensors");
    let model = place.model("st");
    let details = model.details();
    assert_eq!((details.format.as_str(), details.family.as_str()), ("safetensors", "qwen3"));
    assert_eq!((details.parameter_size.as_str(), details.quantization_level.as_str()), ("3.54M", "F16"));
    assert_eq!((details.context_length, details.embedding_length), (Some(4096), Some(256)));
    assert_eq!(model.base_capabilities(), [Capability::Completion]);
    let view = model.weights().unwrap().remove(0);
    assert_eq!(std::fs::read(view.join("model.safetensors")).unwrap(), tiny("tiny-safetensors/model.safetensors"));

    let mut short = files();
    short[2] = place.file("model.safetensors", &tiny("tiny-safetensors/model.safetensors")[..500_000]);
    let mut pickled = files();
    pickled.push(place.file("pytorch_model.bin", b"PK"));
    let mut index = files();
    index.push(place.file("model.safetensors.index.json", b"{\"weight_map\":{\"a\":\"model-2.safetensors\"}}"));
    for (files, why) in [
        (files()[1..].to_vec(), "`config.json` is missing"),
        (files()[..3].to_vec(), "there is no tokenizer among the files"),
        (short, "does not fit its place in the file"),
        (pickled, "files that hold Python objects are not accepted"),
        (index, "`model-2.safetensors` is in the index, but was not given"),
    ] {
        let error = place.create(CreateRequest { files, ..request("bad") }).unwrap_err();
        assert!(error.to_string().ends_with(why), "{error}");
        assert_eq!(error.kind(), CreateErrorKind::BadRequest);
    }
}

/// A GGUF file of these metadata and one small tensor.
pub(super) fn head(texts: &[(&str, &str)], numbers: &[(&str, u16)]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let text = |file: &mut Vec<u8>, text: &str| {
        file.extend_from_slice(&(text.len() as u64).to_le_bytes());
        file.extend_from_slice(text.as_bytes());
    };
    file.extend_from_slice(&1_u64.to_le_bytes());
    file.extend_from_slice(&((texts.len() + numbers.len()) as u64).to_le_bytes());
    for (key, value) in texts {
        text(&mut file, key);
        file.extend_from_slice(&8_u32.to_le_bytes());
        text(&mut file, value);
    }
    for (key, value) in numbers {
        text(&mut file, key);
        file.extend_from_slice(&2_u32.to_le_bytes());
        file.extend_from_slice(&value.to_le_bytes());
    }
    text(&mut file, "t");
    for word in [1, 8, 0, 0, 0, 0_u32] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32) + 32, 0);
    file
}
