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
    let (mut within, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            _ => {}
        }
    }
    within
}

/// The length of the object that `text` begins with, braces in strings not counted. `None` while it is open.
pub(super) fn object_end(text: &str) -> Option<usize> {
    let (mut within, mut escaped, mut depth) = (false, false, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if within => escaped = true,
            b'"' => within = !within,
            b'{' if !within => depth += 1,
            b'}' if !within => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
