//! Calls as a name and `<arg_key>`, `<arg_value>` pairs, with the tags that models forget put back.

use serde_json::Map;

use super::json;
use super::out::Call;
use super::typed;
use crate::types::Tool;

const KEY: [&str; 2] = ["<arg_key>", "</arg_key>"];
const VALUE: [&str; 2] = ["<arg_value>", "</arg_value>"];

/// Reads a call, also where a model wrote its arguments, or all of it, as JSON. `closed`: nothing is missing at the end.
pub(super) fn call(text: &str, closed: bool, tools: &[Tool]) -> Option<Call> {
    let text = text.trim();
    if text.starts_with('{') {
        return json::call(serde_json::from_str(text).ok()?, "name", "arguments");
    }
    if let Some((name, arguments)) = text.split_once(char::is_whitespace).filter(|(_, rest)| rest.starts_with('{')) {
        return Some(Call { name: plausible(name)?, arguments: json::arguments(arguments)? });
    }
    let (name, pairs) = pairs(text, closed)?;
    let name = plausible(name)?;
    let typed = |(key, value): (&str, &str)| (key.to_owned(), typed::value(value, tools, &name, key));
    let arguments: Map<_, _> = pairs.into_iter().map(typed).collect();
    Some(Call { name, arguments })
}

/// Whether a body ends within a value.
pub(super) fn within_value(body: &str) -> bool {
    body.rfind(VALUE[0]).is_some_and(|at| !body[at..].contains(VALUE[1]))
}

/// A name that could be a tool's; rubbish between the tags is none.
fn plausible(name: &str) -> Option<String> {
    let odd = |char: char| char.is_whitespace() || char.is_control() || "<>{}[]()\"'`,;".contains(char);
    (!name.is_empty() && !name.contains(odd)).then(|| name.to_owned())
}

fn pairs(text: &str, closed: bool) -> Option<(&str, Vec<(&str, &str)>)> {
    let first = [KEY[0], KEY[1], VALUE[0]].into_iter().filter_map(|tag| text.find(tag)).min().unwrap_or(text.len());
    let (mut name, mut rest) = (text[..first].trim(), text[first..].trim_start());
    let mut pairs = Vec::new();
    if let Some(after) = rest.strip_prefix(KEY[1]) {
        // The first key's opening tag is missing.
        let (before, key) = name.split_once(char::is_whitespace)?;
        let (value, after) = value(after, closed)?;
        pairs.push((key.trim(), value));
        (name, rest) = (before, after);
    }
    while !rest.is_empty() {
        let after = rest.strip_prefix(KEY[0])?;
        let at = [KEY[1], VALUE[0]].into_iter().filter_map(|tag| after.find(tag)).min()?;
        let (key, after) = (after[..at].trim(), &after[at..]);
        let (value, after) = value(after.strip_prefix(KEY[1]).unwrap_or(after), closed)?;
        pairs.push((key, value));
        rest = after;
    }
    Some((name, pairs))
}

/// The value that comes next, and what follows it.
fn value(text: &str, closed: bool) -> Option<(&str, &str)> {
    let text = text.trim_start().strip_prefix(VALUE[0])?;
    let end = text.find(VALUE[1]);
    // Another pair before the closing tag: this value's own is missing.
    let next = text.find(VALUE[0]).filter(|next| end.is_none_or(|end| *next < end));
    let next = next.and_then(|next| text[..next].rfind(KEY[0]));
    match (next, end) {
        (Some(next), _) => Some((text[..next].trim_end(), &text[next..])),
        (None, Some(end)) => Some((&text[..end], text[end + VALUE[1].len()..].trim_start())),
        (None, None) => closed.then_some((text.trim_end(), "")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_tags_are_put_back() {
        let forms = [
            "f<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg_value>",
            "f a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg_value>",
            "f<arg_key>a<arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2</arg_value>",
            "f<arg_key>a</arg_key><arg_value>1<arg_key>b</arg_key><arg_value>2</arg_value>",
            "f<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>2",
            "f {\"a\": \"1\", \"b\": \"2\"}",
        ];
        for form in forms {
            let call = call(form, true, &[]).expect(form);
            assert_eq!((call.name.as_str(), json!(call.arguments)), ("f", json!({"a": "1", "b": "2"})), "{form}");
        }
    }

    #[test]
    fn rubbish_is_no_call() {
        for text in ["what is this", "f<arg_key>a</arg_key>", "f<arg_value>1</arg_value>", "<arg_key>a</arg_key>", ""] {
            assert_eq!(call(text, true, &[]), None, "{text}");
        }
        assert_eq!(call("f<arg_key>a</arg_key><arg_value>1", false, &[]), None);
    }
}
