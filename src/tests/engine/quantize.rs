//! Quantising with llama.cpp, through `hanzod runner`; what comes out must still know its answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use hanzod::create::{self, CreateFile, CreateRequest};
use hanzod::engine::process::ProcessEngine;
use hanzod::engine::quantize::Progress;
use hanzod::engine::{
    Engine, EngineError, EngineKind, GenerateRequest, LoadSpec, PromptPart, QuantizeSpec, Quantizer, StepEvent,
};
use hanzod::gguf::{FileType, Gguf, Making};
use hanzod::store::Store;
use hanzod::types::{Guessing, LoadOptions, ModelName, SamplingOptions};

const SKY: &str = "The sky is blue because air scatters short waves of sunlight more than long ones. \
                   Blue light is spread in every direction, so we see it wherever we look.";

fn tiny(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny").join(file)
}

fn quantizer() -> Quantizer {
    Quantizer::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()])
}

fn spec(input: &[PathBuf], output: &Path, to: &str) -> QuantizeSpec {
    QuantizeSpec { input: input.to_vec(), output: output.to_owned(), to: FileType::parse(to).unwrap() }
}

/// Runs to the end and gives what was told on the way.
async fn run(input: &[PathBuf], output: &Path, to: &str) -> Result<Vec<Progress>, EngineError> {
    quantizer().quantize(spec(input, output, to)).try_collect().await
}

/// Quantises the tiny model.
async fn quantize(output: &Path, to: &str) -> Result<Vec<Progress>, EngineError> {
    run(&[tiny("tiny-f16.gguf")], output, to).await
}

/// The model's answer to a question, in the form of its chat template, without thinking.
async fn ask(weights: &Path, question: &str) -> String {
    let spec = LoadSpec {
        engine: EngineKind::Llama,
        weights: vec![weights.to_owned()],
        adapters: Vec::new(),
        projectors: Vec::new(),
        drafts: Vec::new(),
        guessing: Guessing::default(),
        options: LoadOptions { num_ctx: 512, num_gpu: 0, ..LoadOptions::default() },
        parallel: 1,
        embedding: false,
        saving: None,
    };
    let engine = ProcessEngine::new(env!("CARGO_BIN_EXE_hanzod").into(), vec!["runner".into()]);
    let runner = engine.load(spec).await.unwrap();
    let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    let mut steps = runner.generate(GenerateRequest {
        prompt: vec![PromptPart::Text(prompt)],
        sampling: SamplingOptions { temperature: 0.0, num_predict: 100, ..SamplingOptions::default() },
        constraint: None,
        preserved: Vec::new(),
        logprobs: None,
        context: 0,
        truncate: true,
        shift: true,
    });
    let mut answer = String::new();
    while let Some(step) = steps.next().await {
        if let StepEvent::Text { text, .. } = step.unwrap() {
            answer += &text;
        }
    }
    answer
}

#[tokio::test]
async fn a_quantized_model_knows_its_answers() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: u64 = Gguf::open(&tiny("tiny-f16.gguf")).unwrap().tensors().iter().map(|tensor| tensor.size()).sum();
    for (to, smaller_than) in [("Q8_0", 4_000_000), ("Q4_K_M", 2_500_000)] {
        let output = folder.path().join(to);
        let told = quantize(&output, to).await.unwrap();
        let (first, last) = (told[0], told[told.len() - 1]);
        assert_eq!((first.completed, last.completed, last.total), (0, tensors, tensors), "{to}");
        assert!(told.len() > 10 && told.is_sorted_by_key(|progress| progress.completed), "{told:?}");
        assert_eq!(Gguf::open(&output).unwrap().file_type(), to);
        assert!(fs::metadata(&output).unwrap().len() < smaller_than);
        assert_eq!(ask(&output, "why is the sky blue?").await, SKY, "{to}");
    }
}

/// Not every type leaves the tiny model its wits, but every type must come out as a whole file of its name.
#[tokio::test]
async fn every_type_that_can_be_made_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for to in FileType::all().filter(|to| *to != FileType::parse("F16").unwrap()) {
        let output = folder.path().join(to.name());
        let made = quantize(&output, to.name()).await;
        if to.making() == Making::Plain {
            made.unwrap_or_else(|error| panic!("{to}: {error}"));
            assert_eq!(Gguf::open(&output).unwrap().file_type(), to.name());
        } else {
            assert!(matches!(made, Err(EngineError::Invalid(_))), "{to}");
            assert!(!output.exists());
        }
    }
}

#[tokio::test]
async fn full_precision_goes_up_and_down() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("bf16"), folder.path().join("f32"));
    quantize(&small, "BF16").await.unwrap();
    run(&[small], &large, "F32").await.unwrap();
    assert_eq!(Gguf::open(&large).unwrap().file_type(), "F32");
    assert_eq!(ask(&large, "why is the sky blue?").await, SKY);
}

/// Puts the tensors of the tiny model into two files, as large models come.
fn split(folder: &Path) -> Vec<PathBuf> {
    let (path, words) = (tiny("tiny-f16.gguf"), |number: u64| number.to_le_bytes());
    let (gguf, bytes) = (Gguf::open(&path).unwrap(), fs::read(&path).unwrap());
    let text = |text: &str| [&words(text.len() as u64)[..], text.as_bytes()].concat();
    let first = text(gguf.tensors()[0].name());
    let infos = bytes.windows(first.len()).position(|window| window == first).unwrap();
    let half = gguf.tensors().len() / 2;
    let parts = [&gguf.tensors()[..half], &gguf.tensors()[half..]];
    let write = |(number, tensors): (usize, &[hanzod::gguf::Tensor])| {
        let mut file = [&b"GGUF\x03\0\0\0"[..], &words(tensors.len() as u64)].concat();
        file.extend(words(gguf.metadata().iter().len() as u64 + 3));
        file.extend(&bytes[24..infos]);
        for (key, kind, value) in [
            ("split.no", 2_u32, &(number as u16).to_le_bytes()[..]),
            ("split.count", 2, &2_u16.to_le_bytes()),
            ("split.tensors.count", 5, &(gguf.tensors().len() as i32).to_le_bytes()),
        ] {
            file.extend([&text(key)[..], &kind.to_le_bytes(), value].concat());
        }
        let mut data = Vec::new();
        for tensor in tensors {
            file.extend(text(tensor.name()));
            file.extend((tensor.shape().len() as u32).to_le_bytes());
            tensor.shape().iter().for_each(|length| file.extend(words(*length)));
            file.extend([&tensor.kind().id().to_le_bytes()[..], &words(data.len() as u64)].concat());
            let at = (gguf.data_offset() + tensor.offset()) as usize;
            data.extend(&bytes[at..at + tensor.size() as usize]);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        let path = folder.join(format!("blob-{number}"));
        fs::write(&path, [file, data].concat()).unwrap();
        path
    };
    parts.into_iter().enumerate().map(write).collect()
}

#[tokio::test]
async fn parts_come_out_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let (parts, output) = (split(folder.path()), folder.path().join("whole"));
    let told = run(&parts, &output, "Q8_0").await.unwrap();
    assert!(told.last().is_some_and(|last| last.completed == last.total && last.total > 7_000_000), "{told:?}");
    let whole = Gguf::open(&output).unwrap();
    assert_eq!((whole.metadata().split(), whole.file_type()), (None, "Q8_0"));
    assert_eq!(ask(&output, "why is the sky blue?").await, SKY);
}

/// Check, quantise, make, as the server does it.
#[tokio::test]
async fn a_model_is_created_quantized() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let upload = store.blobs().put(&fs::read(tiny("tiny-f16.gguf")).unwrap()).unwrap();
    let name = ModelName::parse("tiny").unwrap();
    let mut request = CreateRequest::new(name.clone());
    request.files = vec![CreateFile::new("tiny.gguf", &upload.to_string()).unwrap()];
    request.quantize = Some("q4_k_m".to_owned());

    let mut said = Vec::new();
    for step in create::quantizations(&store, &request, |event| said.push(event.to_string())).unwrap() {
        said.push(step.to_string());
        let file = store.blobs().ingest_file().unwrap();
        run(step.input(), file.path(), step.to().name()).await.unwrap();
        request.quantized.push(step.commit(&store, file).unwrap());
    }
    create::create(&store, request, |event| said.push(event.to_string())).unwrap();

    let model = store.model(&name).unwrap();
    let layer = &model.manifest.layers[0];
    assert_eq!(said[..2], ["parsing GGUF", "quantizing F16 model to Q4_K_M"]);
    assert_eq!(said[2..], [&format!("creating new layer {}", layer.digest), "writing manifest", "success"]);
    assert_eq!((model.details().quantization_level.as_str(), layer.size < 2_500_000), ("Q4_K_M", true));
    assert_eq!(ask(&model.weights().unwrap()[0], "why is the sky blue?").await, SKY);
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    // llama.cpp's own refusal, in its words
    let strange = folder.path().join("strange");
    let bytes = fs::read(tiny("tiny-f16.gguf")).unwrap();
    let at = bytes.windows(5).position(|window| window == b"qwen3").unwrap();
    fs::write(&strange, [&bytes[..at], b"owlx3", &bytes[at + 5..]].concat()).unwrap();
    let error = run(&[strange], &output, "Q8_0").await.unwrap_err();
    assert!(matches!(&error, EngineError::Quantize(why) if why.contains("unknown model architecture")), "{error}");
    tokio::time::timeout(Duration::from_secs(60), gone(&output)).await.unwrap();

    let nowhere = folder.path().join("no/such/folder/out");
    let error = quantize(&nowhere, "Q8_0").await.unwrap_err();
    assert!(error.to_string().ends_with("the disk may be full"), "{error}");
}

async fn gone(path: &Path) {
    while path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn dropping_the_work_ends_it_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    // the slowest type
    let mut work = Box::pin(quantizer().quantize(spec(&[tiny("tiny-f16.gguf")], &output, "IQ3_S")));
    while work.next().await.unwrap().unwrap().completed == 0 {}
    assert!(output.exists(), "it is being written");
    drop(work);
    tokio::time::timeout(Duration::from_secs(60), gone(&output)).await.unwrap();
    // and it is not made anew
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!output.exists());
}
