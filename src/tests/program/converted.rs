//! A folder of safetensors and one of an adapter, made into GGUF by the command line and over HTTP.

use std::path::Path;

use serde_json::{Value, json};

use super::harness::{Home, Server, bad, good, tiny};
use crate::convert::folders::{LoRa, lay_out, lora, with_bytes};

/// Puts all files of a folder into the store.
async fn upload(server: &Server, folder: &Path) -> Value {
    let mut files = serde_json::Map::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let content = std::fs::read(entry.path()).unwrap();
        let digest = hanzod::types::Digest::of(&content).to_string();
        let (status, _) = server.post(&format!("/api/blobs/{digest}"), &content[..]).await;
        assert!(status < 300);
        files.insert(entry.file_name().into_string().unwrap(), json!(digest));
    }
    Value::Object(files)
}

#[tokio::test]
async fn a_folder_becomes_gguf_when_a_type_is_asked_for() {
    let home = Home::new();
    let server = Server::start(&home);
    let files = upload(&server, &tiny().join("tiny-safetensors")).await;
    let request = json!({"model": "half", "files": files, "quantize": "f16"});
    let reply =
        server.http.post(server.urls[0].clone() + "/api/create").body(request.to_string()).send().await.unwrap();
    let lines = reply.text().await.unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let converting = lines.iter().filter(|line| line["status"] == "converting model");
    let completed: Vec<u64> = converting.map(|line| line["completed"].as_u64().unwrap_or(0)).collect();
    assert!(completed.len() > 10 && completed.is_sorted() && completed[0] == 0, "{completed:?}");
    assert_eq!(lines[1]["total"].as_u64(), completed.last().copied());
    let rest: Vec<&str> = lines[completed.len()..].iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert!(rest[0].starts_with("creating new layer sha256:"));
    assert_eq!(rest[1..], ["writing manifest", "success"]);

    let (_, about) = server.post("/api/show", json!({"model": "half"})).await;
    assert_eq!((&about["details"]["format"], &about["details"]["quantization_level"]), (&json!("gguf"), &json!("F16")));
    assert_eq!(about["capabilities"], json!(["tools", "thinking", "completion"]));

    let mut odd = files.clone();
    let config = json!({"architectures": ["OwlForCausalLM"]}).to_string();
    let digest = hanzod::types::Digest::of(config.as_bytes()).to_string();
    server.post(&format!("/api/blobs/{digest}"), config.as_bytes()).await;
    odd["config.json"] = json!(digest);
    let (status, error) = server.post("/api/create", json!({"model": "odd", "files": odd, "quantize": "q8_0"})).await;
    let why = "the architecture \"OwlForCausalLM\" cannot be converted to GGUF";
    assert_eq!((status, &error["error"]), (400, &json!(why)));
}

#[test]
fn an_adapter_s_folder_will_do() {
    let home = Home::new();
    let (base, adapter, modelfile) =
        (home.path().join("base"), home.path().join("adapter"), home.path().join("Modelfile"));
    let plain = with_bytes("LlamaForCausalLM", json!({}));
    lay_out(&plain, &base);
    let LoRa { adapter: files, .. } = lora(&plain, false);
    lay_out(&files, &adapter);
    std::fs::write(&modelfile, "FROM ./base\nADAPTER ./adapter\n").unwrap();
    let create = |name: &str, more: &[&str]| {
        let arguments = [&["create", name, "-f", modelfile.to_str().unwrap()][..], more].concat();
        home.run(&arguments)
    };
    let words = bad(create("owl", &[]));
    assert!(words.contains("an adapter of safetensors needs a GGUF model"), "{words}");
    good(create("owl", &["-q", "f16"]));
    let shown = home.good(&["show", "--modelfile", "owl"]);
    assert_eq!(shown.lines().filter(|line| line.starts_with("ADAPTER ")).count(), 1, "{shown}");

    std::fs::write(&modelfile, "FROM owl\nADAPTER ./adapter\n").unwrap();
    good(create("eagle", &[]));
    let again = home.good(&["show", "--modelfile", "eagle"]);
    let adapter_of = |text: &str| text.lines().find(|line| line.starts_with("ADAPTER ")).map(str::to_owned);
    assert_eq!(adapter_of(&again), adapter_of(&shown));
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn what_was_quantised_knows_its_answers() {
    let home = Home::new();
    let server = Server::start(&home);
    let folder = tiny().join("tiny-safetensors");
    good(server.command(&home, &["create", "eighth", "-q", "q8_0"]).current_dir(&folder).output().unwrap());
    good(server.command(&home, &["create", "whole"]).current_dir(&folder).output().unwrap());
    let from = json!({"model": "fourth", "from": "whole", "quantize": "q4_K_M", "stream": false});
    assert_eq!(server.post("/api/create", from).await.1["status"], "success");
    for (model, kind) in [("eighth", "Q8_0"), ("fourth", "Q4_K_M")] {
        let messages = json!([{"role": "user", "content": "Ping"}]);
        let request = json!({"model": model, "messages": messages, "think": false, "stream": false,
                             "options": {"temperature": 0}});
        let (status, answer) = server.post("/api/chat", request).await;
        assert_eq!((status, &answer["message"]["content"]), (200, &json!("Pong")), "{model}: {answer}");
        let (_, about) = server.post("/api/show", json!({"model": model})).await;
        assert_eq!(about["details"]["quantization_level"], kind);
    }
}
