//! What llama-cpp-2 has no call for: embeddings out of an encoder, and into a context.

use std::ffi::c_int;
use std::fmt::Debug;
use std::sync::MutexGuard;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::mtmd::{MtmdContext, MtmdInputChunk};
use llama_cpp_sys_2 as sys;

/// Positions of a token in all the dimensions that a model may count them in.
pub type Position = [i32; 4];

/// The pointer that a type of llama-cpp-2's holds. It lends none of them, but says in its debug text which one it is; no other
/// number there is written like it. Its version is pinned, and every test with an image would tell if that changed.
fn pointer<T>(holder: &impl Debug) -> *mut T {
    let text = format!("{holder:?}");
    let digits = text.split_once("0x").map(|(_, rest)| rest.split(|digit: char| !digit.is_ascii_hexdigit()));
    let address = digits.and_then(|mut digits| usize::from_str_radix(digits.next()?, 16).ok());
    std::ptr::with_exposed_provenance_mut(address.expect("a type of llama-cpp-2's without a pointer: a bug"))
}

/// Encodes an image or a sound: `width` numbers for each of its tokens. Of one encoder there is one lock, which `_alone` holds.
///
/// # Errors
/// The library's number for what went wrong; its log says more.
pub fn encode(
    mtmd: &MtmdContext,
    chunk: &MtmdInputChunk<'_>,
    width: usize,
    _alone: &MutexGuard<'_, ()>,
) -> Result<Vec<f32>, c_int> {
    let (mtmd, raw) = (pointer::<sys::mtmd_context>(mtmd), pointer::<sys::mtmd_input_chunk>(chunk));
    // SAFETY: both are alive, since they are borrowed, and nobody else encodes. Reading files meanwhile is allowed by the
    // library.
    match unsafe { sys::mtmd_encode_chunk(mtmd, raw) } {
        0 => {
            // SAFETY: there are the embeddings of what was encoded last, by the library's own promise a row of the model's width
            // for each token, and nobody else encodes while they are copied.
            let rows = unsafe { std::slice::from_raw_parts(sys::mtmd_get_output_embd(mtmd), width * chunk.n_tokens()) };
            Ok(rows.to_vec())
        }
        code => Err(code),
    }
}

/// All tokens of `chunk` see each other, those that come later included.
pub fn sees_both_ways(mtmd: &MtmdContext, chunk: &MtmdInputChunk<'_>) -> bool {
    // SAFETY: both are alive and only read.
    unsafe { sys::mtmd_decode_use_non_causal(pointer(mtmd), pointer(chunk)) }
}

/// Where the tokens of an image are that begins at `position`, in a model that counts positions in several dimensions. `None`
/// when `chunk` is no image.
pub fn positions(chunk: &MtmdInputChunk<'_>, position: i32) -> Option<impl Fn(usize) -> Position> {
    // SAFETY: the chunk is alive; what it lends lives as long as it.
    let image = unsafe { sys::mtmd_input_chunk_get_tokens_image(pointer(chunk)) };
    (!image.is_null()).then_some(move |at| {
        // SAFETY: as above; any place may be asked for.
        let place = unsafe { sys::mtmd_image_tokens_get_decoder_pos(image, position, at) };
        [place.t, place.y, place.x, place.z].map(u32::cast_signed)
    })
}

/// Numbers that a token's embedding has where it goes into the model.
pub fn width(model: &LlamaModel) -> usize {
    // SAFETY: the model is alive and only read.
    usize::try_from(unsafe { sys::llama_model_n_embd_inp(pointer(model)) }).unwrap_or(0)
}

/// Evaluates embeddings, one for each of `positions`, as tokens of `sequence`.
///
/// # Errors
/// The library's number for what went wrong; its log says more. A part may be there all the same.
pub fn decode(
    context: &mut LlamaContext<'_>,
    embeddings: &[f32],
    positions: &[Position],
    sequence: i32,
    both_ways: bool,
) -> Result<(), c_int> {
    let width = (embeddings.len() / positions.len().max(1)).max(1);
    let context = pointer::<sys::llama_context>(context);
    // SAFETY: the context is alive and borrowed by nobody else. A batch is made for it and freed before it goes. Each row is
    // as long as is said, and copied; `add` and `set_pos` check all else, as `llama_process` does.
    unsafe {
        let batch = sys::llama_batch_ext_init(context);
        let mut full = true;
        for (row, position) in embeddings.chunks_exact(width).zip(positions) {
            let row = sys::llama_embd { data: row.as_ptr(), n_rows: 1, n_embd: width };
            let index = sys::llama_batch_ext_add_embd(batch, sequence, row);
            full &= sys::llama_batch_ext_set_pos(batch, index, position.as_ptr());
        }
        sys::llama_set_causal_attn(context, !both_ways);
        let code = if full { sys::llama_process(context, sys::LLAMA_PROCESS_TYPE_DECODE, batch) } else { -1 };
        sys::llama_set_causal_attn(context, true);
        sys::llama_batch_ext_free(batch);
        if code == 0 { Ok(()) } else { Err(code) }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use super::*;

    #[test]
    fn a_pointer_is_read_from_what_is_said_of_it() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "they are there to be shown")]
        struct Holder {
            held: NonNull<u64>,
            owned: bool,
        }
        let mut number = 7;
        let held = NonNull::from(&mut number);
        assert_eq!(pointer::<u64>(&Holder { held, owned: true }), held.as_ptr());
    }
}
