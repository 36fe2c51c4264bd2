//! The tensors a GGUF file holds, and the types ggml stores them in.

use super::GgufError;

/// How ggml stores a tensor's numbers: blocks of so many in so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    id: u32,
    name: &'static str,
    block: u64,
    bytes: u64,
}

const fn tensor_type(id: u32, name: &'static str, block: u64, bytes: u64) -> TensorType {
    TensorType { id, name, block, bytes }
}

/// Every type of today's ggml; the numbers between are of types that were removed from the format.
const TYPES: [TensorType; 35] = [
    tensor_type(0, "F32", 1, 4),
    tensor_type(1, "F16", 1, 2),
    tensor_type(2, "Q4_0", 32, 18),
    tensor_type(3, "Q4_1", 32, 20),
    tensor_type(6, "Q5_0", 32, 22),
    tensor_type(7, "Q5_1", 32, 24),
    tensor_type(8, "Q8_0", 32, 34),
    tensor_type(9, "Q8_1", 32, 36),
    tensor_type(10, "Q2_K", 256, 84),
    tensor_type(11, "Q3_K", 256, 110),
    tensor_type(12, "Q4_K", 256, 144),
    tensor_type(13, "Q5_K", 256, 176),
    tensor_type(14, "Q6_K", 256, 210),
    tensor_type(15, "Q8_K", 256, 292),
    tensor_type(16, "IQ2_XXS", 256, 66),
    tensor_type(17, "IQ2_XS", 256, 74),
    tensor_type(18, "IQ3_XXS", 256, 98),
    tensor_type(19, "IQ1_S", 256, 50),
    tensor_type(20, "IQ4_NL", 32, 18),
    tensor_type(21, "IQ3_S", 256, 110),
    tensor_type(22, "IQ2_S", 256, 82),
    tensor_type(23, "IQ4_XS", 256, 136),
    tensor_type(24, "I8", 1, 1),
    tensor_type(25, "I16", 1, 2),
    tensor_type(26, "I32", 1, 4),
    tensor_type(27, "I64", 1, 8),
    tensor_type(28, "F64", 1, 8),
    tensor_type(29, "IQ1_M", 256, 56),
    tensor_type(30, "BF16", 1, 2),
    tensor_type(34, "TQ1_0", 256, 54),
    tensor_type(35, "TQ2_0", 256, 66),
    tensor_type(39, "MXFP4", 32, 17),
    tensor_type(40, "NVFP4", 64, 36),
    tensor_type(41, "Q1_0", 128, 18),
    tensor_type(42, "Q2_0", 64, 18),
];

impl TensorType {
    pub const F32: Self = TYPES[0];
    pub const F16: Self = TYPES[1];
    pub const BF16: Self = TYPES[28];

    pub(super) fn of_id(id: u32) -> Option<Self> {
        TYPES.into_iter().find(|kind| kind.id == id)
    }

    pub fn id(self) -> u32 {
        self.id
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// Numbers share a scale in blocks, so that something of each was lost.
    pub fn is_quantized(self) -> bool {
        self.block > 1
    }

    /// Bytes of a tensor of this shape, innermost dimension first; `None` when its rows do not fill whole blocks or it
    /// is larger than can be counted.
    fn size(self, shape: &[u64]) -> Option<u64> {
        let (row, rows) = shape.split_first()?;
        if row % self.block != 0 {
            return None;
        }
        rows.iter().try_fold((row / self.block).checked_mul(self.bytes)?, |size, rows| size.checked_mul(*rows))
    }
}

/// A tensor. All its bytes are known to be in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    kind: TensorType,
    shape: Vec<u64>,
    offset: u64,
    size: u64,
}

impl Tensor {
    /// `offset` counts from the start of the tensors' data; where that is, is not known yet.
    pub(super) fn new(name: String, kind: TensorType, shape: Vec<u64>, offset: u64) -> Result<Self, GgufError> {
        let elements = shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length));
        match (elements, kind.size(&shape)) {
            (Some(1..), Some(size)) => Ok(Self { name, kind, shape, offset, size }),
            (Some(0), _) => Err(GgufError::Tensor { name, problem: "has no elements" }),
            (None, _) => Err(GgufError::Tensor { name, problem: "is larger than can be counted" }),
            (Some(_), None) => Err(GgufError::Tensor { name, problem: "has rows that do not fill its type's blocks" }),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Innermost dimension first, as the file has it.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// From the start of the tensors' data.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// Holds every tensor to its place: aligned, inside the `room` bytes of data, on no other tensor's bytes.
pub(super) fn check_places(tensors: &[Tensor], alignment: u64, room: u64) -> Result<(), GgufError> {
    let error = |tensor: &Tensor, problem| Err(GgufError::Tensor { name: tensor.name.clone(), problem });
    let mut by_offset: Vec<&Tensor> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset);
    let mut free = 0;
    for tensor in by_offset {
        if tensor.offset % alignment != 0 {
            return error(tensor, "is not aligned");
        }
        if tensor.offset < free {
            return error(tensor, "lies on another tensor's data");
        }
        match tensor.offset.checked_add(tensor.size) {
            Some(end) if end <= room => free = end,
            _ => return error(tensor, "reaches past the end of the file"),
        }
    }
    Ok(())
}
