//! Real files read right; broken and hostile ones give errors.

use std::io::Cursor;
use std::path::PathBuf;

use super::header::Header;
use super::*;

fn tiny(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat-tests/models/tiny").join(file)
}

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(Cursor::new(bytes))
}

/// Writes GGUF files, bad ones too.
#[derive(Clone)]
struct Writer(Vec<u8>);

impl Writer {
    fn new(version: u32, tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(entries)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn string(self, key: &str, value: &str) -> Self {
        self.text(key).u32(8).text(value)
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let described = self.text(name).u32(shape.len() as u32);
        shape.iter().fold(described, |writer, length| writer.u64(*length)).u32(kind).u64(offset)
    }

    /// The data: from the next multiple of 32 on.
    fn data(mut self, size: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + size, 0);
        self.0
    }
}

fn error(writer: Writer) -> String {
    read(&writer.data(4096)).expect_err("a bad file").to_string()
}

#[test]
fn the_tiny_model_reads_whole() {
    let gguf = Gguf::open(&tiny("tiny-q4_k_m.gguf")).unwrap();
    assert_eq!((gguf.architecture(), gguf.file_type(), gguf.version()), ("qwen3", "Q4_K_M", 3));
    assert_eq!((gguf.arch_u64("context_length"), gguf.arch_u64("embedding_length")), (Some(4096), Some(256)));
    assert_eq!((gguf.parameter_count(), gguf.metadata().kind()), (3_541_760, GgufKind::Model));
    assert_eq!(gguf.bos_token().unwrap().as_deref(), Some("<|endoftext|>"));
    assert_eq!(gguf.eos_token().unwrap().as_deref(), Some("<|im_end|>"));
    assert_eq!((gguf.eot_token().unwrap(), gguf.token(1536).unwrap()), (None, None));
    assert!(gguf.chat_template().unwrap().contains("<tool_call>"));
    assert_eq!(gguf.metadata().iter().next().unwrap().0, "general.architecture");

    let array = gguf.get("tokenizer.ggml.tokens").unwrap().as_array().unwrap();
    assert_eq!(serde_json::to_string(&gguf.get("tokenizer.ggml.tokens")).unwrap(), "null");
    let Elements::String(tokens) = gguf.elements(array).unwrap() else { panic!("tokens are strings") };
    assert_eq!((tokens.len(), array.len(), tokens[1307].as_str()), (1536, 1536, "<|im_end|>"));
    let types = gguf.get("tokenizer.ggml.token_type").unwrap().as_array().unwrap();
    let Elements::I32(types) = gguf.elements(types).unwrap() else { panic!("token types are integers") };
    assert_eq!((types.len(), types[1307]), (1536, 3));

    let last = gguf.tensors().iter().max_by_key(|tensor| tensor.offset()).unwrap();
    let end = gguf.data_offset() + last.offset() + last.size();
    assert_eq!(end, std::fs::metadata(gguf.path()).unwrap().len());
}

#[test]
fn a_peek_reads_all_metadata_and_no_tensor() {
    let metadata = Gguf::peek(&tiny("tiny-q4_k_m.gguf")).unwrap();
    assert_eq!((metadata.file_type(), metadata.arch_u64("context_length")), ("Q4_K_M", Some(4096)));
    let broken_tensor = Writer::new(3, 1, 1).string("a", "b").tensor("t", &[32], 99, 0).data(0);
    assert_eq!(Header::peek(Cursor::new(broken_tensor)).unwrap().str("a"), Some("b"));
}

#[test]
fn every_shortened_file_is_an_error() {
    let whole = std::fs::read(tiny("tiny-q4_k_m.gguf")).unwrap();
    let data = usize::try_from(read(&whole).unwrap().data).unwrap();
    let lengths = (0..2048).chain((2048..data).step_by(61)).chain(data - 40..data + 40);
    for length in lengths.chain([whole.len() / 2, whole.len() - 1]) {
        let error = read(&whole[..length]).expect_err("a shortened file");
        assert!(error.is_bad_file(), "{length}: {error}");
    }
}

#[test]
fn no_flipped_byte_makes_it_panic() {
    let mut file = std::fs::read(tiny("tiny-q4_k_m.gguf")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut refused = 0;
    for _ in 0..3000 {
        let places: Vec<_> = (0..1 + random() % 3).map(|_| (random() % 4096) as usize).collect();
        let before: Vec<_> = places.iter().map(|place| file[*place]).collect();
        for place in &places {
            file[*place] = if random() % 4 == 0 { 0xff } else { random() as u8 };
        }
        match read(&file) {
            Ok(header) => assert!(header.tensors.iter().all(|tensor| tensor.size() < file.len() as u64)),
            Err(error) => {
                assert!(error.is_bad_file(), "{error}");
                refused += 1;
            }
        }
        for (place, byte) in places.iter().zip(before).rev() {
            file[*place] = byte;
        }
    }
    assert!(read(&file).is_ok());
    assert!(refused > 300, "{refused} of 3000 changed files were refused");
}

#[test]
fn hostile_counts_and_lengths() {
    for huge in [1 << 20, 1 << 31, 1 << 40, 1 << 63, u64::MAX] {
        for file in [
            Writer::new(3, huge, 0),
            Writer::new(3, 0, huge),
            Writer::new(3, 0, 1).u64(huge),
            Writer::new(3, 0, 1).text("k").u32(8).u64(huge),
            Writer::new(3, 0, 1).text("k").u32(9).u32(0).u64(huge),
            Writer::new(3, 0, 1).text("k").u32(9).u32(8).u64(huge),
            Writer::new(3, 0, 1).text("k").u32(9).u32(12).u64(huge),
            Writer::new(3, 1, 0).u64(huge),
            Writer::new(3, 1, 0).tensor("t", &[huge], 0, 0),
            Writer::new(3, 1, 0).tensor("t", &[huge, huge, huge, huge], 0, 0),
            Writer::new(3, 1, 0).tensor("t", &[32], 0, huge),
        ] {
            let error = read(&file.data(4096)).expect_err("a hostile file");
            assert!(error.is_bad_file(), "{error}");
        }
    }
}

#[test]
fn what_is_refused_is_named() {
    let one = || Writer::new(3, 1, 0);
    let cases = [
        (Writer(b"GGML".to_vec()), "not a GGUF file"),
        (Writer::new(1, 0, 0), "GGUF version 1 is not supported, only 2 and 3 are"),
        (Writer::new(3_u32.swap_bytes(), 0, 0), "big-endian GGUF files are not supported"),
        (Writer::new(3, 0, 2).string("a", "x").string("a", "y"), "GGUF metadata has `a` twice"),
        (Writer::new(3, 0, 1).text("a").u32(13), "GGUF metadata `a` has the unknown value type 13"),
        (
            Writer::new(3, 0, 1).text("a").u32(9).u32(9).u64(1).u32(9).u64(1),
            "GGUF metadata `a` is an array of arrays, which is not supported",
        ),
        (
            Writer::new(3, 0, 1).text("general.alignment").u32(4).u32(0),
            "GGUF alignment must be a power of two from 8 to 65536",
        ),
        (
            Writer::new(3, 0, 1).text("general.alignment").u32(10).u64(32),
            "GGUF alignment must be a power of two from 8 to 65536",
        ),
        (one().tensor("t", &[32], 99, 0), "tensor `t` has the unknown type 99"),
        (
            one().tensor(&"\u{1b}".repeat(100), &[32], 99, 0),
            &format!("tensor `{}…` has the unknown type 99", "\\u{1b}".repeat(64)),
        ),
        (one().tensor("t", &[33], 2, 0), "tensor `t` has rows that do not fill its type's blocks"),
        (one().tensor("t", &[0], 0, 0), "tensor `t` has no elements"),
        (one().tensor("t", &[], 0, 0), "tensor `t` has fewer than one or more than four dimensions"),
        (one().tensor("t", &[32], 0, 1), "tensor `t` is not aligned"),
        (one().tensor("t", &[1024], 0, 32), "tensor `t` reaches past the end of the file"),
        (Writer::new(3, 2, 0).tensor("t", &[8], 0, 0).tensor("t", &[8], 0, 32), "GGUF file has tensor `t` twice"),
        (
            Writer::new(3, 2, 0).tensor("t", &[16], 0, 0).tensor("u", &[16], 0, 32),
            "tensor `u` lies on another tensor's data",
        ),
    ];
    for (writer, want) in cases {
        assert_eq!(error(writer), want);
    }
}

#[test]
fn kinds_and_parts() {
    let metadata = |writer: Writer| read(&writer.data(0)).unwrap().metadata;
    assert_eq!(metadata(Writer::new(2, 0, 1).string("general.type", "adapter")).kind(), GgufKind::Adapter);
    assert_eq!(metadata(Writer::new(3, 0, 1).string("general.architecture", "clip")).kind(), GgufKind::Projector);
    let part = Writer::new(3, 0, 2).text("split.no").u32(2).bytes(&[1, 0]).text("split.count").u32(2).bytes(&[3, 0]);
    assert_eq!(metadata(part).split(), Some((1, 3)));
}

#[test]
fn only_plain_files_are_opened() {
    let error = Gguf::open(std::path::Path::new("/dev/zero")).expect_err("a device");
    assert_eq!(error.to_string(), "not a regular file");
    assert!(!error.is_bad_file());
}
