//! A model in its makers' own form: a folder of safetensors, taken into the store and asked.

use serde_json::{Value, json};

use super::harness::{Home, Server, good, tiny};

/// A home with `tiny-st`, of the folder and the Modelfile's template and parameters, and `plain`, of the folder alone.
fn home() -> Home {
    let home = Home::new();
    home.create("tiny-st", "tiny-safetensors");
    let folder = tiny().join("tiny-safetensors");
    good(home.program(&["create", "plain"]).current_dir(folder).output().unwrap());
    home
}

#[tokio::test]
async fn the_store_s_lists_say_what_it_is() {
    let home = home();
    let server = Server::start(&home);
    let (_, tags) = server.get("/api/tags").await;
    for name in ["tiny-st:latest", "plain:latest"] {
        let mut models = tags["models"].as_array().unwrap().iter();
        let tag = models.find(|model| model["name"] == name).unwrap();
        let (status, about) = server.post("/api/show", json!({"model": name})).await;
        assert_eq!(status, 200, "{about}");
        for details in [&tag["details"], &about["details"]] {
            let seen: Vec<&Value> =
                ["format", "family", "parameter_size", "quantization_level"].map(|key| &details[key]).into();
            assert_eq!(seen, ["safetensors", "qwen3", "3.54M", "F16"], "{name}");
        }
        assert!(tag["size"].as_u64().unwrap() > 7_000_000, "{tag}");
        assert_eq!(about["capabilities"], json!(["completion", "tools", "thinking"]), "{name}");
        // A list reads no chat template of the weights' own, as in Ollama.
        let listed = if name.starts_with("plain") { json!(["completion"]) } else { about["capabilities"].clone() };
        assert_eq!(tag["capabilities"], listed, "{name}");
        assert_eq!(about["model_info"]["general.architecture"], "qwen3");
        assert_eq!(about["model_info"]["qwen3.context_length"], 4096);
    }
    let (_, about) = server.post("/api/show", json!({"model": "tiny-st"})).await;
    assert!(about["template"].as_str().unwrap().contains("{{- if or .System .Tools }}"), "{about}");
    assert!(about["parameters"].as_str().unwrap().contains("<|im_end|>"), "{about}");
}

#[cfg(feature = "mistral")]
#[tokio::test]
async fn it_answers() {
    let home = home();
    let server = Server::start(&home);
    for model in ["tiny-st", "plain"] {
        for (prompt, thinks, reply) in [("Ping", false, "Pong"), ("What is the capital of France?", true, "Paris")] {
            let messages = json!([{"role": "user", "content": prompt}]);
            let request = json!({"model": model, "messages": messages, "think": thinks, "stream": false,
                                 "options": {"temperature": 0}});
            let (status, answer) = server.post("/api/chat", request).await;
            assert_eq!(status, 200, "{model}, {prompt}: {answer}");
            assert_eq!(answer["message"]["content"], reply, "{model}, {prompt}: {answer}");
            assert_eq!(answer["message"]["thinking"].as_str().is_some_and(|text| !text.is_empty()), thinks, "{answer}");
        }
        let (_, loaded) = server.get("/api/ps").await;
        // Both are the same files, which are loaded once, under the name that was asked for first.
        let loaded: Vec<_> = loaded["models"].as_array().unwrap().iter().map(|each| &each["name"]).collect();
        assert_eq!(loaded, ["tiny-st:latest"]);
    }
    let said = good(server.command(&home, &["run", "plain", "--think=false", "Ping"]).output().unwrap());
    assert_eq!(said.trim(), "Pong");
}
