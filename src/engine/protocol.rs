//! The frames between the server and a runner: a length of four bytes, then a [`Command`] or an [`Event`] in postcard.
//!
//! Many sequences are under way at once; each frame that belongs to one carries the number the server gave it.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodec;

use super::event::{EngineError, RunnerReport, StepEvent};
use super::request::{EmbedReply, EmbedRequest, GenerateRequest, LoadSpec, QuantizeSpec};

/// The number of a request, unique in its runner's life.
pub type SequenceId = u64;

/// A frame may hold a prompt with its images, or the vectors of a batch.
const LARGEST_FRAME: usize = 1 << 30;

/// What the server asks of a runner.
#[derive(Debug, Serialize, Deserialize)]
pub enum Command {
    /// Comes first, once: the runner then serves the model.
    Load(Box<LoadSpec>),
    /// Or this comes first, and is all that is asked.
    Quantize(QuantizeSpec),
    Generate {
        sequence: SequenceId,
        request: Box<GenerateRequest>,
    },
    Embed {
        sequence: SequenceId,
        request: EmbedRequest,
    },
    Tokenize {
        sequence: SequenceId,
        text: String,
        add_special: bool,
    },
    Detokenize {
        sequence: SequenceId,
        tokens: Vec<u32>,
    },
    /// The sequence leaves at its next step. Nothing is answered.
    Cancel {
        sequence: SequenceId,
    },
    /// Comes last, to a runner that saves prompts: it writes what is worth it and ends. Nothing is answered.
    Leave,
}

/// What a runner says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    Loaded(Box<RunnerReport>),
    LoadFailed(EngineError),
    /// The tensor of this name is done.
    TensorQuantized(String),
    /// The output is whole, or it is not to be used.
    Quantized(Result<(), EngineError>),
    Step {
        sequence: SequenceId,
        step: StepEvent,
    },
    Embedded {
        sequence: SequenceId,
        reply: EmbedReply,
    },
    Tokens {
        sequence: SequenceId,
        tokens: Vec<u32>,
    },
    Text {
        sequence: SequenceId,
        text: String,
    },
    /// The sequence is over.
    Failed {
        sequence: SequenceId,
        error: EngineError,
    },
}

/// The codec of the server's side of the pipes.
pub fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(LARGEST_FRAME).new_codec()
}

/// A frame's payload.
///
/// # Errors
/// Never for our own types; postcard's error becomes an [`io::Error`].
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(message).map_err(io::Error::other)
}

/// # Errors
/// When the payload is not a whole message.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    postcard::from_bytes(payload).map_err(io::Error::other)
}

/// Reads one frame, on the runner's side, which has no async. `None` at the end of the pipe.
///
/// # Errors
/// When the pipe breaks inside a frame or a frame is no message.
pub fn read<T: DeserializeOwned>(pipe: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match pipe.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST_FRAME {
        return Err(io::Error::other("frame is too long"));
    }
    let mut payload = vec![0; length];
    pipe.read_exact(&mut payload)?;
    decode(&payload).map(Some)
}

/// Writes one frame, on the runner's side.
///
/// # Errors
/// When the pipe is gone.
pub fn write<T: Serialize>(pipe: &mut impl Write, message: &T) -> io::Result<()> {
    let payload = encode(message)?;
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    pipe.write_all(&length.to_be_bytes())?;
    pipe.write_all(&payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::request::PromptPart;

    #[test]
    fn frames_come_back_as_they_went() {
        let mut pipe = Vec::new();
        write(&mut pipe, &Command::Tokenize { sequence: 7, text: "é".into(), add_special: true }).unwrap();
        let media = PromptPart::Media(vec![0, 255, 7]);
        write(&mut pipe, &media).unwrap();
        write(&mut pipe, &Command::Cancel { sequence: 7 }).unwrap();
        let mut pipe = pipe.as_slice();
        assert!(matches!(read(&mut pipe).unwrap(), Some(Command::Tokenize { sequence: 7, text, .. }) if text == "é"));
        assert_eq!(read(&mut pipe).unwrap(), Some(media));
        assert!(matches!(read(&mut pipe).unwrap(), Some(Command::Cancel { sequence: 7 })));
        assert!(read::<Command>(&mut pipe).unwrap().is_none());
    }
}
