//! `options.jsonl`: the `options` object of a request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use hanzod::types::Options;

#[test]
fn options() {
    super::run("options.jsonl", &BTreeMap::new(), |case| match case["kind"].as_str() {
        Some("frommap") => from_map(case),
        Some("defaults") => same(&all(&Options::default()), &case["values"]),
        // PARAMETER values are the Modelfile's business: see modelfiles.rs
        _ => Ok(()),
    });
}

fn from_map(case: &Value) -> Result<(), String> {
    let mut options = Options::default();
    let applied = options.apply(case["options"].as_object().expect("options are an object"));
    if let Some(error) = case["error"].as_str() {
        return match applied {
            Err(have) if have.to_string() == error => Ok(()),
            other => Err(format!("{other:?} for {error:?}")),
        };
    }
    applied.map_err(|error| error.to_string())?;
    let (before, after) = (all(&Options::default()), all(&options));
    let changed: Map<String, Value> = after
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| before[name.as_str()] != **value)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    same(&Value::Object(changed), &case["changed"])
}

fn all(options: &Options) -> Value {
    let (s, l) = (&options.sampling, &options.load);
    let float = |value: f32| if value.is_finite() { json!(value) } else { json!("+Inf") };
    json!({
        "num_keep": s.num_keep, "seed": s.seed, "num_predict": s.num_predict, "top_k": s.top_k, "top_p": float(s.top_p),
        "min_p": float(s.min_p), "typical_p": float(s.typical_p), "repeat_last_n": s.repeat_last_n,
        "temperature": float(s.temperature), "repeat_penalty": float(s.repeat_penalty),
        "presence_penalty": float(s.presence_penalty), "frequency_penalty": float(s.frequency_penalty),
        "stop": s.stop, "num_ctx": l.num_ctx, "num_batch": l.num_batch, "num_gpu": l.num_gpu, "main_gpu": l.main_gpu,
        "use_mmap": l.use_mmap, "num_thread": l.num_thread, "draft_num_predict": l.draft_num_predict,
    })
}

/// Equal, with numbers compared as 32-bit floats; no stop strings and an empty list of them are the same to us.
fn same(have: &Value, want: &Value) -> Result<(), String> {
    let plain = |value: &Value| -> Map<String, Value> {
        let entries = value.as_object().cloned().unwrap_or_default();
        entries
            .into_iter()
            .filter(|(name, value)| name != "stop" || value.as_array().is_some_and(|list| !list.is_empty()))
            .map(|(name, value)| {
                let value = match &value {
                    Value::Number(number) => json!(number.as_f64().map(|number| number as f32)),
                    _ => value,
                };
                (name, value)
            })
            .collect()
    };
    let (have, want) = (plain(have), plain(want));
    if have.len() == want.len() && want.iter().all(|(name, value)| have.get(name) == Some(value)) {
        return Ok(());
    }
    Err(format!("{have:?} for {want:?}"))
}
