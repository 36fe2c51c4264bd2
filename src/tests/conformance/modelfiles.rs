//! `modelfiles.jsonl`, and the PARAMETER values of `options.jsonl`.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use hanzod::store::modelfile::{Instruction, Modelfile, ModelfileError, typed_parameter};
use hanzod::types::Options;

#[test]
fn modelfiles() {
    let better = BTreeMap::from([
        ("modelfiles/system-control-chars", "Ollama drops zero-width characters and wide blanks, which breaks emoji"),
        (
            "modelfiles/system-four-quotes",
            "Ollama prints a value that begins with a quote so that it is read differently",
        ),
    ]);
    super::run("modelfiles.jsonl", &better, |case| {
        let bytes = match case["modelfile_b64"].as_str() {
            Some(text) => base64::engine::general_purpose::STANDARD.decode(text).expect("base64"),
            None => case["modelfile"].as_str().expect("a Modelfile").into(),
        };
        let modelfile = match (Modelfile::parse(&bytes), case["error"].as_str()) {
            (Err(error), Some(want)) => {
                let line = case["line"].as_u64().map(|line| line as usize);
                let same = error.to_string() == want && error.line() == line;
                return if same { Ok(()) } else { Err(format!("{error} at {:?} for {want}", error.line())) };
            }
            (Ok(modelfile), None) => modelfile,
            (have, want) => return Err(format!("{have:?} for the error {want:?}")),
        };
        let commands: Vec<Value> = modelfile.instructions.iter().map(command).collect();
        equal(&json!(commands), &case["commands"])?;
        let printed = modelfile.to_string();
        equal(&json!(printed), &case["printed"])?;
        equal(&json!(Modelfile::parse(printed.as_bytes()) == Ok(modelfile.clone())), &case["reparse_same"])?;
        match (request(&modelfile), case["request_error"].as_str()) {
            (Ok(request), None) => equal(&request, &case["request"]),
            (Err(error), Some(want)) if error == want => Ok(()),
            (have, want) => Err(format!("{have:?} for the error {want:?}")),
        }
    });
}

#[test]
fn better_is_better() {
    let printed = Modelfile::parse(b"FROM a\nSYSTEM \"\"\"\"four\"\"\"\"\n").unwrap().to_string();
    assert_eq!(printed, "FROM a\nSYSTEM \"\"\"\"four\"\"\"\"\n");
}

/// A command as the recording shows it.
fn command(instruction: &Instruction) -> Value {
    let (name, args) = match instruction {
        Instruction::From(args) => ("model", args.clone()),
        Instruction::License(args) => ("license", args.clone()),
        Instruction::Template(args) => ("template", args.clone()),
        Instruction::System(args) => ("system", args.clone()),
        Instruction::Adapter(args) => ("adapter", args.clone()),
        Instruction::Draft(args) => ("draft", args.clone()),
        Instruction::Renderer(args) => ("renderer", args.clone()),
        Instruction::Parser(args) => ("parser", args.clone()),
        Instruction::Requires(args) => ("requires", args.clone()),
        Instruction::Parameter { name, value } => (name.as_str(), value.clone()),
        Instruction::Message { role, content } => ("message", format!("{}: {content}", role.as_str())),
    };
    json!({"name": name, "args": args})
}

/// The body that `create` would send, in a folder without files.
fn request(modelfile: &Modelfile) -> Result<Value, String> {
    let recipe = modelfile.recipe().map_err(|error: ModelfileError| error.to_string())?;
    if let Some(path) = recipe.adapters.iter().chain(&recipe.drafts).next() {
        let path = Path::new("/no-such-dir").join(path.trim_start_matches("./"));
        return Err(format!("stat {}: no such file or directory", path.display()));
    }
    let mut request = Map::from_iter([("model".into(), json!("")), ("name".into(), json!(""))]);
    let mut set = |key: &str, value: Value| drop(request.insert(key.into(), value));
    if let Some(from) = recipe.from.last().filter(|from| !from.is_empty()) {
        set("from", json!(from));
    }
    for (key, value) in [
        ("template", recipe.template),
        ("system", recipe.system),
        ("renderer", recipe.renderer),
        ("parser", recipe.parser),
        ("requires", recipe.requires),
    ] {
        value.into_iter().for_each(|value| set(key, json!(value)));
    }
    if !recipe.licenses.is_empty() {
        set("license", json!(recipe.licenses));
    }
    if !recipe.parameters.is_empty() {
        set("parameters", Value::Object(recipe.parameters));
    }
    if !recipe.messages.is_empty() {
        let messages = recipe.messages.iter();
        let messages = messages.map(|(role, content)| json!({"role": role.as_str(), "content": content}));
        set("messages", messages.collect());
    }
    Ok(Value::Object(request))
}

#[test]
fn parameters() {
    let better =
        BTreeMap::from([("options/parameter/float-inf", "Ollama takes an infinity and then fails to store it")]);
    super::run("options.jsonl", &better, |case| {
        if case["kind"] != "params" {
            return Ok(());
        }
        let mut typed = Map::new();
        for parameter in case["parameters"].as_array().expect("parameters") {
            let mut words =
                parameter.as_array().expect("a name and values").iter().map(|word| word.as_str().expect("text"));
            let name = words.next().expect("a name");
            for value in words {
                match (typed_parameter(name, value), typed.get_mut(name)) {
                    (Ok(Value::Array(more)), Some(Value::Array(have))) => have.extend(more),
                    (Ok(value), _) => drop(typed.insert(name.into(), value)),
                    (Err(error), _) => return equal(&json!(error.to_string()), &case["error"]),
                }
            }
        }
        equal(&Value::Object(typed.clone()), &case["typed"])?;
        let mut options = Options::default();
        options.apply(&typed).map_err(|error| error.to_string())
    });
}

fn equal(have: &Value, want: &Value) -> Result<(), String> {
    if have == want || number(have) == number(want) { Ok(()) } else { Err(format!("{have} for {want}")) }
}

/// With every number as a float: `1` and `1.0` are the same.
fn number(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(number).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), number(value))).collect(),
        other => other.clone(),
    }
}
