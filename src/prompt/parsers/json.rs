//! JSON as models write it in calls.

use serde_json::{Map, Value};

use super::out::{Call, Item};

/// Reads one object with a name and its arguments.
pub(super) fn named(text: &str, name: &str, arguments: &str) -> Option<Vec<Item>> {
    let object = serde_json::from_str(text).ok()?;
    Some(vec![Item::Call(call(object, name, arguments)?)])
}

/// The call that an object describes.
pub(super) fn call(mut object: Map<String, Value>, name: &str, arguments: &str) -> Option<Call> {
    let Some(Value::String(name)) = object.remove(name) else {
        return None;
    };
    let arguments = match object.remove(arguments) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return None,
    };
    (!name.is_empty()).then_some(Call { name, arguments })
}

/// Reads arguments.
pub(super) fn arguments(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// Whether `text` ends within a string.
pub(super) fn within_string(text: &str) -> bool {
    let mut scan = Scan::default();
    text.bytes().for_each(|byte| scan.byte(byte));
    scan.within
}

/// The length of the object that `text` begins with, braces in strings not counted. `None` while it is open.
pub(super) fn object_end(text: &str) -> Option<usize> {
    Scan::default().object_end(text)
}

/// Where strings and objects begin and end, in text that comes in pieces.
#[derive(Default)]
pub(super) struct Scan {
    within: bool,
    escaped: bool,
    depth: usize,
}

impl Scan {
    /// The length of what belongs to the object that began in earlier text or begins here. `None` while it is open.
    pub fn object_end(&mut self, text: &str) -> Option<usize> {
        text.bytes().enumerate().find_map(|(at, byte)| {
            self.byte(byte);
            (byte == b'}' && !self.within && self.depth == 0).then_some(at + 1)
        })
    }

    fn byte(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.within => self.escaped = true,
            b'"' => self.within = !self.within,
            b'{' if !self.within => self.depth += 1,
            b'}' if !self.within => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_ends_at_its_own_brace() {
        let text = r#"{"a": "}\"{", "b": {}} rest"#;
        assert_eq!(object_end(text), text.find(" rest"));
        assert_eq!(object_end(&text[..20]), None);
        let mut scan = Scan::default();
        assert_eq!(scan.object_end(&text[..9]), None);
        assert_eq!(scan.object_end(&text[9..]), text[9..].find(" rest"));
        assert!(within_string(r#"{"a": "b \" "#));
    }
}
