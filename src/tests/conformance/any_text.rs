//! Texts nobody recorded: a model's tags, quotes and words in no order at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use hanzod::prompt::parsers::{self, ParserEntry};

use super::parsers::{chunks, joined};

const SIGNS: [&str; 18] =
    ["{", "}", "\"", "'", "[", "]", "(", ")", "<", "=", ",", "\\", "call:", "to=", "🎈", " ", "\n", "\n\n"];

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        if list.is_empty() { "" } else { list[self.below(list.len())] }
    }
}

/// However a text is cut, the answer is the same; and no word of it is lost.
#[test]
fn any_text() {
    let cases = super::cases("parsers.jsonl");
    let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for case in &cases {
        let chunks = case["pieces"]["chunks"].as_array().into_iter().flatten().filter_map(Value::as_str);
        said.entry(case["parser"].as_str().expect("a parser")).or_default().extend(chunks);
    }
    let parameters = json!({"properties": {"harbour": {"type": "string"}}});
    let tools = json!([{"type": "function", "function": {"name": "ferry_times", "parameters": parameters}}]);
    for (name, said) in said {
        let Some(entry) = parsers::find(name) else { continue };
        let said: Vec<&str> = said.into_iter().collect();
        let mut dice = Dice(1);
        for round in 0..300 {
            let think = [json!(true), json!(false), Value::Null][round % 3].clone();
            let case = json!({"tools": tools, "think": think});
            holds(entry, &case, &text(entry, &said, 1 + round % 12, &mut dice));
        }
    }
}

fn text(entry: &ParserEntry, said: &[&str], length: usize, dice: &mut Dice) -> String {
    let part = |number: usize| match dice.below(5) {
        0 => dice.pick(&SIGNS).to_owned(),
        1 => word(number),
        2 | 3 => dice.pick(entry.preserved).to_owned(),
        _ => dice.pick(said).to_owned(),
    };
    (0..length).map(part).collect()
}

/// A word that is found again.
fn word(number: usize) -> String {
    format!("w{number}x")
}

fn holds(entry: &ParserEntry, case: &Value, text: &str) {
    let (name, whole) = (entry.name, joined(entry, case, &[text]));
    for size in [1, 2, 5] {
        assert_eq!(joined(entry, case, &chunks(text, size)), whole, "{name} by {size}: {text:?}");
    }
    let mut words = (0..12).map(word).filter(|word| text.contains(word));
    // Not shown by design: thoughts nobody asked for, the words of a header, tool results a model makes up.
    let shown = match name {
        "gemma4" | "laguna" | "poolside-v1" => case["think"] == true,
        "glimmer" => case["think"] != false,
        "gemma4-no-thinking" | "harmony" | "cogito" => false,
        _ => true,
    };
    let have = whole.to_string();
    assert!(!shown || words.all(|word| have.contains(&word)), "{name} loses a word of {text:?}: {have}");
}
