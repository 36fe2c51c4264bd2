//! Seeing and hearing: a projector turns an image or a sound into embeddings, which stand in a prompt as tokens do.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::Path;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::mtmd::{
    MtmdBitmap, MtmdContext, MtmdContextParams, MtmdEvalError, MtmdInputChunkType, MtmdInputChunks, MtmdInputText,
};

use super::cache::{self, Span};
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

/// A model's eyes and ears.
pub struct Projector<'m> {
    mtmd: MtmdContext,
    /// Bytes of its file.
    pub size: u64,
    /// Only one image in a prompt gets the positions it must have.
    single: bool,
    numbers: Numbers,
    /// It holds on to the model's vocabulary.
    model: PhantomData<&'m LlamaModel>,
}

/// An image or a sound of a prompt, with the tokens that its model wants around it. It is evaluated in one go, and is in a
/// sequence as a whole or not at all.
pub struct Medium {
    pub span: Span,
    /// What stands for it in a history, once for each of its places. The same content has the same number.
    pub number: u32,
    chunks: MtmdInputChunks,
}

impl<'m> Projector<'m> {
    /// # Errors
    /// When the file is broken, of a kind that llama.cpp does not know, or made for another model.
    pub fn load(path: &Path, model: &'m LlamaModel, spec: &LoadSpec) -> Result<Self, EngineError> {
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
        Ok(Self { mtmd, size, single: kind == Some("hunyuanvl"), numbers: Numbers::default(), model: PhantomData })
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

    /// Reads a file that stands `at` this place of a prompt, behind `before` other images and sounds.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when it cannot be decoded, or the model cannot see or hear it.
    pub fn read(&mut self, file: &[u8], at: usize, before: usize) -> Result<Medium, EngineError> {
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
        let positions = usize::try_from(chunks.total_positions()).unwrap_or(0);
        let span = Span { at, tokens: chunks.total_tokens(), positions };
        if span.tokens == 0 || span.positions == 0 {
            return Err(undone());
        }
        Ok(Medium { span, number: self.numbers.of(Digest::of(file)), chunks })
    }

    fn chunks(&self, bitmap: &MtmdBitmap) -> Option<MtmdInputChunks> {
        let text = llama_cpp_2::mtmd::mtmd_default_marker().to_owned();
        let text = MtmdInputText { text, add_special: false, parse_special: true };
        self.mtmd.tokenize(text, &[bitmap]).ok()
    }

    /// Evaluates `medium` from `position` on in the sequence of `slot`. On failure a part of it may be there.
    ///
    /// # Errors
    /// In llama.cpp's words; when a batch cannot hold it.
    pub fn evaluate(
        &mut self,
        context: &mut LlamaContext<'_>,
        medium: &Medium,
        slot: usize,
        position: usize,
    ) -> Result<(), EngineError> {
        let failed = |why: String| EngineError::Failed(why);
        let (batch, most) = (context.n_batch(), largest(&medium.chunks));
        if self.mtmd.decode_use_non_causal() && most > context.n_ubatch() as usize {
            return Err(EngineError::Invalid(format!("the image takes {most} tokens, a batch holds {batch}")));
        }
        let position = i32::try_from(position).map_err(|error| failed(error.to_string()))?;
        let batch = i32::try_from(batch).unwrap_or(i32::MAX);
        let (done, said) = log::errors_of(|| {
            medium.chunks.eval_chunks(&mut self.mtmd, context, position, cache::sequence(slot), batch, false)
        });
        done.map(drop).map_err(|MtmdEvalError::EvalFailure(code)| match said.first() {
            Some(line) => failed(reason(line).to_owned()),
            None => failed(format!("an image or a sound cannot be evaluated: {code}")),
        })
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
