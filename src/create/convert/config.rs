//! `config.json`, asked for numbers: what is missing or absurd is an error that names it.

use serde_json::Value;

use super::folder::Folder;
use crate::create::CreateError;
use crate::create::safetensors::bad;

/// Numbers in a head; real ones have some hundred.
const HEAD: u32 = 65_536;

#[derive(Debug)]
pub(super) struct Config {
    whole: Value,
    /// What describes the text side, and its defaults where the class has its own.
    text: Value,
    defaults: &'static [(&'static str, f64)],
}

impl Config {
    pub(super) fn read(folder: Folder<'_>) -> Result<Self, CreateError> {
        let Some(whole) = folder.json("config.json")? else {
            return bad("`config.json` is missing".to_owned());
        };
        let text = whole.get("text_config").filter(|text| text.is_object()).unwrap_or(&whole).clone();
        if let Some(quantization) =
            whole.get("quantization_config").or(whole.get("quantization")).filter(|it| it.is_object())
        {
            let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("MLX");
            return bad(format!("the weights are quantized already ({method}), which cannot be converted"));
        }
        Ok(Self { whole, text, defaults: &[] })
    }

    #[cfg(test)]
    pub(super) fn of(whole: Value) -> Self {
        Self { text: whole.clone(), whole, defaults: &[] }
    }

    pub(super) fn with_defaults(self, defaults: &'static [(&'static str, f64)]) -> Self {
        Self { defaults, ..self }
    }

    /// The name of the class in transformers.
    pub(super) fn class(&self) -> Result<&str, CreateError> {
        let class = self.whole.pointer("/architectures/0").and_then(Value::as_str);
        class.map_or_else(|| bad("`config.json` names no architecture".to_owned()), Ok)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.text.get(key).or_else(|| self.whole.get(key)).filter(|value| !value.is_null())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number above zero, if there is one.
    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, CreateError> {
        let default = || self.defaults.iter().find(|(name, _)| *name == key).map(|(_, number)| *number);
        match self.get(key) {
            None => Ok(default().map(|number| number as f32)),
            Some(value) => match value.as_f64().filter(|number| *number > 0.0 && *number <= f32::MAX.into()) {
                Some(number) => Ok(Some(number as f32)),
                None => bad(format!("`{key}` in `config.json` is not a positive number")),
            },
        }
    }

    pub(super) fn float_or(&self, key: &str, other: f32) -> Result<f32, CreateError> {
        Ok(self.float(key)?.unwrap_or(other))
    }

    /// A whole number above zero, if there is one.
    pub(super) fn count_if(&self, key: &str) -> Result<Option<u32>, CreateError> {
        let default = || self.defaults.iter().find(|(name, _)| *name == key).map(|(_, number)| *number as u32);
        match self.get(key) {
            None => Ok(default()),
            Some(value) => {
                match value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0) {
                    Some(number) => Ok(Some(number)),
                    None => bad(format!("`{key}` in `config.json` is not a positive integer")),
                }
            }
        }
    }

    pub(super) fn count(&self, key: &str) -> Result<u32, CreateError> {
        self.count_if(key)?.map_or_else(|| bad(format!("`{key}` is missing in `config.json`")), Ok)
    }

    pub(super) fn layers(&self) -> Result<u32, CreateError> {
        self.count("num_hidden_layers")
    }

    pub(super) fn heads(&self) -> Result<u32, CreateError> {
        self.count("num_attention_heads")
    }

    /// Heads of keys and values.
    pub(super) fn kv_heads(&self) -> Result<u32, CreateError> {
        Ok(self.count_if("num_key_value_heads")?.unwrap_or(self.heads()?))
    }

    /// Numbers in each head.
    pub(super) fn head(&self) -> Result<u32, CreateError> {
        let head = match self.count_if("head_dim")? {
            Some(head) => head,
            None => self.count("hidden_size")? / self.heads()?,
        };
        match head {
            1..=HEAD => Ok(head),
            _ => bad(format!("the heads in `config.json` have {head} numbers each, not from 1 to {HEAD}")),
        }
    }
}
