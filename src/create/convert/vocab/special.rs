//! The tokens that begin, end and fill, whether they are put around a text, and the chat template.

use std::collections::HashMap;

use serde_json::Value;

use super::{Folder, Vocabulary};
use crate::create::CreateError;
use crate::gguf::GgufWriter;

/// Keys in GGUF, and the words of the settings that name such a token.
const NAMED: [(&str, &str); 6] =
    [("bos", "bos"), ("eos", "eos"), ("unknown", "unk"), ("seperator", "sep"), ("padding", "pad"), ("mask", "mask")];
/// What ends a turn, by its text. Where none is there the end of the text does.
const TURN_ENDS: [&str; 5] = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<turn|>"];
/// The tokens around a gap to be filled.
const GAP: [(&str, &[&str]); 3] = [
    ("fim_pre", &["<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<｜fim▁begin｜>", "▁<PRE>"]),
    ("fim_suf", &["<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<｜fim▁hole｜>", "▁<SUF>"]),
    ("fim_mid", &["<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<｜fim▁end｜>", "▁<MID>"]),
];

pub(super) fn write(
    folder: Folder<'_>,
    config: &Value,
    Vocabulary { model, around, .. }: &Vocabulary,
    ids: &HashMap<&str, u32>,
    writer: &mut GgufWriter,
) -> Result<(), CreateError> {
    let settings = folder.json("tokenizer_config.json")?.unwrap_or_default();
    let generation = folder.json("generation_config.json")?.unwrap_or_default();
    let by_text = |name: &str| {
        let token = &settings[format!("{name}_token")];
        ids.get(token.as_str().or(token["content"].as_str())?).copied()
    };
    let by_id = |name: &str| {
        let key = format!("{name}_token_id");
        let told =
            [&config[&key], &config["text_config"][&key], &generation[&key]].into_iter().find(|it| !it.is_null())?;
        let id = told.as_u64().or_else(|| told.get(0)?.as_u64())?;
        u32::try_from(id).ok().filter(|id| (*id as usize) < ids.len())
    };
    let find = |name: &str| by_text(name).or_else(|| by_id(name));
    let mut found: HashMap<&str, u32> = NAMED.into_iter().filter_map(|(key, name)| Some((key, find(name)?))).collect();
    if *model == "bert" {
        let ends = [("bos", by_text("cls")), ("eos", by_text("sep"))];
        found.extend(ends.into_iter().filter_map(|(key, id)| Some((key, id?))));
    }
    for (key, _) in NAMED {
        if let Some(id) = found.get(key) {
            writer.set(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    let eot = TURN_ENDS.iter().find_map(|text| ids.get(text)).filter(|id| found.get("eos") != Some(id));
    if let Some(id) = eot {
        writer.set("tokenizer.ggml.eot_token_id", id);
    }
    for (key, texts) in GAP {
        if let Some(id) = texts.iter().find_map(|text| ids.get(text)) {
            writer.set(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    if *model != "bert" {
        let is = |id: Option<u64>, key: &str| id.is_some() && id == found.get(key).map(|id| u64::from(*id));
        let begins = settings["add_bos_token"].as_bool().unwrap_or(match around {
            Some((first, _)) => is(*first, "bos"),
            // SentencePiece's own file does not say, and its models are used to it
            None => *model == "llama",
        });
        let ends = settings["add_eos_token"].as_bool().unwrap_or(around.is_some_and(|(_, last)| is(last, "eos")));
        writer.set("tokenizer.ggml.add_bos_token", &(begins && found.contains_key("bos")));
        writer.set("tokenizer.ggml.add_eos_token", &(ends && found.contains_key("eos")));
    }
    if let Some(template) = template(folder, &settings)? {
        writer.set("tokenizer.chat_template", &template);
    }
    Ok(())
}

/// The chat template, in Jinja: a file of its own goes before the settings, where it may be one of several.
fn template(folder: Folder<'_>, settings: &Value) -> Result<Option<String>, CreateError> {
    if let Some(bytes) = folder.bytes("chat_template.jinja")? {
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    let several = settings["chat_template"].as_array();
    let default = several.and_then(|all| all.iter().find(|one| one["name"] == "default"));
    let template = settings["chat_template"].as_str().or_else(|| default?["template"].as_str());
    Ok(template.filter(|template| !template.is_empty()).map(str::to_owned))
}
