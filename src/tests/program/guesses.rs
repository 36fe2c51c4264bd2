//! A model with a DRAFT, from the Modelfile to the answer: the log tells how many tokens were guessed, and how many right.

use serde_json::json;

use super::harness::{Home, Server, tiny, wait_until};

/// The counts of the last answer: tokens guessed and accepted.
fn counts(server: &Server) -> Option<(u64, u64)> {
    let said = server.said();
    let line = said.lines().rev().find(|line| line.contains("an answer is whole"))?;
    let number = |name: &str| {
        let value = line.split_once(&format!("{name}="))?.1;
        value.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    };
    Some((number("guessed_tokens")?, number("accepted_tokens")?))
}

async fn count_to_fifty(home: &Home, speculative: &str) -> (String, (u64, u64)) {
    let mut command = home.program(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("HANZOD_SPECULATIVE", speculative).env("HANZOD_LOG", "hanzod=debug").env("NO_COLOR", "1");
    let server = Server::start_with(command, 1);
    let request = json!({"model": "drafted", "prompt": "Count from 1 to 50.", "think": false, "stream": false,
        "options": {"temperature": 0}});
    let (status, answer) = server.post("/api/generate", request).await;
    assert_eq!(status, 200, "{answer}");
    wait_until("the line that counts", || counts(&server).is_some());
    (answer["response"].as_str().unwrap().to_owned(), counts(&server).unwrap())
}

#[tokio::test]
async fn a_draft_of_the_modelfile_guesses() {
    let home = Home::new();
    let text = std::fs::read_to_string(tiny().join("Modelfile")).unwrap();
    let files =
        format!("FROM {}\nDRAFT {}", tiny().join("tiny-f16.gguf").display(), tiny().join("tiny-q8_0.gguf").display());
    let modelfile = home.path().join("Modelfile");
    std::fs::write(&modelfile, text.replacen("FROM ./tiny-f16.gguf", &files, 1)).unwrap();
    home.good(&["create", "drafted", "-f", modelfile.to_str().unwrap()]);

    let (plain, counts) = count_to_fifty(&home, "off").await;
    assert_eq!(counts, (0, 0));
    assert!(plain.ends_with("48, 49, 50"), "{plain}");
    let (guessed, (guesses, right)) = count_to_fifty(&home, "always").await;
    assert_eq!(guessed, plain);
    // The same weights, a little coarser, know most of it.
    assert!(right <= guesses && right > 50, "{right} of {guesses}");
}
