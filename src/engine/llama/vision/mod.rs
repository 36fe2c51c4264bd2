//! Seeing and hearing: a projector turns an image or a sound into embeddings, which stand in a prompt as tokens do.

mod eyes;
mod medium;
mod raw;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::mtmd::{
    MtmdBitmap, MtmdContext, MtmdContextParams, MtmdInputChunk, MtmdInputChunkType, MtmdInputChunks, MtmdInputText,
};

pub use eyes::Eyes;
pub use medium::{Medium, encoded};

use super::{load, log, unnamed};
use crate::engine::event::EngineError;
use crate::engine::picture::{self, Kind};
use crate::engine::request::LoadSpec;
use crate::gguf::Gguf;
use crate::types::Digest;

/// Numbers of images and sounds stand in histories among tokens: from here on, beyond any vocabulary.
const FIRST: u32 = 1 << 31;
/// Images whose numbers are remembered. One that was forgotten is evaluated anew.
const REMEMBERED: usize = 4096;
/// Seconds of a sound.
const LONGEST: u32 = 2 * 60 * 60;
/// The side of an image that no model takes more tokens for.
const LARGE: u32 = 2048;

/// What makes embeddings of images and sounds, for one model.
pub struct Projector {
    mtmd: MtmdContext,
    /// Held by who encodes: there can be one at a time.
    encoder: Mutex<()>,
    /// Bytes of its file.
    pub size: u64,
    /// Only one image in a prompt gets the positions it must have.
    single: bool,
    /// Numbers of an embedding.
    width: usize,
    /// A std mutex: held for a look-up.
    numbers: Mutex<Numbers>,
    /// Whose vocabulary it holds on to. Dropped after it.
    _model: Arc<LlamaModel>,
}

/// # Errors
/// When there is more than one projector, or it does not fit the model.
pub fn projector(model: &Arc<LlamaModel>, spec: &LoadSpec) -> Result<Option<Projector>, EngineError> {
    match &spec.projectors[..] {
        _ if spec.embedding => Ok(None),
        [] => Ok(None),
        [path] => Projector::load(path, model, spec).map(Some),
        _ => Err(EngineError::Load("only one projector is supported".into())),
    }
}

impl Projector {
    /// # Errors
    /// When the file is broken, of a kind that llama.cpp does not know, or made for another model.
    fn load(path: &Path, model: &Arc<LlamaModel>, spec: &LoadSpec) -> Result<Self, EngineError> {
        let failed = |why: &str| EngineError::Load(format!("unable to load the projector: {why}"));
        let head = Gguf::peek(path).map_err(|error| failed(&error.to_string()))?;
        let kind = ["clip.projector_type", "clip.vision.projector_type"].iter().find_map(|key| head.str(key));
        if kind == Some("deepseek4v") {
            // Its embeddings must be aligned to what stands before them, which is not known here.
            return Err(failed("projectors of the kind deepseek4v are not supported"));
        }
        let params = MtmdContextParams {
            use_gpu: spec.options.num_gpu != 0,
            print_timings: false,
            n_threads: load::threads(spec),
            ..MtmdContextParams::default()
        };
        let copy = unnamed::is_unnamed(&head).then(|| unnamed::named(path)).transpose();
        let copy = copy.map_err(|error| failed(&error.to_string()))?;
        let file =
            copy.as_ref().map_or(path, |copy| copy.path()).to_str().ok_or_else(|| failed("its path is not Unicode"))?;
        let (mtmd, said) = log::errors_of(|| MtmdContext::init_from_file(file, model, &params));
        let mtmd = mtmd.map_err(|error| match said.first() {
            Some(line) => failed(reason(line)),
            None => failed(&error.to_string()),
        })?;
        let size = std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(Self {
            mtmd,
            encoder: Mutex::new(()),
            size,
            single: kind == Some("hunyuanvl"),
            width: raw::width(model),
            numbers: Mutex::default(),
            _model: model.clone(),
        })
    }

    /// Tokens that a batch must hold at the least: where all tokens of an image see each other they are evaluated at once.
    pub fn least_batch(&self) -> usize {
        if !self.mtmd.decode_use_non_causal() {
            return 1;
        }
        let grey = vec![127; LARGE as usize * LARGE as usize * 3];
        let bitmap = MtmdBitmap::from_image_data(LARGE, LARGE, &grey).ok();
        bitmap.and_then(|bitmap| self.chunks(&bitmap)).map_or(1, |chunks| largest(&chunks))
    }

    /// Reads a file that stands in a prompt behind `before` other images and sounds. Takes as long as decoding it does.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when it cannot be decoded, or the model cannot see or hear it.
    pub fn read(&self, file: &[u8], before: usize) -> Result<Medium, EngineError> {
        let refuse = |why: &str| EngineError::Invalid(why.into());
        let (able, name) = match picture::check(file).map_err(|error| refuse(&error.to_string()))? {
            Kind::Image => (self.mtmd.support_vision(), "image"),
            Kind::Sound => (self.mtmd.support_audio(), "audio"),
        };
        if !able {
            return Err(refuse(&format!("this model does not support {name} input")));
        }
        if self.single && before > 0 {
            return Err(refuse("this model only supports one image while more than one image requested"));
        }
        let undone = || refuse(&format!("invalid {name}: it cannot be decoded"));
        let bitmap = MtmdBitmap::from_buffer(&self.mtmd, file, false).map_err(|_| undone())?;
        if bitmap.is_audio() {
            let second = self.mtmd.get_audio_sample_rate().unwrap_or(0);
            // A decoder that was made for speech takes no clicks; nobody waits for what takes longer than that.
            if bitmap.nx() < second / 10 || bitmap.nx() > second.saturating_mul(LONGEST) {
                return Err(refuse("invalid audio: it is shorter than a tenth of a second or longer than two hours"));
            }
        }
        let chunks = self.chunks(&bitmap).ok_or_else(undone)?;
        let number = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).of(Digest::of(file));
        Medium::new(chunks, number).ok_or_else(undone)
    }

    fn chunks(&self, bitmap: &MtmdBitmap) -> Option<MtmdInputChunks> {
        let text = llama_cpp_2::mtmd::mtmd_default_marker().to_owned();
        let text = MtmdInputText { text, add_special: false, parse_special: true };
        self.mtmd.tokenize(text, &[bitmap]).ok()
    }

    /// The embeddings of a part of an image or a sound.
    ///
    /// # Errors
    /// In llama.cpp's words.
    fn encode(&self, chunk: &MtmdInputChunk<'_>) -> Result<Vec<f32>, EngineError> {
        let alone = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let (encoded, said) = log::errors_of(|| raw::encode(&self.mtmd, chunk, self.width, &alone));
        encoded.map_err(|code| match said.first() {
            Some(line) => EngineError::Failed(reason(line).to_owned()),
            None => EngineError::Failed(format!("an image or a sound cannot be encoded: {code}")),
        })
    }

    /// All tokens of `chunk` see each other.
    fn sees_both_ways(&self, chunk: &MtmdInputChunk<'_>) -> bool {
        raw::sees_both_ways(&self.mtmd, chunk)
    }

    /// Positions are counted in several dimensions.
    fn in_dimensions(&self) -> bool {
        self.mtmd.decode_use_mrope()
    }
}

/// Tokens of the largest piece that is not text.
fn largest(chunks: &MtmdInputChunks) -> usize {
    let pieces = (0..chunks.len()).filter_map(|index| chunks.get(index));
    let pieces = pieces.filter(|piece| piece.chunk_type() != MtmdInputChunkType::Text);
    pieces.map(|piece| piece.n_tokens()).max().unwrap_or(0)
}

/// What a line of the log says without the names of functions and files in front.
fn reason(line: &str) -> &str {
    let mut rest = line.split_once("': ").map_or(line, |(_, rest)| rest);
    while let Some((name, said)) = rest.split_once(": ")
        && !name.contains(' ')
    {
        rest = said;
    }
    rest
}

/// A number for each content. None is given twice in two thousand million images.
#[derive(Default)]
struct Numbers {
    known: HashMap<Digest, u32>,
    next: u32,
}

impl Numbers {
    fn of(&mut self, content: Digest) -> u32 {
        if let Some(number) = self.known.get(&content) {
            return *number;
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let number = FIRST | self.next;
        self.next = self.next.wrapping_add(1);
        self.known.insert(content, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_has_the_same_number_while_it_is_remembered() {
        let mut numbers = Numbers::default();
        let content = |number: usize| Digest::of(&number.to_le_bytes());
        let first = numbers.of(content(0));
        assert!(first >= FIRST && numbers.of(content(1)) != first && numbers.of(content(0)) == first);
        for number in 0..REMEMBERED {
            numbers.of(content(number));
        }
        let last = numbers.of(content(REMEMBERED));
        assert!(numbers.of(content(0)) > last && numbers.known.len() <= REMEMBERED);
    }

    #[test]
    fn reasons_are_in_words() {
        let unknown = "clip_init: failed to load model '/a b/c': load_hparams: unknown projector type: eyes";
        assert_eq!(reason(unknown), "unknown projector type: eyes");
        let other = "mtmd_init_from_file: error: mismatch between text model (n_embd = 256) and mmproj (n_embd = 64)";
        assert_eq!(reason(other), "mismatch between text model (n_embd = 256) and mmproj (n_embd = 64)");
    }
}
