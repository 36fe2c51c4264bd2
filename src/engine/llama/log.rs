//! What llama.cpp says: its warnings and errors go to standard error, where the server reads them; from the rest we
//! learn how large its buffers are, which its C interface does not tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use llama_cpp_sys_2 as sys;

/// Hears whole lines.
type Follower = Box<dyn FnMut(&str) + Send>;

/// What was learnt from the log so far.
#[derive(Default)]
struct Heard {
    error: Option<String>,
    buffers: Buffers,
    window: bool,
    follower: Option<Follower>,
}

/// One thread's part of the log.
struct Voice {
    line: Vec<u8>,
    level: sys::ggml_log_level,
    /// All errors, while somebody wants them.
    errors: Option<Vec<String>>,
}

/// Bytes of llama.cpp's buffers, by their place and use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    lasting: BTreeMap<(String, String), u64>,
    /// What each context computes in, by place. It is announced anew whenever it grows.
    compute: Vec<BTreeMap<String, u64>>,
}

static HEARD: Mutex<Heard> = Mutex::new(Heard {
    error: None,
    buffers: Buffers { lasting: BTreeMap::new(), compute: Vec::new() },
    window: false,
    follower: None,
});

thread_local! {
    /// Answers are evaluated on one thread and images encoded on another, so lines are put together for each.
    static VOICE: RefCell<Voice> =
        const { RefCell::new(Voice { line: Vec::new(), level: sys::GGML_LOG_LEVEL_NONE, errors: None }) };
}

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over llama.cpp's log.
pub fn listen() {
    // SAFETY: the callback is a function and stays; it uses no user data.
    unsafe { sys::llama_log_set(Some(callback), std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { sys::mtmd_helper_log_set(Some(callback), std::ptr::null_mut()) };
}

/// Has every whole line told to `follower`, which must not call llama.cpp.
pub fn follow(follower: impl FnMut(&str) + Send + 'static) {
    heard().follower = Some(Box::new(follower));
}

/// The last error llama.cpp wrote.
pub fn last_error() -> Option<String> {
    heard().error.clone()
}

/// What `work` gives, and the errors that this thread wrote meanwhile: the first one says most, the others what came of it.
pub fn errors_of<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    VOICE.with_borrow_mut(|voice| voice.errors = Some(Vec::new()));
    let done = work();
    (done, VOICE.with_borrow_mut(|voice| voice.errors.take()).unwrap_or_default())
}

pub fn buffers() -> Buffers {
    heard().buffers.clone()
}

/// Some layers keep only a window of the context (sliding-window attention).
pub fn has_window() -> bool {
    heard().window
}

unsafe extern "C" fn callback(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a text with a zero at its end, which lives through the call.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    let listen = |voice: &RefCell<Voice>| {
        voice.borrow_mut().take(level, text, &mut heard(), &mut std::io::stderr().lock());
    };
    // What is said while a thread ends is not heard.
    VOICE.try_with(listen).ok();
}

impl Voice {
    /// Puts pieces together to lines.
    fn take(&mut self, level: sys::ggml_log_level, text: &[u8], heard: &mut Heard, out: &mut dyn Write) {
        if level != sys::GGML_LOG_LEVEL_CONT {
            self.level = level;
        }
        for &byte in text {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                let failed = self.level == sys::GGML_LOG_LEVEL_ERROR && !line.trim().is_empty();
                if let Some(errors) = self.errors.as_mut().filter(|_| failed) {
                    errors.push(line.trim().to_owned());
                }
                heard.line(self.level, &line, out);
            } else {
                self.line.push(byte);
            }
        }
    }
}

impl Heard {
    fn line(&mut self, level: sys::ggml_log_level, line: &str, out: &mut dyn Write) {
        self.buffers.take(line);
        if let Some(follower) = &mut self.follower {
            follower(line);
        }
        self.window |= line.contains(" SWA KV cache") && !line.contains("non-SWA");
        if level == sys::GGML_LOG_LEVEL_ERROR && !line.trim().is_empty() {
            // "llama_model_load: error loading model: …" is worth more than the "failed to load model" after it.
            let text = line.split_once(": ").map_or(line, |(_, text)| text).trim();
            if !text.starts_with("failed to load model") || self.error.is_none() {
                self.error = Some(text.to_owned());
            }
        }
        // Cells are rounded up to 256, which may be more than a model was trained for and no sequence ever is.
        let false_alarm = line.contains("possible training context overflow");
        if matches!(level, sys::GGML_LOG_LEVEL_WARN | sys::GGML_LOG_LEVEL_ERROR) && !false_alarm {
            // Nothing is left to be told when standard error is gone.
            writeln!(out, "{line}").ok();
        }
    }
}

impl Buffers {
    /// Reads `function:  PLACE use buffer size =  12.00 MiB`, and what begins another context: a model's, or an encoder's.
    fn take(&mut self, line: &str) {
        if line.contains(": constructing llama_context") || line.contains(": CLIP using ") {
            self.compute.push(BTreeMap::new());
        }
        let Some((left, right)) = line.split_once(" buffer size = ") else { return };
        let Some(mebibytes) = right.trim().strip_suffix("MiB").and_then(|number| number.trim().parse::<f64>().ok())
        else {
            return;
        };
        let mut words = left.rsplit(": ").next().unwrap_or(left).split_whitespace();
        let (Some(place), Some(kind)) = (words.next(), words.next()) else { return };
        let bytes = (mebibytes * 1024.0 * 1024.0) as u64;
        if kind != "compute" {
            *self.lasting.entry((place.to_owned(), kind.to_owned())).or_default() += bytes;
            return;
        }
        if self.compute.is_empty() {
            self.compute.push(BTreeMap::new());
        }
        if let Some(context) = self.compute.last_mut() {
            let largest = context.entry(place.to_owned()).or_default();
            *largest = bytes.max(*largest);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        let lasting = self.lasting.iter().map(|((place, _), bytes)| (place.as_str(), *bytes));
        lasting.chain(self.compute.iter().flatten().map(|(place, bytes)| (place.as_str(), *bytes)))
    }

    pub fn total(&self) -> u64 {
        self.all().map(|(_, bytes)| bytes).sum()
    }

    /// Of those on an accelerator.
    pub fn on_accelerators(&self) -> u64 {
        let on_host = |place: &str| place.starts_with("CPU") || place.contains("Host") || place == "AMX";
        self.all().filter(|(place, _)| !on_host(place)).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_added_up() {
        let mut buffers = Buffers::default();
        for line in [
            "load_tensors:   CPU_Mapped model buffer size =   100.00 MiB",
            "load_tensors:   CPU_Mapped model buffer size =    50.00 MiB",
            "llama_kv_cache:      CUDA0 KV buffer size =    28.00 MiB",
            "clip_ctx: CLIP using CUDA0 backend",
            "reserve_compute_meta:      CUDA0 compute buffer size =     7.00 MiB",
            "llama_context: constructing llama_context",
            "sched_reserve:        CPU compute buffer size =    10.00 MiB",
            "sched_reserve:        CPU compute buffer size =    12.00 MiB",
            "sched_reserve:  CUDA_Host compute buffer size =     1.00 MiB",
            "llama_context: constructing llama_context",
            "sched_reserve:        CPU compute buffer size =     5.00 MiB",
            "sched_reserve:      CUDA0 compute buffer size =     3.00 MiB",
            "something else",
        ] {
            buffers.take(line);
        }
        // The larger of the two that one context announced, and those of the others beside it.
        assert_eq!(buffers.total() >> 20, 150 + 28 + 7 + 12 + 1 + 5 + 3);
        assert_eq!(buffers.on_accelerators() >> 20, 28 + 7 + 3);
    }

    #[test]
    fn only_trouble_is_passed_on() {
        let mut heard = Heard::default();
        let mut voice = Voice { line: Vec::new(), level: sys::GGML_LOG_LEVEL_NONE, errors: Some(Vec::new()) };
        let mut out = Vec::new();
        let mut say = |level, text: &[u8]| voice.take(level, text, &mut heard, &mut out);
        say(sys::GGML_LOG_LEVEL_INFO, b"fine\n");
        say(sys::GGML_LOG_LEVEL_ERROR, b"load: error loading model: no");
        say(sys::GGML_LOG_LEVEL_CONT, b" tensors\n");
        say(sys::GGML_LOG_LEVEL_ERROR, b"load: failed to load model\n");
        assert_eq!(heard.error.as_deref(), Some("error loading model: no tensors"));
        assert_eq!(out, b"load: error loading model: no tensors\nload: failed to load model\n");
        let errors = ["load: error loading model: no tensors", "load: failed to load model"].map(str::to_owned);
        assert_eq!(voice.errors.unwrap_or_default(), errors);
    }
}
