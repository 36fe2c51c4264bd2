//! Bodies cut into the JSON values that the documents describe.

use serde_json::Value;

/// One server-sent event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub name: Option<&'a str>,
    pub data: &'a str,
}

pub fn json(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| format!("no JSON: {error}: {}", shown(&String::from_utf8_lossy(text))))
}

/// The lines of a stream, the last one ended as well.
pub fn lines(body: &[u8]) -> Result<Vec<Value>, String> {
    let text = body.strip_suffix(b"\n").ok_or("the last line does not end")?;
    text.split(|byte| *byte == b'\n').map(json).collect()
}

/// The events of a stream, written as Ollama writes them: a name if there is one, one line of data, an empty line.
pub fn events(body: &[u8]) -> Result<Vec<Event<'_>>, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let text = text.strip_suffix("\n\n").ok_or("the last event does not end")?;
    text.split("\n\n").map(event).collect()
}

fn event(frame: &str) -> Result<Event<'_>, String> {
    let (name, data) = match frame.strip_prefix("event: ").and_then(|rest| rest.split_once('\n')) {
        Some((name, data)) => (Some(name), data),
        None => (None, frame),
    };
    match data.strip_prefix("data: ") {
        Some(data) if !data.contains('\n') => Ok(Event { name, data }),
        _ => Err(format!("no event: {}", shown(frame))),
    }
}

/// A text short enough for a message.
pub fn shown(text: &str) -> String {
    const MOST: usize = 500;
    if text.chars().count() <= MOST { text.into() } else { text.chars().take(MOST).chain(['…']).collect() }
}
