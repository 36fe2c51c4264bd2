//! What a model is called by size and quantisation.

/// The name of a `general.file_type`; `unknown` for one without a name.
pub fn file_type_name(id: u64) -> &'static str {
    match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        39 => "NVFP4",
        40 => "Q1_0",
        _ => "unknown",
    }
}

/// A count of parameters as Ollama writes it: `8B`, `3.2B`, `22.57M`, `82K`.
pub fn parameter_size(count: u64) -> String {
    let count_f = count as f64;
    match count {
        1_000_000_000.. if count.is_multiple_of(1_000_000_000) => format!("{}B", count / 1_000_000_000),
        1_000_000_000.. => format!("{:.1}B", count_f / 1e9),
        1_000_000.. => format!("{:.2}M", count_f / 1e6),
        1_000.. => format!("{:.0}K", count_f / 1e3),
        _ => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sizes_read_as_ollama_writes_them() {
        let cases = [
            (3_541_760, "3.54M"),
            (22_565_376, "22.57M"),
            (8_000_000_000, "8B"),
            (8_030_261_312, "8.0B"),
            (1_543_714_304, "1.5B"),
            (82_000, "82K"),
            (999, "999"),
        ];
        for (count, text) in cases {
            assert_eq!(parameter_size(count), text);
        }
    }
}
