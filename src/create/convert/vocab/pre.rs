//! How text is cut before it is merged: llama.cpp knows a few ways by name, `tokenizer.json` has them as patterns.

use serde_json::Value;

use super::bad;
use super::file::steps;
use crate::create::CreateError;

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|",
    r"\s+(?!\S)|\s+",
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|",
    r"'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|",
    r"'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
/// GPT-2's pattern, which is built into the step for bytes.
const BYTES: &str = "bytes";
/// Digits one by one.
const DIGITS: &str = "digits";

/// The steps, and the name. Of Llama 3's pattern there are two: with `llama-bpe` a word that is a token is not merged.
const KNOWN: [(&[&str], &str); 9] = [
    (&[LLAMA3], "dbrx"),
    (&[QWEN2], "qwen2"),
    (&[QWEN35], "qwen35"),
    (&[TEKKEN], "tekken"),
    (&[GPT4O], "gpt-4o"),
    (&[BYTES], "gpt-2"),
    (&[DIGITS, BYTES], "smollm"),
    (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", DIGITS], "deepseek-coder"),
    (
        &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            concat!(
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+",
                "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
            ),
        ],
        "deepseek-v3",
    ),
];

/// # Errors
/// For a way that llama.cpp does not know: cut otherwise, text would become tokens that the model never saw.
pub(super) fn name(pre_tokenizer: &Value, ignores_merges: bool) -> Result<&'static str, CreateError> {
    let mut cuts = Vec::new();
    for step in steps(pre_tokenizer) {
        let kind = step["type"].as_str().unwrap_or_default();
        match (kind, step.pointer("/pattern/Regex").and_then(Value::as_str)) {
            ("Split", Some(regex)) => cuts.push(regex),
            ("Digits", _) if step["individual_digits"] == true => cuts.push(DIGITS),
            // on by default
            ("ByteLevel", _) if step["use_regex"] != false => cuts.push(BYTES),
            ("ByteLevel", _) => {}
            _ => return unknown(&format!("{kind} {}", step.get("pattern").unwrap_or(&Value::Null))),
        }
    }
    match KNOWN.iter().find(|(known, _)| *known == cuts) {
        Some((_, "dbrx")) if ignores_merges => Ok("llama-bpe"),
        Some((_, name)) => Ok(name),
        None => unknown(&cuts.join(" and ")),
    }
}

fn unknown<T>(way: &str) -> Result<T, CreateError> {
    let short: String = way.chars().take(200).collect();
    bad(format!("the tokenizer cuts text in a way that llama.cpp does not know: {short}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ways_to_cut_have_names() {
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"});
        let bytes = |regex: bool| json!({"type": "ByteLevel", "use_regex": regex});
        let sequence = |steps: Vec<Value>| json!({"type": "Sequence", "pretokenizers": steps});
        for (cut, ignores_merges, expected) in [
            (sequence(vec![split(LLAMA3), bytes(false)]), true, Ok("llama-bpe")),
            (sequence(vec![split(LLAMA3), bytes(false)]), false, Ok("dbrx")),
            (sequence(vec![split(QWEN2), bytes(false)]), false, Ok("qwen2")),
            (json!({"type": "ByteLevel", "add_prefix_space": false}), false, Ok("gpt-2")),
            (sequence(vec![json!({"type": "Digits", "individual_digits": true}), bytes(true)]), false, Ok("smollm")),
            (sequence(vec![split("owl"), bytes(false)]), false, Err("owl")),
            (json!({"type": "Whitespace"}), false, Err("Whitespace null")),
            (Value::Null, false, Err("")),
        ] {
            let found = name(&cut, ignores_merges).map_err(|error| error.to_string());
            let why = "the tokenizer cuts text in a way that llama.cpp does not know: ";
            assert_eq!(found, expected.map_err(|way| format!("{why}{way}")), "{cut}");
        }
    }
}
