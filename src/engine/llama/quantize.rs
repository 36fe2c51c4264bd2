//! Quantising with llama.cpp, which tells how far it is in its log and nowhere else.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::{load, log};
use crate::engine::backend::Events;
use crate::engine::event::EngineError;
use crate::engine::request::QuantizeSpec;

/// Bytes of one tensor's rows that are worked on at once; llama.cpp's own bound is eight times this.
const BUFFER: usize = 1 << 30;
/// Answers of running models go first.
const NICENESS: i32 = 10;

/// # Errors
/// In llama.cpp's words. What it has written by then is not removed.
pub fn quantize(spec: &QuantizeSpec, events: &Events) -> Result<(), EngineError> {
    log::listen();
    let _backend = super::backend().map_err(|error| EngineError::Quantize(error.to_string()))?;
    // Without it the work is only less polite.
    rustix::process::nice(NICENESS).ok();
    let (first, _folder) = load::first_part(&spec.input)?;
    let (input, output) = (path(&first)?, path(&spec.output)?);
    let events = events.clone();
    log::follow(move |line| {
        if let Some(name) = tensor_of(line) {
            events.tensor_quantized(name);
        }
    });

    // SAFETY: the call takes nothing and gives a plain struct.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = spec.to.id() as sys::llama_ftype;
    params.nthread = std::thread::available_parallelism().map_or(1, |count| i32::try_from(count.get()).unwrap_or(1));
    params.max_buf_size = BUFFER;
    // SAFETY: both paths end with a zero and live through the call, as the parameters do; their other pointers are null.
    match unsafe { sys::llama_model_quantize(input.as_ptr(), output.as_ptr(), &raw const params) } {
        0 => Ok(()),
        _ => Err(EngineError::Quantize(why(&log::last_error().unwrap_or_default()))),
    }
}

fn path(path: &Path) -> Result<CString, EngineError> {
    CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| EngineError::Quantize(format!("{}: a path with a zero byte", path.display())))
}

/// The tensor that a line says is done, as in `[  12/ 310] output_norm.weight - [ 256, 1, 1, 1], type = f32, size = …`.
/// llama.cpp writes the line's end when the tensor is quantised; one that is copied is announced just before.
fn tensor_of(line: &str) -> Option<&str> {
    let (number, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (done, all) = number.split_once('/')?;
    let is_count = |text: &str| text.trim().parse::<u32>().is_ok();
    let (name, about) = rest.rsplit_once(" - [")?;
    (is_count(done) && is_count(all) && about.contains("size = ")).then(|| name.trim_end())
}

/// llama.cpp's last error, without its own words for "it failed".
fn why(said: &str) -> String {
    let said = said.strip_prefix("failed to quantize: ").unwrap_or(said).trim();
    match said {
        "" => "llama.cpp does not say why".into(),
        // All that a C++ stream has to say.
        said if said.contains("iostream error") => "the file cannot be written, the disk may be full".into(),
        said => said.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_tensors_count() {
        let quantized = "[  12/  68] blk.0.attn_q.weight                  - [  256,   512,     1,     1], \
                         type =    f16, converting to q8_0 .. size =     0.25 MiB ->     0.13 MiB";
        assert_eq!(tensor_of(quantized), Some("blk.0.attn_q.weight"));
        let copied = "[   1/  68] output_norm.weight                   - [  256,     1,     1,     1], \
                      type =    f32, size =    0.001 MiB";
        assert_eq!(tensor_of(copied), Some("output_norm.weight"));
        for line in [
            "",
            "[   1/  68] half - [  256,     1,     1,     1], type =    f32, converting to q8_0 .. ",
            "[a/b] x - [ 1], size = 1",
            "llama_model_quantize_impl: quant size  =     3.60 MiB (8.50 BPW)",
        ] {
            assert_eq!(tensor_of(line), None, "{line}");
        }
    }

    #[test]
    fn failures_are_told_in_words() {
        assert_eq!(why("failed to quantize: unknown model architecture: 'x'"), "unknown model architecture: 'x'");
        assert!(why("failed to quantize: basic_ios::clear: iostream error").ends_with("the disk may be full"));
        assert_eq!(why(""), "llama.cpp does not say why");
    }
}
