//! Models that come, are listed, loaded, copied and go; and what else a server answers.

use axum::http::Method;
use hanzod::types::Digest;
use serde_json::json;

use crate::util::TestApp;

#[tokio::test]
async fn a_loaded_model_is_listed_until_it_is_unloaded() {
    let app = TestApp::with_tiny().await;
    app.post("/api/generate", json!({ "model": "tiny", "keep_alive": -1 })).await;
    let models = app.get("/api/ps").await.json();
    let model = &models["models"][0];
    let keys: Vec<&str> = model.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.join(" "), "name model size digest details expires_at size_vram context_length");
    assert_eq!((&model["name"], &model["context_length"]), (&json!("tiny:latest"), &json!(4096)));
    let year: u32 = model["expires_at"].as_str().unwrap()[..4].parse().unwrap();
    assert!((2200..10_000).contains(&year), "{year}");
    // another name for the same weights needs no other load
    app.post("/api/copy", json!({ "source": "tiny", "destination": "other" })).await;
    app.post("/api/generate", json!({ "model": "other" })).await;
    assert_eq!(app.engine.loads(), 1);
    app.post("/api/generate", json!({ "model": "other", "keep_alive": 0 })).await;
    assert_eq!(app.get("/api/ps").await.text(), "{\"models\":[]}");
}

#[tokio::test]
async fn pulls_from_elsewhere_are_read_at_the_door() {
    let app = TestApp::new();
    for (body, status, error) in [
        (json!({ "model": "x", "source": "nowhere" }), 400, "unknown source \"nowhere\""),
        (json!({ "model": "x", "source": "huggingface" }), 400, "\"x\" is not a repository on the hub"),
        (json!({ "model": "a/../b", "source": "mlx" }), 400, "is not a repository"),
        (json!({ "model": "https://u:p@a.example/x.gguf" }), 400, "it has a password in it"),
        (json!({ "model": "https://a.example/x.gguf?sha256=1" }), 400, "its sha256 is not"),
        (json!({ "model": "https://a.example/x.gguf", "name": "../x" }), 400, "invalid model name"),
        // The request cannot allow itself what the server's settings do not.
        (
            json!({ "model": "http://127.0.0.1:1/x.gguf", "insecure": true }),
            500,
            "refused to go to 127.0.0.1:1: not https",
        ),
    ] {
        let mut body = body;
        body["stream"] = false.into();
        let reply = app.post("/api/pull", body).await;
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"].as_str().unwrap().contains(error), "{}", reply.text());
    }
}

#[tokio::test]
async fn blobs_appear_whole_or_not_at_all() {
    let app = TestApp::new();
    let path = format!("/api/blobs/{}", Digest::of(b"hello"));
    let wrong = format!("/api/blobs/{}", Digest::of(b"other"));
    assert_eq!(app.send(Method::POST, &wrong, &[], "hello").await.status, 400);
    for path in [&path, &wrong] {
        assert_eq!(app.send(Method::HEAD, path, &[], "").await.status, 404);
    }
    for status in [201, 200] {
        let reply = app.send(Method::POST, &path, &[], "hello").await;
        assert_eq!((reply.status, reply.text().as_str()), (status, ""));
    }
    assert_eq!(app.send(Method::HEAD, &path, &[], "").await.status, 200);
}

#[tokio::test]
async fn a_list_that_is_empty_is_a_list() {
    let app = TestApp::new();
    assert_eq!(app.get("/api/tags").await.text(), "{\"models\":[]}");
    assert_eq!(app.get("/v1/models").await.text(), "{\"object\":\"list\",\"data\":[]}\n");
}

#[tokio::test]
async fn vectors() {
    let app = TestApp::with_tiny().await;
    app.create(json!({ "model": "embed", "from": "tiny", "info": { "capabilities": ["embedding"] } })).await;
    let request = json!({ "model": "embed", "input": ["a b", "c"], "dimensions": 2 });
    let reply = app.post("/api/embed", request).await.json();
    assert_eq!((&reply["embeddings"], &reply["prompt_eval_count"]), (&json!([[1, 0], [1, 0]]), &json!(7)));
    let request = json!({ "model": "embed", "input": "word ".repeat(5000), "truncate": false });
    let reply = app.post("/api/embed", request).await;
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (400, "{\"error\":\"the input length exceeds the context length\"}")
    );
    for (num_ctx, status) in [(8, 200), (4, 400), (0, 400)] {
        let options = json!({ "num_ctx": num_ctx });
        let request = json!({ "model": "embed", "input": "a b c", "truncate": false, "options": options });
        assert_eq!(app.post("/api/embed", request).await.status, status, "the context that is asked for: {num_ctx}");
    }
    let request = json!({ "model": "embed", "input": "a", "encoding_format": "base64" });
    let reply = app.post("/v1/embeddings", request).await.json();
    assert_eq!(reply["data"][0]["embedding"], "mpkZPwAAAADNzEw/");
}

#[tokio::test]
async fn the_server_names_itself_and_each_request() {
    let reply = TestApp::new().get("/api/version").await;
    assert_eq!(reply.text(), "{\"version\":\"0.33.0\"}");
    assert!(reply.header("server").unwrap().starts_with("hanzod/"));
    assert_eq!(reply.header("x-request-id").map(str::len), Some(24));
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn a_model_is_created_quantized() {
    let app = TestApp::with_models("tiny-f16.gguf", "tiny-f16.gguf").await;
    let reply = app.post("/api/create", json!({ "model": "small", "from": "tiny", "quantize": "q4_K_M" })).await;
    let lines = reply.lines();
    let bytes: Vec<(u64, u64)> = lines
        .iter()
        .filter(|line| line["status"] == "quantizing F16 model to Q4_K_M")
        .inspect(|line| assert_eq!(line["digest"], "0000000000000000000"))
        .map(|line| (line["completed"].as_u64().unwrap_or(0), line["total"].as_u64().unwrap()))
        .collect();
    assert!(bytes.len() > 10 && bytes.is_sorted(), "{bytes:?}");
    assert!(bytes.last().is_some_and(|(completed, total)| completed == total), "{bytes:?}");
    let after: Vec<&str> = lines[bytes.len()..].iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(after[0], "verifying conversion");
    assert!(after[1].starts_with("creating new layer sha256:"), "{after:?}");
    assert_eq!(after[after.len() - 2..], ["writing manifest", "success"]);
    let shown = app.post("/api/show", json!({ "model": "small" })).await.json();
    assert_eq!(shown["details"]["quantization_level"], "Q4_K_M");
    assert_eq!(shown["template"], app.post("/api/show", json!({ "model": "tiny" })).await.json()["template"]);
}

#[tokio::test]
async fn models_of_other_servers_are_names_and_no_more() {
    let app = TestApp::with_tiny().await;
    app.create(json!({
        "model": "far", "from": "gpt-oss:20b-cloud", "system": "Be far.", "parameters": { "temperature": 0 },
        "info": { "capabilities": ["completion", "tools"], "model_family": "gptoss", "context_length": 131_072 }
    }))
    .await;
    app.create(json!({ "model": "farther", "from": "far", "system": "Be farther." })).await;
    app.create(json!({ "model": "near", "from": "tiny", "remote_host": "box:99" })).await;

    let listed = app.get("/api/tags").await.json();
    let listed = |name: &str| {
        let models = listed["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap().clone()
    };
    let far = listed("far:latest");
    let keys: Vec<&str> = far.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.join(" "), "name model remote_model remote_host modified_at size digest details capabilities");
    assert_eq!(far["details"]["context_length"], 131_072);
    for (name, model, host) in [
        ("far:latest", "gpt-oss:20b", "https://ollama.com:443"),
        ("farther:latest", "gpt-oss:20b", "https://ollama.com:443"),
        ("near:latest", "tiny", "http://box:99"),
    ] {
        let shown = app.post("/api/show", json!({ "model": name })).await.json();
        assert_eq!((&shown["remote_model"], &shown["remote_host"]), (&json!(model), &json!(host)));
        assert_eq!((&listed(name)["remote_model"], &listed(name)["remote_host"]), (&json!(model), &json!(host)));
    }
    let shown = app.post("/api/show", json!({ "model": "far" })).await.json();
    let able = json!(["completion", "tools", "thinking"]);
    assert_eq!((&shown["system"], &shown["capabilities"]), (&json!("Be far."), &able));
    assert_eq!(shown["model_info"]["gptoss.context_length"], 131_072);
    assert_eq!(app.get("/v1/models/far").await.status, 200);

    let disabled = "{\"error\":\"ollama cloud is disabled: remote model is unavailable\"}";
    for (path, body) in [
        ("/api/generate", json!({ "model": "far", "prompt": "x" })),
        ("/api/chat", json!({ "model": "far", "messages": [{ "role": "user", "content": "x" }] })),
        ("/api/embed", json!({ "model": "far", "input": "x" })),
        ("/api/generate", json!({ "model": "gpt-oss:20b-cloud", "prompt": "x" })),
    ] {
        let reply = app.post(path, body).await;
        assert_eq!((reply.status, reply.text().as_str()), (403, disabled), "{path}");
    }
    for (path, body, status, error) in [
        (
            "/api/show",
            json!({ "model": "x:cloud" }),
            403,
            "ollama cloud is disabled: remote model details are unavailable",
        ),
        ("/api/show", json!({ "model": "far:local" }), 404, "model 'far:latest' not found"),
        ("/api/chat", json!({ "model": "far:local" }), 404, "model 'far:local' not found"),
        ("/api/create", json!({ "model": "y", "from": "x", "remote_host": "ftp://x" }), 400, "bad remote"),
        ("/api/create", json!({ "model": "y", "remote_host": "x" }), 400, "neither 'from' or 'files' was specified"),
        (
            "/api/create",
            json!({ "model": "y", "from": "x:cloud", "draft_files": { "d.gguf": Digest::of(b"d").to_string() } }),
            400,
            "DRAFT cannot be used with remote models",
        ),
    ] {
        let reply = app.post(path, body).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (status, Some(error)));
    }
    assert_eq!(app.engine.loads(), 0);
    assert_eq!(app.send(Method::DELETE, "/api/delete", &[], json!({ "model": "far" }).to_string()).await.status, 200);
}
