//! Models that are carried from one machine to another: as files, and over our own registry.

use std::process::Stdio;

use serde_json::Value;

use super::harness::{Home, Server, bad, good, tiny};

fn digest(home: &Home, model: &str) -> String {
    let list: Value = serde_json::from_str(&home.good(&["list", "--json"])).unwrap();
    let models = list["models"].as_array().unwrap().clone();
    let found = models.into_iter().find(|found| found["name"] == model).unwrap();
    found["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_carries_a_model_with_and_without_servers() {
    let (from, to) = (Home::new(), Home::new());
    from.create("tiny", "tiny-q4_k_m.gguf");
    let file = from.path().join("tiny.tar");
    let path = file.to_str().unwrap();
    from.good(&["export", "tiny", path]);
    assert_eq!(to.good(&["import", path]), "imported 'tiny:latest'\n");
    assert_eq!(digest(&from, "tiny:latest"), digest(&to, "tiny:latest"));

    let (one, two) = (Server::start(&from), Server::start(&to));
    let mut out = one.command(&from, &["export", "tiny", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut import = two.command(&to, &["import", "-", "Team/Second:x", "--json"]);
    let done: Value = serde_json::from_str(&good(import.stdin(out.stdout.take().unwrap()).output().unwrap())).unwrap();
    assert!(out.wait().unwrap().success());
    assert_eq!(done["models"], serde_json::json!(["Team/Second:x"]));
    assert_eq!(digest(&to, "Team/Second:x"), digest(&from, "tiny:latest"));

    let words = bad(one.command(&from, &["export", "nobody", path]).output().unwrap());
    assert!(words.contains("not found"), "{words}");
    assert!(std::fs::metadata(&file).unwrap().len() > 1 << 20, "what was there is left");
    let weights = tiny().join("tiny-q4_k_m.gguf");
    let words = bad(two.command(&to, &["import", weights.to_str().unwrap(), "x"]).output().unwrap());
    assert!(words.contains("not a model's archive"), "{words}");
}

#[test]
fn a_file_of_this_machine_is_linked() {
    let home = Home::new();
    let folder = home.path().join(".lmstudio/models/maker/Tiny-GGUF");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tiny.gguf");
    std::fs::copy(tiny().join("tiny-q4_k_m.gguf"), &file).unwrap();
    let found: Value = serde_json::from_str(&home.good(&["link", "--scan", "--json"])).unwrap();
    assert_eq!(found["files"][0]["path"], file.to_str().unwrap());
    // A server has no part in it, and finds the model all the same.
    let server = Server::start(&home);
    good(server.command(&home, &["link", file.to_str().unwrap(), "linked"]).output().unwrap());
    let words = good(server.command(&home, &["df"]).output().unwrap());
    assert!(words.contains("linked:latest"), "{words}");
    good(server.command(&home, &["verify"]).output().unwrap());
    good(server.command(&home, &["rm", "linked"]).output().unwrap());
    assert!(file.exists());
}
