//! `hanzod show`: what a model is made of.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::{Output, say, say_json};

#[derive(Debug, Args)]
pub(crate) struct Show {
    model: String,
    /// Its licence
    #[arg(long)]
    license: bool,
    /// A Modelfile that makes it
    #[arg(long)]
    modelfile: bool,
    /// Its parameters
    #[arg(long)]
    parameters: bool,
    /// Its template
    #[arg(long)]
    template: bool,
    /// Its system message
    #[arg(long)]
    system: bool,
    /// All metadata and tensors
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub(super) async fn execute(self, client: &Client) -> anyhow::Result<()> {
        let flags = [
            (self.license, "license"),
            (self.modelfile, "modelfile"),
            (self.parameters, "parameters"),
            (self.system, "system"),
            (self.template, "template"),
        ];
        let chosen: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, key)| *key).collect();
        if chosen.len() > 1 {
            bail!(
                "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
            );
        }
        let request = json!({"model": self.model, "verbose": self.verbose});
        let answer = client.call("POST", "/api/show", Some(&request)).await?;
        match chosen.first() {
            _ if self.output.json => say_json(&answer),
            Some(key) => say(&format!("{}\n", answer[*key].as_str().unwrap_or_default())),
            None => say(&describe(&answer, self.verbose)),
        }
        Ok(())
    }
}

/// A `Value` as a person reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A section of rows, its first column padded.
fn section(title: &str, rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(key, value)| format!("    {key:<width$}    {value}").trim_end().to_owned() + "\n");
    format!("  {title}\n{}\n", lines.collect::<String>())
}

/// The sections of `show` without a flag.
pub(super) fn describe(answer: &Value, verbose: bool) -> String {
    let info = &answer["model_info"];
    let architecture = info["general.architecture"].as_str().unwrap_or_default();
    let of_architecture = |key: &str| info.get(format!("{architecture}.{key}")).map(plain);
    let detail = |key: &str| Some(plain(&answer["details"][key])).filter(|text| !text.is_empty() && text != "null");
    let model = [
        ("Remote model", answer["remote_model"].as_str().map(str::to_owned)),
        ("Remote URL", answer["remote_host"].as_str().map(str::to_owned)),
        ("architecture", Some(architecture.to_owned()).filter(|name| !name.is_empty()).or_else(|| detail("family"))),
        ("parameters", detail("parameter_size")),
        ("context length", of_architecture("context_length")),
        ("embedding length", of_architecture("embedding_length")),
        ("quantization", detail("quantization_level")),
        ("requires", answer["requires"].as_str().map(str::to_owned)),
    ];
    let model: Vec<_> = model.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let mut text = section("Model", &model);

    let names = answer["capabilities"].as_array().into_iter().flatten();
    let capabilities: Vec<_> = names.map(|name| (plain(name), String::new())).collect();
    text += &section("Capabilities", &capabilities);

    let projector = answer["projector_info"].as_object();
    let rows: Vec<_> = projector.into_iter().flatten().map(|(key, value)| (key.clone(), plain(value))).collect();
    text += &section("Projector", &rows);

    let parameters = answer["parameters"].as_str().unwrap_or_default().lines();
    let rows = parameters.filter_map(|line| line.trim().split_once(' '));
    let rows: Vec<_> = rows.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
    text += &section("Parameters", &rows);

    if verbose {
        let metadata = info.as_object().into_iter().flatten();
        let rows: Vec<_> = metadata.map(|(key, value)| (key.clone(), abridged(value))).collect();
        text += &section("Metadata", &rows);
        let tensors = answer["tensors"].as_array().into_iter().flatten();
        let rows = tensors.map(|tensor| {
            (plain(&tensor["name"]), format!("{:<8} {}", plain(&tensor["type"]), plain(&tensor["shape"])))
        });
        text += &section("Tensors", &rows.collect::<Vec<_>>());
    }
    for (title, key) in [("System", "system"), ("License", "license")] {
        let all = answer[key].as_str().unwrap_or_default();
        let mut lines = all.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut rows: Vec<_> = lines.by_ref().take(2).map(|line| (line.to_owned(), String::new())).collect();
        if lines.next().is_some() {
            rows.push(("...".into(), String::new()));
        }
        text += &section(title, &rows);
    }
    text
}

/// A value in one short line: long arrays lose their end.
fn abridged(value: &Value) -> String {
    const SHOWN: usize = 5;
    match value.as_array() {
        Some(list) if list.len() > SHOWN => {
            let shown: Vec<String> = list[..SHOWN].iter().map(plain).collect();
            format!("[{}, ...+{} more]", shown.join(", "), list.len() - SHOWN)
        }
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_as_people_read_them() {
        let answer = json!({
            "details": {"family": "qwen3", "parameter_size": "3.55M", "quantization_level": "F16"},
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 2048},
            "capabilities": ["completion", "tools"],
            "parameters": "stop                           \"<|im_end|>\"",
            "license": "One\n\nTwo\nThree",
        });
        assert_eq!(
            describe(&answer, false),
            "  Model\n    architecture      qwen3\n    parameters        3.55M\n    context length    2048\n    \
             quantization      F16\n\n  Capabilities\n    completion\n    tools\n\n  Parameters\n    \
             stop    \"<|im_end|>\"\n\n  License\n    One\n    Two\n    ...\n\n"
        );
    }
}
