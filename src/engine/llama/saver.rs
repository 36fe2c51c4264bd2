//! What llama.cpp knows of a prompt, taken out of its memory to be saved, and put back.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::LlamaStateSeqFlags;

use super::cache::{self, Cached, Traits};
use super::load::Limits;
use crate::engine::memory;
use crate::engine::request::LoadSpec;
use crate::engine::saved::{LEAST, Look, Saved, State, Turn};
use crate::types::Digest;

/// The library whose bytes are saved: its next version may read them as something else.
const LIBRARY: &str = "llama-cpp-sys-2 0.1.161";
/// To be raised when `load::text` makes contexts in another way.
const CONTEXT: u32 = 1;
/// How long those who read an answer may be kept waiting while a state is copied.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes a second that are copied as far as nobody knows yet; memory is mostly faster.
const RATE: f64 = (1_u64 << 30) as f64;

/// The saved prompts of the model that is loaded.
pub struct Saver {
    saved: Saved,
    traits: Traits,
    /// Bytes a second that states were copied at.
    rate: f64,
}

impl Saver {
    /// `None` when prompts are not to be saved, or cannot be; the log then says why.
    pub fn new(spec: &LoadSpec, limits: Limits, traits: Traits, device: &str) -> Option<Self> {
        let saving = spec.saving.as_ref()?;
        let saved = key(spec, limits, device).and_then(|key| Saved::open(saving, key, traits.rolls_back()));
        let path = saving.folder.display();
        let saved = saved.inspect_err(|error| tracing::warn!(%error, folder = %path, "prompts are not saved"));
        Some(Self { saved: saved.ok()?, traits, rate: RATE })
    }

    /// What there is for `prompt` on disk that is so much better than `slot` that it is worth its reading.
    pub fn look(&mut self, prompt: &[u32], slot: &Cached, turn: Turn) -> Look {
        let common = slot.common(prompt);
        // A state that goes on otherwise is of no use where its end cannot be taken back.
        let known = if self.traits.rolls_back() || common == slot.tokens.len() { common } else { 0 };
        self.saved.look(prompt, known, turn)
    }

    /// Takes in what was read and written.
    pub fn settle(&mut self) {
        self.saved.settle();
    }

    /// Nobody waits for what was read.
    pub fn let_go(&mut self) {
        self.saved.let_go();
    }

    /// Saves what `slots[slot]` knows before a prompt takes its place that has the first `kept` tokens in common with it.
    /// `hurried` when somebody reads an answer meanwhile.
    ///
    /// Where half of it stays, nothing is saved: the same conversation goes on, without its last answer or its thinking, or
    /// another one with the same long beginning, and what is lost is no more than what is left.
    pub fn save(&mut self, context: &LlamaContext<'_>, slots: &[Cached], slot: usize, kept: usize, hurried: bool) {
        let tokens = &slots[slot].tokens;
        let lost = tokens.len() - kept;
        let knows = |other: &Cached| other.is_plain() && other.common(tokens) + LEAST > tokens.len();
        let mut others = slots.iter().enumerate().filter(|(other, _)| *other != slot);
        // It is saved when that one makes way.
        let elsewhere = self.traits.rolls_back() && others.any(|(_, other)| knows(other));
        if lost >= LEAST && lost > kept && !elsewhere {
            self.copy(context, slot, &slots[slot], hurried);
        }
    }

    /// Saves what all slots know, the one used last first, and waits until it is written.
    pub fn save_all(&mut self, context: &LlamaContext<'_>, slots: &[Cached]) {
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|slot| std::cmp::Reverse(slots[*slot].used));
        for slot in order {
            // One is written at a time.
            self.saved.flush();
            self.copy(context, slot, &slots[slot], false);
        }
        self.saved.flush();
    }

    /// Copies a slot's state out of llama.cpp's memory and has it written, if it is worth it.
    fn copy(&mut self, context: &LlamaContext<'_>, slot: usize, cached: &Cached, hurried: bool) {
        if !cached.is_plain() || !self.saved.wants(&cached.tokens) {
            return;
        }
        let begun = Instant::now();
        let (sequence, whole) = (cache::sequence(slot), LlamaStateSeqFlags::empty());
        // After a cancel in the midst of an image llama.cpp knows more than its tokens say.
        let known = usize::try_from(context.kv_cache_seq_pos_max(sequence)).map(|last| last + 1);
        if known != Ok(cached.tokens.len()) {
            return;
        }
        let size = context.state_seq_get_size_ext(sequence, whole);
        let long = size as f64 / self.rate > PAUSE.as_secs_f64();
        let mut bytes = Vec::new();
        if size == 0
            || (hurried && long)
            || !self.saved.holds(cached.tokens.len(), size)
            // The system gives addresses for what there is no memory for, and then ends some process.
            || memory::available().is_some_and(|free| size as u64 > free / 2)
            || bytes.try_reserve_exact(size).is_err()
        {
            return;
        }
        // SAFETY: there is room for as many bytes as llama.cpp says that the state has, and nothing has changed it since.
        let copied = unsafe { context.state_seq_get_data_ext(bytes.as_mut_ptr(), sequence, whole) };
        if copied != size {
            tracing::warn!(copied, size, "a prompt is not saved: its state is not what llama.cpp said");
            return;
        }
        // SAFETY: so many bytes were written.
        unsafe { bytes.set_len(copied) };
        self.rate = size as f64 / begun.elapsed().as_secs_f64().max(1e-6);
        self.saved.keep(State { tokens: cached.tokens.clone(), bytes });
    }

    /// Gives `slot` the beginning of `prompt` that `state` knows. Answers beside it wait as long as copying the bytes takes, once;
    /// evaluating the tokens would cost them more in all. False when llama.cpp does not take it; the slot is empty then.
    pub fn restore(
        &mut self,
        context: &mut LlamaContext<'_>,
        slot: usize,
        cached: &mut Cached,
        (name, state): (&str, State),
        prompt: &[u32],
    ) -> bool {
        cache::clear(context, slot, cached);
        let sequence = cache::sequence(slot);
        // SAFETY: these are the bytes that llama.cpp gave for a context of the same key: the checksum over both was right.
        let taken = unsafe { context.state_seq_set_data_ext(&state.bytes, sequence, LlamaStateSeqFlags::empty()) };
        let last = context.kv_cache_seq_pos_max(sequence);
        let whole = usize::try_from(last).is_ok_and(|last| last + 1 == state.tokens.len());
        if !taken || !whole {
            self.saved.reject(name);
            cache::clear(context, slot, cached);
            return false;
        }
        cached.tokens = state.tokens;
        let common = cached.common(prompt);
        // Of what is wanted whole nothing needs to be taken away, which not every memory could.
        if common < cached.tokens.len() {
            cache::keep(context, slot, cached, common, self.traits);
        }
        true
    }
}

/// All that changes what a state means.
fn key(spec: &LoadSpec, limits: Limits, device: &str) -> io::Result<Digest> {
    let files = |paths: &[PathBuf]| paths.iter().map(|path| content(path)).collect::<io::Result<Vec<_>>>();
    let (weights, adapters) = (files(&spec.weights)?, files(&spec.adapters)?);
    let program = (env!("CARGO_PKG_VERSION"), LIBRARY, CONTEXT);
    let sizes = (limits.context, limits.parallel);
    let place = (spec.options.num_gpu, spec.options.main_gpu, device);
    Ok(Digest::of(format!("{:?}", (program, weights, adapters, sizes, place)).as_bytes()))
}

/// What stands for a file's content. The name of a blob says it. Of another file that was changed in place without a change of
/// its length or its times nothing would tell but reading it all.
fn content(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(digest) = name.and_then(|name| name.parse::<Digest>().ok()) {
        return Ok(digest.to_string());
    }
    let (path, seen) = (path.canonicalize()?, path.metadata()?);
    let times = (seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec());
    Ok(format!("{:?}", (path, seen.dev(), seen.ino(), seen.len(), times)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_the_one_that_is_built() {
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("{name} = {{ version = \"={version}\"")), "LIBRARY is of another version");
    }

    #[test]
    fn a_blob_is_known_by_its_name_and_a_file_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        assert_eq!(content(&folder.path().join(digest.file_name())).unwrap(), digest.to_string());
        let file = folder.path().join("model.gguf");
        std::fs::write(&file, "one").unwrap();
        let before = content(&file).unwrap();
        assert_eq!(content(&file).unwrap(), before);
        std::fs::write(&file, "three").unwrap();
        assert_ne!(content(&file).unwrap(), before);
        assert!(content(&folder.path().join("missing")).is_err());
    }
}
