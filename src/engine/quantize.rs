//! Making a smaller model out of one in full precision, in a child process of its own.
//!
//! The child works through the tensors and names each one that is done; here that becomes bytes, by the sizes that the
//! file's header gives them.
//!
//! Invariant: unless all went well nothing is left at the output's path, whether the work failed, the child died or the
//! caller went away.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::Stream;
use tokio::runtime::Handle;

use super::event::EngineError;
use super::protocol::{Command, Event};
use super::request::QuantizeSpec;
use super::spawn::{Offspring, Program, Spawned};
use crate::gguf::{FileType, Gguf, GgufKind, Making};

/// How far a quantisation is, in bytes of the input's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub completed: u64,
    pub total: u64,
}

/// Quantises models, each in a child process.
#[derive(Clone, Debug)]
pub struct Quantizer {
    program: Program,
}

impl Quantizer {
    /// `program` must run [`super::child::main`] when it is given `arguments`.
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { program: Program::new(program, arguments) }
    }

    /// `hanzod runner`, of the program that is running.
    ///
    /// # Errors
    /// When the system does not tell where the program is.
    pub fn of_this_program() -> std::io::Result<Self> {
        Ok(Self { program: Program::this()? })
    }

    /// Tells of the start and of every tensor that is done. When the stream ends without an error, the output is whole.
    /// Dropping the stream ends the work; what it has written is gone as soon as the child is.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when this type cannot be made of this file; else the work failed.
    pub fn quantize(&self, spec: QuantizeSpec) -> impl Stream<Item = Result<Progress, EngineError>> + Send + use<> {
        let program = self.program.clone();
        async_stream::try_stream! {
            let checked = spec.clone();
            let check = tokio::task::spawn_blocking(move || check(&checked)).await;
            let mut sizes = check.unwrap_or_else(|error| Err(EngineError::Quantize(error.to_string())))?;
            let mut now = Progress { completed: 0, total: sizes.values().sum() };

            let failed = |error: std::io::Error| EngineError::Quantize(format!("cannot start the runner: {error}"));
            let Spawned { mut commands, mut events, process } = program.start().map_err(failed)?;
            let mut work = Work { process: Some(process), output: Some(spec.output.clone()) };
            // A child that is gone already is noticed when it is listened to.
            commands.send(&Command::Quantize(spec)).await.ok();
            yield now;
            loop {
                match events.next().await {
                    Some(Event::TensorQuantized(name)) => now.completed += sizes.remove(&name).unwrap_or(0),
                    Some(Event::Quantized(result)) => break result?,
                    Some(_) => Err(EngineError::Quantize("the runner spoke out of turn".into()))?,
                    None => Err(work.died().await)?,
                }
                yield now;
            }
            work.finish().await;
        }
    }
}

/// The child and what it has written so far. Dropped before the end, both go.
struct Work {
    process: Option<Offspring>,
    output: Option<PathBuf>,
}

impl Work {
    async fn finish(mut self) {
        if let Some(process) = &mut self.process {
            process.kill().await;
        }
        self.output = None;
    }

    async fn died(&mut self) -> EngineError {
        match self.process.take() {
            Some(process) => process.last_rites().await,
            None => EngineError::Died("it is gone".into()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(output) = self.output.take() else { return };
        let remove = move || {
            if let Err(error) = std::fs::remove_file(&output)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a half-written model cannot be removed");
            }
        };
        match (self.process.take(), Handle::try_current()) {
            // Only when the child is gone can it not make the file anew.
            (Some(mut process), Ok(runtime)) => drop(runtime.spawn(async move {
                process.kill().await;
                remove();
            })),
            _ => remove(),
        }
    }
}

/// Looks at the files before llama.cpp does, and gives the size of every tensor.
fn check(spec: &QuantizeSpec) -> Result<HashMap<String, u64>, EngineError> {
    let refuse = |why: String| Err(EngineError::Invalid(why));
    match spec.to.making() {
        Making::Plain => {}
        Making::Matrix => return refuse(needs_matrix(spec.to)),
        Making::Never => return refuse(format!("{} can be read but not made", spec.to)),
    }
    let mut sizes = HashMap::new();
    for path in &spec.input {
        let gguf = Gguf::open(path).map_err(|error| EngineError::Quantize(format!("{}: {error}", path.display())))?;
        if gguf.metadata().kind() != GgufKind::Model {
            return refuse("only models are quantized, no adapters or projectors".into());
        }
        if gguf.tensors().iter().any(|tensor| tensor.kind().is_quantized()) {
            return refuse("quantization is only supported for F16, BF16 and F32 models".into());
        }
        if is_same(path, &spec.output) {
            return refuse("a model cannot be quantized into its own file".into());
        }
        sizes.extend(gguf.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.size())));
    }
    if sizes.is_empty() {
        return refuse("there are no weights to quantize".into());
    }
    Ok(sizes)
}

/// Why a type is refused that takes an importance matrix.
pub fn needs_matrix(to: FileType) -> String {
    format!("quantization to {to} needs an importance matrix, which cannot be given")
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| Some(one) == real(other))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn tiny(file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny").join(file)
    }

    fn spec(file: &str, to: &str) -> QuantizeSpec {
        let to = FileType::parse(to).unwrap();
        QuantizeSpec { input: vec![tiny(file)], output: PathBuf::from("/nowhere/out.gguf"), to }
    }

    #[test]
    fn what_cannot_be_done_is_refused_before_a_child_is_started() {
        let error = |spec: &QuantizeSpec| check(spec).unwrap_err().to_string();
        let cases = [
            (spec("tiny-q8_0.gguf", "Q4_0"), "quantization is only supported for F16, BF16 and F32 models"),
            (spec("tiny-f16.gguf", "IQ2_XXS"), "quantization to IQ2_XXS needs an importance matrix"),
            (spec("tiny-f16.gguf", "NVFP4"), "NVFP4 can be read but not made"),
            (QuantizeSpec { input: Vec::new(), ..spec("", "Q8_0") }, "there are no weights"),
            (
                QuantizeSpec { output: tiny("../tiny/tiny-f16.gguf"), ..spec("tiny-f16.gguf", "Q8_0") },
                "a model cannot be quantized into its own file",
            ),
        ];
        for (spec, expected) in cases {
            assert!(error(&spec).starts_with(expected), "{}", error(&spec));
        }
        assert!(error(&spec("Modelfile", "Q8_0")).starts_with("unable to quantize the model: "));
    }

    #[test]
    fn all_tensors_make_the_total() {
        let file = Gguf::open(&tiny("tiny-f16.gguf")).unwrap();
        let sizes = check(&spec("tiny-f16.gguf", "Q8_0")).unwrap();
        assert_eq!(sizes.len(), file.tensors().len());
        let whole: u64 = file.tensors().iter().map(|tensor| tensor.size()).sum();
        assert_eq!(sizes.values().sum::<u64>(), whole);
    }

    #[tokio::test]
    async fn a_child_that_is_no_runner_is_told_of() {
        let quantizer = Quantizer::new("/bin/sh".into(), vec!["-c".into(), "echo some error >&2; exit 3".into()]);
        let told: Vec<_> = quantizer.quantize(spec("tiny-f16.gguf", "Q8_0")).collect().await;
        let [Ok(Progress { completed: 0, total: 7_000_000.. }), Err(EngineError::Died(why))] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(why, "exit status: 3: some error");
    }
}
