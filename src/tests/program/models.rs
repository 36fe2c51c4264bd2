//! The commands that make, list and remove models, with a server and without one.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::harness::{Home, Server, bad, good, tiny};

/// Every test of this file holds for both.
struct Place {
    home: Home,
    server: Option<Server>,
}

impl Place {
    fn both() -> [Self; 2] {
        let home = Home::new();
        let server = Some(Server::start(&home));
        [Self { home, server }, Self { home: Home::new(), server: None }]
    }

    fn command(&self, arguments: &[&str]) -> Command {
        match &self.server {
            Some(server) => server.command(&self.home, arguments),
            None => self.home.program(arguments),
        }
    }

    fn good(&self, arguments: &[&str]) -> String {
        good(self.command(arguments).output().unwrap())
    }

    fn bad(&self, arguments: &[&str]) -> String {
        bad(self.command(arguments).output().unwrap())
    }

    fn create(&self) {
        let modelfile = tiny().join("Modelfile");
        self.good(&["create", "tiny", "-f", modelfile.to_str().unwrap()]);
    }

    fn names(&self) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.good(&["list", "--json"])).unwrap();
        let models = list["models"].as_array().unwrap().iter();
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn from_create_to_rm() {
    for place in Place::both() {
        assert_eq!(place.good(&["list"]).lines().count(), 1, "a header, and no models");
        place.create();
        let table = place.good(&["ls"]);
        let row = table.lines().nth(1).unwrap();
        assert!(row.starts_with("tiny:latest ") && row.contains(" 7.1 MB ") && row.contains(" ago"), "{table}");
        place.good(&["cp", "tiny", "second"]);
        assert_eq!(place.names().len(), 2);
        assert_eq!(place.good(&["list", "sec"]).lines().count(), 2);
        assert_eq!(place.good(&["rm", "second", "tiny"]), "deleted 'second'\ndeleted 'tiny'\n");
        assert!(place.names().is_empty());
    }
}

#[test]
fn show_and_each_of_its_flags() {
    for place in Place::both() {
        place.create();
        let about = place.good(&["show", "tiny"]);
        for words in ["architecture        qwen3", "quantization        F16", "tools", "thinking", "<|im_end|>"] {
            assert!(about.contains(words), "{about}");
        }
        assert!(
            place.good(&["show", "tiny", "--template"]).starts_with("{{- if or .System .Tools }}<|im_start|>system\n")
        );
        let parameters = place.good(&["show", "tiny", "--parameters"]);
        assert!(parameters.starts_with("stop                           \"<|im_end|>\"\n"), "{parameters}");
        assert_eq!(place.good(&["show", "tiny", "--system"]).trim(), "");
        assert_eq!(place.good(&["show", "tiny", "--license"]).trim(), "");
        assert!(place.good(&["show", "tiny", "--verbose"]).contains("blk.0.attn_q.weight"));
        let json: Value = serde_json::from_str(&place.good(&["show", "tiny", "--json"])).unwrap();
        assert_eq!(json["details"]["family"], "qwen3");
        place.bad(&["show", "tiny", "--system", "--license"]);

        // What it says of a model makes the same model again.
        let modelfile = place.home.path().join("again");
        std::fs::write(&modelfile, place.good(&["show", "tiny", "--modelfile"])).unwrap();
        place.good(&["create", "again", "-f", modelfile.to_str().unwrap()]);
        let list: Value = serde_json::from_str(&place.good(&["list", "--json"])).unwrap();
        assert_eq!(list["models"][0]["digest"], list["models"][1]["digest"], "{list}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    for place in Place::both() {
        for arguments in [["show", "absent"].as_slice(), &["rm", "absent"], &["cp", "absent", "b"], &["stop", "absent"]]
        {
            assert!(place.bad(arguments).contains("absent"), "{arguments:?}");
        }
        place.bad(&["run", "no name", "x"]);
        place.bad(&["create", "x", "-f", "/no/such/file"]);
        let modelfile = place.home.path().join("Modelfile");
        for text in ["", "FROM", "FROM ./absent.gguf", "NONSENSE x\n"] {
            std::fs::write(&modelfile, text).unwrap();
            place.bad(&["create", "x", "-f", modelfile.to_str().unwrap()]);
        }
        assert!(place.names().is_empty());
    }
}

#[test]
fn what_needs_no_model() {
    let home = Home::new();
    assert_eq!(home.good(&["--version"]), format!("hanzod {}\n", env!("CARGO_PKG_VERSION")));
    assert!(home.good(&["help"]).contains("serve"));
    assert_eq!(home.run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(home.good(&["ps"]).lines().count(), 1);
    assert_eq!(home.good(&["ps", "--json"]).trim(), "{\n  \"models\": []\n}");
}

/// `hanzod list | head -1`: the reader leaves, and nobody panics.
#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = Home::new();
    home.create("tiny", "tiny-q4_k_m.gguf");
    for arguments in [["list"].as_slice(), &["list", "--json"], &["show", "tiny", "--verbose", "--json"]] {
        let mut child = home.program(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && words.is_empty(), "{arguments:?}: {words}");
    }
    // Nobody looks how it goes, and it is done all the same.
    let modelfile = tiny().join("Modelfile");
    let mut command = home.program(&["create", "unseen", "-f", modelfile.to_str().unwrap()]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(home.good(&["list"]).contains("unseen:latest"));
}

/// A proxy is for the world outside: a server on this machine is not asked through it.
#[test]
fn a_proxy_is_not_asked_for_what_is_here() {
    let home = Home::new();
    let server = Server::start(&home);
    home.create("tiny", "tiny-q4_k_m.gguf");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = server.command(&home, &["list"]);
    command.env("http_proxy", format!("http://{gone}")).env("OLLAMA_MODELS", home.path().join("empty"));
    assert!(good(command.output().unwrap()).contains("tiny:latest"), "it was the server that answered");
}

#[cfg(feature = "llama")]
mod with_an_engine {
    use std::io::Write as _;

    use super::*;

    const SKY: &str = "The sky is blue because air scatters short waves of sunlight more than long ones. \
                       Blue light is spread in every direction, so we see it wherever we look.";

    #[test]
    fn run_asks_and_stop_unloads() {
        for place in Place::both() {
            place.create();
            assert_eq!(place.good(&["run", "tiny", "--think=false", "why is the sky blue?"]).trim_end(), SKY);
            assert_eq!(place.good(&["run", "tiny", "--think=false", "why", "is", "the sky blue?"]).trim_end(), SKY);
            let thought = place.good(&["run", "tiny", "why is the sky blue?"]);
            assert!(thought.starts_with("Thinking...\n") && thought.trim_end().ends_with(SKY), "{thought}");
            let hidden = place.good(&["run", "tiny", "--hidethinking", "why is the sky blue?"]);
            assert_eq!(hidden.trim_end(), SKY);
            let loaded = place.good(&["ps"]);
            match &place.server {
                Some(_) => {
                    assert!(loaded.lines().nth(1).unwrap().starts_with("tiny:latest "), "{loaded}");
                    place.good(&["stop", "tiny"]);
                    assert_eq!(place.good(&["ps"]).lines().count(), 1);
                }
                None => assert_eq!(loaded.lines().count(), 1, "nothing stays loaded: {loaded}"),
            }
        }
    }

    #[test]
    fn run_reads_what_is_piped() {
        for place in Place::both() {
            place.create();
            for (piped, arguments) in [
                ("why is the sky blue?\n", ["run", "tiny", "--think=false"].as_slice()),
                ("why is\n", &["run", "tiny", "--think=false", "the sky blue?"]),
            ] {
                let mut command = place.command(arguments);
                let mut child =
                    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                child.stdin.take().unwrap().write_all(piped.as_bytes()).unwrap();
                assert_eq!(good(child.wait_with_output().unwrap()).trim_end(), SKY);
            }
            let formatted =
                place.good(&["run", "tiny", "--think=false", "--format", "json", "Describe a person as JSON."]);
            let person: Value = serde_json::from_str(&formatted).unwrap();
            assert_eq!(person["name"], "Ada");
        }
    }
}
