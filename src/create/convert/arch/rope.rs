//! How positions are turned into angles, and how that is stretched for longer texts.

use std::f32::consts::PI;

use serde_json::Value;

use super::{Keys, Made};
use crate::create::CreateError;
use crate::create::convert::config::Config;
use crate::create::safetensors::bad;

/// What `config.json` says: newer files have all of it in `rope_parameters`, where kinds of layers may differ.
struct Rope<'a> {
    parameters: Option<&'a Value>,
    kind: &'a str,
}

impl<'a> Rope<'a> {
    fn of(config: &'a Config) -> Self {
        let parameters = config.get("rope_parameters").or_else(|| config.get("rope_scaling"));
        let parameters = parameters.map(|all| all.get("full_attention").unwrap_or(all));
        let kind = parameters.and_then(|it| it.get("rope_type").or_else(|| it.get("type"))).and_then(Value::as_str);
        Self { parameters, kind: kind.unwrap_or("default") }
    }

    fn float_if(&self, key: &str) -> Option<f32> {
        let number = self.parameters?.get(key)?.as_f64()?;
        (number.is_finite() && number > 0.0).then_some(number as f32)
    }

    fn float(&self, key: &str) -> Result<f32, CreateError> {
        self.float_if(key).map_or_else(|| bad(format!("the model's rope has no `{key}`, a positive number")), Ok)
    }

    fn base(&self, config: &Config) -> Result<f32, CreateError> {
        self.float_if("rope_theta").map_or_else(|| config.float_or("rope_theta", 10_000.0), Ok)
    }

    /// Positions that the model had before it was stretched.
    fn original(&self, config: &Config) -> Result<u32, CreateError> {
        let told = self.float_if("original_max_position_embeddings").map(|count| count as u32);
        match told.filter(|count| *count > 0) {
            Some(count) => Ok(count),
            None => config
                .count_if("original_max_position_embeddings")?
                .map_or_else(|| config.count("max_position_embeddings"), Ok),
        }
    }
}

/// Numbers of each head that turn.
fn dimensions(config: &Config) -> Result<u32, CreateError> {
    let head = config.head()?;
    let part = config.float_or("partial_rotary_factor", 1.0)?;
    Ok(((head as f32 * part) as u32).clamp(1, head))
}

pub(super) fn describe(config: &Config, keys: &mut Keys<'_>) -> Result<(), CreateError> {
    let rope = Rope::of(config);
    keys.set("rope.freq_base", &rope.base(config)?);
    keys.set("rope.dimension_count", &dimensions(config)?);
    match rope.kind {
        "default" | "llama3" => {}
        "linear" => {
            keys.set("rope.scaling.type", "linear");
            keys.set("rope.scaling.factor", &rope.float("factor")?);
        }
        "yarn" => {
            keys.set("rope.scaling.type", "yarn");
            keys.set("rope.scaling.factor", &rope.float("factor")?);
            keys.set("rope.scaling.original_context_length", &rope.original(config)?);
            for (theirs, ours) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
                if let Some(beta) = rope.float_if(theirs) {
                    keys.set(&format!("rope.scaling.{ours}"), &beta);
                }
            }
        }
        "longrope" | "su" => {
            let (longest, original) = (config.count("max_position_embeddings")?, rope.original(config)?);
            let scale = longest as f32 / original as f32;
            let told = rope.float_if("attention_factor");
            keys.set("rope.scaling.type", "longrope");
            let factor = if scale <= 1.0 { 1.0 } else { (1.0 + scale.ln() / (original as f32).ln()).sqrt() };
            keys.set("rope.scaling.attn_factor", &told.unwrap_or(factor));
            keys.set("rope.scaling.original_context_length", &original);
        }
        other => return bad(format!("the rope scaling {other:?} cannot be converted to GGUF")),
    }
    Ok(())
}

/// Llama 3's stretching: what turns slowly is slowed, what turns fast is left, and between them it goes over smoothly.
pub(super) fn llama3(config: &Config) -> Result<Made, CreateError> {
    let rope = Rope::of(config);
    if rope.kind != "llama3" {
        return long(config);
    }
    let (base, turning) = (rope.base(config)?, dimensions(config)?);
    let (factor, low, high) = (rope.float("factor")?, rope.float("low_freq_factor")?, rope.float("high_freq_factor")?);
    let original = rope.original(config)? as f32;
    if high <= low {
        return bad("the model's rope has a `high_freq_factor` below its `low_freq_factor`".to_owned());
    }
    let divisor = |pair: u32| {
        let wave = 2.0 * PI * base.powf((2 * pair) as f32 / turning as f32);
        if wave < original / high {
            1.0
        } else if wave > original / low {
            factor
        } else {
            let smooth = (original / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok(vec![("rope_freqs.weight", (0..turning / 2).map(divisor).collect())])
}

/// Phi's stretching: a divisor for each pair, for long texts and for short ones.
pub(super) fn long(config: &Config) -> Result<Made, CreateError> {
    let rope = Rope::of(config);
    if !matches!(rope.kind, "longrope" | "su") {
        return Ok(Vec::new());
    }
    let wanted = (dimensions(config)? / 2) as usize;
    let factors = |key: &str| {
        let list = rope.parameters.and_then(|it| it.get(key)).and_then(Value::as_array);
        let numbers: Option<Vec<f32>> =
            list.and_then(|list| list.iter().map(|it| it.as_f64().map(|it| it as f32)).collect());
        match numbers.filter(|numbers| numbers.len() == wanted) {
            Some(numbers) => Ok(numbers),
            None => bad(format!("the model's rope has no `{key}`, {wanted} numbers")),
        }
    };
    Ok(vec![
        ("rope_factors_long.weight", factors("long_factor")?),
        ("rope_factors_short.weight", factors("short_factor")?),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::create::convert::config::Config;

    /// The numbers of Llama 3.2 1B, by hand: fifteen pairs are left, three lie between, fourteen are slowed 32 times.
    #[test]
    fn llama_3_turns_slowly_where_it_should() {
        let config = Config::of(json!({
            "hidden_size": 2048, "num_attention_heads": 32, "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192},
        }));
        let made = llama3(&config).unwrap();
        let (name, numbers) = &made[0];
        assert_eq!((*name, numbers.len()), ("rope_freqs.weight", 32));
        assert!(
            numbers[..15].iter().all(|divisor| *divisor == 1.0) && numbers[18..].iter().all(|divisor| *divisor == 32.0)
        );
        assert!(numbers[15..18].is_sorted() && numbers[15] > 1.0 && numbers[17] < 32.0, "{numbers:?}");
    }

    #[test]
    fn odd_scalings_are_refused_by_name() {
        for (scaling, why) in [
            (json!({"type": "dynamic", "factor": 2.0}), "the rope scaling \"dynamic\" cannot be converted to GGUF"),
            (json!({"type": "linear"}), "the model's rope has no `factor`, a positive number"),
            (json!({"type": "linear", "factor": -1}), "the model's rope has no `factor`, a positive number"),
        ] {
            let config = Config::of(json!({"hidden_size": 8, "num_attention_heads": 2, "rope_scaling": scaling}));
            let mut writer = crate::gguf::GgufWriter::default();
            let mut keys = Keys { architecture: "x", writer: &mut writer };
            assert_eq!(describe(&config, &mut keys).unwrap_err().to_string(), why);
        }
        let short = json!({"type": "longrope", "long_factor": [1.0], "short_factor": [1.0, 2.0]});
        let config = Config::of(json!({"hidden_size": 8, "num_attention_heads": 2, "rope_scaling": short}));
        assert_eq!(long(&config).unwrap_err().to_string(), "the model's rope has no `long_factor`, 2 numbers");
    }
}
