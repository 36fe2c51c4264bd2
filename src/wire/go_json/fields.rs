//! How JSON is stored in plain fields: what Go does for its own types, and for those of ours that stand in requests.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Context, Decode, JsonError, Kind, Node};
use crate::go::duration::GoDuration;
use crate::types::chat::OrderedMap;
use crate::types::{Image, KeepAlive, Think, ThinkLevel};

impl Decode for bool {
    fn go_type() -> Cow<'static, str> {
        "bool".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match node.kind {
            Kind::Bool(flag) => *self = flag,
            Kind::Null => {}
            _ => context.mismatch(node, "bool"),
        }
        Ok(())
    }
}

impl Decode for String {
    fn go_type() -> Cow<'static, str> {
        "string".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match &node.kind {
            Kind::String(text) => *self = text.clone().into_owned(),
            Kind::Null => {}
            _ => context.mismatch(node, "string"),
        }
        Ok(())
    }
}

macro_rules! decode_number {
    ($type:ty as $name:literal) => {
        impl Decode for $type {
            fn go_type() -> Cow<'static, str> {
                $name.into()
            }

            fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
                match node.kind {
                    Kind::Number(text) => {
                        match text.parse::<$type>().ok().filter(|number| (*number as f64).is_finite()) {
                            Some(number) => *self = number,
                            None => context.refuse(format!("number {text}"), $name),
                        }
                    }
                    Kind::Null => {}
                    _ => context.mismatch(node, $name),
                }
                Ok(())
            }
        }
    };
}
decode_number!(i64 as "int");
decode_number!(u32 as "uint32");
decode_number!(f32 as "float32");
decode_number!(f64 as "float64");

/// A pointer: `null` takes away what an earlier field of the name had set.
impl<T: Decode> Decode for Option<T> {
    fn go_type() -> Cow<'static, str> {
        T::go_type()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        if matches!(node.kind, Kind::Null) {
            *self = None;
            return Ok(());
        }
        self.get_or_insert_default().decode(node, context)
    }
}

/// A slice: `null` empties it.
impl<T: Decode> Decode for Vec<T> {
    fn go_type() -> Cow<'static, str> {
        format!("[]{}", T::go_type()).into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match &node.kind {
            Kind::Array(items) => {
                self.clear();
                for item in items {
                    let mut value = T::default();
                    value.decode(item, context)?;
                    self.push(value);
                }
            }
            Kind::Null => self.clear(),
            _ => context.mismatch(node, &Self::go_type()),
        }
        Ok(())
    }
}

impl<T: Decode> Decode for OrderedMap<T> {
    fn go_type() -> Cow<'static, str> {
        format!("map[string]{}", T::go_type()).into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        if matches!(node.kind, Kind::Null) {
            self.0.clear();
        }
        for (name, value) in context.entries(node, &Self::go_type()).unwrap_or_default() {
            let mut item = T::default();
            item.decode(value, context)?;
            self.0.retain(|(known, _)| known != name);
            self.0.push((name.clone().into_owned(), item));
        }
        Ok(())
    }
}

/// Any value. A number that no float holds is told, as Go does.
impl Decode for Value {
    fn go_type() -> Cow<'static, str> {
        "interface {}".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        match node.to_value() {
            Some(value) => *self = value,
            None => context.refuse(format!("number {}", String::from_utf8_lossy(node.raw)), "float64"),
        }
        Ok(())
    }
}

impl Decode for Map<String, Value> {
    fn go_type() -> Cow<'static, str> {
        "map[string]interface {}".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        if matches!(node.kind, Kind::Null) {
            self.clear();
        }
        for (name, value) in context.entries(node, &Self::go_type()).unwrap_or_default() {
            let mut item = Value::Null;
            item.decode(value, context)?;
            self.insert(name.clone().into_owned(), item);
        }
        Ok(())
    }
}

/// JSON text kept as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw(pub String);

impl Decode for Raw {
    fn go_type() -> Cow<'static, str> {
        "json.RawMessage".into()
    }

    fn decode(&mut self, node: &Node<'_>, _: &mut Context) -> Result<(), JsonError> {
        self.0 = String::from_utf8_lossy(node.raw).into_owned();
        Ok(())
    }
}

impl Decode for Vec<Image> {
    fn go_type() -> Cow<'static, str> {
        "[]api.ImageData".into()
    }

    fn decode(&mut self, node: &Node<'_>, context: &mut Context) -> Result<(), JsonError> {
        self.clear();
        let items = match &node.kind {
            Kind::Array(items) => items,
            Kind::Null => return Ok(()),
            _ => {
                context.mismatch(node, &Self::go_type());
                return Ok(());
            }
        };
        for item in items {
            let mut bytes = Vec::new();
            match &item.kind {
                Kind::String(text) => match from_base64(text) {
                    Ok(decoded) => bytes = decoded,
                    Err(error) => context.remember(JsonError::Custom(error)),
                },
                Kind::Null => {}
                _ => context.mismatch(item, "api.ImageData"),
            }
            self.push(Image(bytes.into()));
        }
        Ok(())
    }
}

/// Base64 with padding; line ends in it are passed over.
///
/// # Errors
/// Go's text with the first byte that cannot be.
pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let text: Cow<'_, str> =
        if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() };
    STANDARD.decode(text.as_bytes()).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
        };
        format!("illegal base64 data at input byte {at}")
    })
}

impl Decode for Option<KeepAlive> {
    fn go_type() -> Cow<'static, str> {
        "api.Duration".into()
    }

    fn decode(&mut self, node: &Node<'_>, _: &mut Context) -> Result<(), JsonError> {
        let unsupported = |kind| Err(JsonError::Custom(format!("Unsupported type: '{kind}'")));
        *self = match &node.kind {
            Kind::Null => None,
            Kind::Number(text) => Some(KeepAlive::from_seconds(text.parse().unwrap_or(f64::INFINITY))),
            Kind::String(text) => {
                let duration = GoDuration::parse(text).map_err(|error| JsonError::Custom(error.to_string()))?;
                Some(KeepAlive::from_nanos(duration.0))
            }
            Kind::Bool(_) => return unsupported("bool"),
            Kind::Array(_) => return unsupported("[]interface {}"),
            Kind::Object(_) => return unsupported("map[string]interface {}"),
        };
        Ok(())
    }
}

impl Decode for Option<Think> {
    fn go_type() -> Cow<'static, str> {
        "api.ThinkValue".into()
    }

    fn decode(&mut self, node: &Node<'_>, _: &mut Context) -> Result<(), JsonError> {
        *self = match &node.kind {
            Kind::Null => None,
            Kind::Bool(true) => Some(Think::On),
            Kind::Bool(false) => Some(Think::Off),
            Kind::String(text) => Some(Think::Level(match &**text {
                "low" => ThinkLevel::Low,
                "medium" => ThinkLevel::Medium,
                "high" => ThinkLevel::High,
                "max" => ThinkLevel::Max,
                _ => {
                    return Err(JsonError::Custom(format!(
                        "invalid think value: {text:?} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
                    )));
                }
            })),
            _ => {
                return Err(JsonError::Custom(
                    "think must be a boolean or string (\"high\", \"medium\", \"low\", \"max\", true, or false)".into(),
                ));
            }
        };
        Ok(())
    }
}
