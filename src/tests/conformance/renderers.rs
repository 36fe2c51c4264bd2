//! `renderers.jsonl`: conversations into prompts by the built-in renderers.

use serde_json::Value;

use hanzod::prompt::renderers;
use hanzod::prompt::{Conversation, Rendered};

use super::decode;

#[test]
fn renderers() {
    let better: Vec<(String, &str)> =
        BETTER.iter().flat_map(|(ids, defect)| each(ids).map(|id| (id, *defect))).collect();
    let better = better.iter().map(|(id, defect)| (id.as_str(), *defect)).collect();
    super::run("renderers.jsonl", &better, check);
}

/// Where the recorded prompt is a fault, by the defects' numbers in the recordings' README: renderers, their cases, and what
/// the fault is.
const BETTER: [((&str, &str), &str); 3] = [
    (
        PREFILLS,
        "8: an assistant's text that comes last is closed, though the parser takes what follows for its continuation",
    ),
    (("olmo3 olmo3.1", "prefill-thinking-only prefill-empty"), "8: an empty answer to go on with opens two turns"),
    (
        ("nemotron-3-nano nemotron-3.5-nano gemma4 gemma4-small gemma4-large glm-ocr", "images-system-assistant"),
        "9: images that are not shown are not counted, and later markers mean the wrong ones",
    ),
];

const PREFILLS: (&str, &str) = (
    "cogito deepseek3.1 functiongemma gemma4 gemma4-small gemma4-large glimmer glm-ocr laguna nemotron-3-nano \
     nemotron-3.5-nano olmo3-think olmo3-32b-think",
    "only-assistant prefill prefill-think prefill-nothink prefill-spaces",
);

fn each((renderers, cases): &(&str, &str)) -> impl Iterator<Item = String> {
    let ids = renderers
        .split(' ')
        .flat_map(|renderer| cases.split(' ').map(move |case| format!("renderers/{renderer}/{case}")));
    ids.collect::<Vec<_>>().into_iter()
}

/// What is better there is that the prompt stops where the recorded one closes the text.
#[test]
fn prefills_are_continued() {
    let prefills: Vec<String> = each(&PREFILLS).collect();
    let cases = super::cases("renderers.jsonl");
    let cases: Vec<_> = cases.iter().filter(|case| prefills.iter().any(|id| case["id"] == **id)).collect();
    assert!(cases.len() > 40, "only {} prefills recorded", cases.len());
    for case in cases {
        let have = render(case).expect("a prefill renders").text;
        let want = dated(case["prompt"].as_str().expect("a prefill has a prompt"));
        let text =
            case["messages"].as_array().and_then(|list| list.last()).expect("a last message")["content"].as_str();
        let text = text.expect("a prefill has text").trim();
        assert!(want.starts_with(&have) && have.trim_end().ends_with(text), "{}: {have:?}", case["id"]);
    }
}

/// And here, that a marker means the image of its own message: the conversation's third image stands beside its third text.
#[test]
fn markers_count_every_image() {
    let numbered: Vec<String> = each(&BETTER[2].0).collect();
    for case in super::cases("renderers.jsonl").iter().filter(|case| numbered.iter().any(|id| case["id"] == **id)) {
        let have = render(case).expect("images render").text;
        assert!(have.contains("[img-2] More."), "{}: {have:?}", case["id"]);
    }
}

fn check(case: &Value) -> Result<(), String> {
    if case["kind"] == "info" {
        let found = case["renderer"].as_str().and_then(renderers::find);
        let have = found.and_then(|renderer| renderer.leading_bos()).unwrap_or_default();
        return if case["leading_bos"] == have { Ok(()) } else { Err(format!("leading text {have:?}")) };
    }
    // What a request may say of thinking is the API's to check, before there is a conversation.
    if decode::think(case).is_none() {
        return Ok(());
    }
    match (render(case), case["error"].as_str()) {
        (Ok(have), None) => same(&have, case),
        (Err(have), Some(want)) if have == want => Ok(()),
        (have, want) => Err(format!("{have:?} for error {want:?}")),
    }
}

fn render(case: &Value) -> Result<Rendered, String> {
    let name = case["renderer"].as_str().expect("each case names a renderer");
    let think = decode::think(case).ok_or("bad think value")?;
    let conversation = Conversation { messages: decode::messages(case), tools: decode::tools(case), think };
    let renderer = renderers::find(name).ok_or_else(|| format!("unknown renderer {name:?}"))?;
    renderer.render(&conversation).map_err(|error| error.to_string())
}

fn same(have: &Rendered, case: &Value) -> Result<(), String> {
    let count = case["image_count"].as_u64().unwrap_or(0);
    if have.images.len() as u64 != count {
        return Err(format!("{} images for {count}", have.images.len()));
    }
    let wanted: Vec<String> = match case["prompts"].as_array() {
        Some(seen) => seen.iter().filter_map(Value::as_str).map(dated).collect(),
        None => case["prompt"].as_str().map(dated).into_iter().collect(),
    };
    if wanted.contains(&have.text) {
        return Ok(());
    }
    let want = wanted.first().ok_or("the case has no prompt")?;
    Err(difference(&have.text, want))
}

/// The text with the dates that stand for today's.
fn dated(text: &str) -> String {
    let today = chrono::Local::now().date_naive();
    let yesterday = today.pred_opt().expect("there was a yesterday");
    text.replace("<DATE>", &today.to_string()).replace("<YESTERDAY>", &yesterday.to_string())
}

/// Both texts around the first place where they part.
fn difference(have: &str, want: &str) -> String {
    let same = have.chars().zip(want.chars()).take_while(|(have, want)| have == want).count();
    let window = |text: &str| text.chars().skip(same.saturating_sub(60)).take(200).collect::<String>();
    format!("after {same} characters\n  have {:?}\n  want {:?}", window(have), window(want))
}
