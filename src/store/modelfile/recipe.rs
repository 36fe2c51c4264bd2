//! What a Modelfile's instructions amount to, by the rules of which one wins.

use serde_json::{Map, Value};

use super::parameter::{is_deprecated, typed_parameter};
use super::{Instruction, MessageRole, Modelfile, ModelfileError};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Model names and paths, as written, in order.
    pub from: Vec<String>,
    /// A path as written: the last one wins, but Ollama looks at all.
    pub adapters: Vec<String>,
    pub drafts: Vec<String>,
    pub template: Option<String>,
    pub system: Option<String>,
    pub renderer: Option<String>,
    pub parser: Option<String>,
    pub requires: Option<String>,
    pub licenses: Vec<String>,
    pub parameters: Map<String, Value>,
    pub messages: Vec<(MessageRole, String)>,
    /// Parameters that are no more, and were passed over.
    pub deprecated: Vec<String>,
}

impl Modelfile {
    /// # Errors
    /// [`ModelfileError`] for an unknown parameter, a value of the wrong type, or a REQUIRES that is no version.
    pub fn recipe(&self) -> Result<Recipe, ModelfileError> {
        let mut recipe = Recipe::default();
        for instruction in &self.instructions {
            recipe.add(instruction)?;
        }
        Ok(recipe)
    }
}

impl Recipe {
    fn add(&mut self, instruction: &Instruction) -> Result<(), ModelfileError> {
        match instruction {
            Instruction::From(value) => self.from.push(value.clone()),
            Instruction::License(value) => self.licenses.push(value.clone()),
            Instruction::Template(value) => self.template = Some(value.clone()),
            Instruction::System(value) => self.system = Some(value.clone()),
            Instruction::Adapter(value) => self.adapters.push(value.clone()),
            Instruction::Draft(value) => self.drafts.push(value.clone()),
            Instruction::Renderer(value) => self.renderer = Some(value.clone()),
            Instruction::Parser(value) => self.parser = Some(value.clone()),
            Instruction::Requires(value) if is_version(value) => self.requires = Some(value.clone()),
            Instruction::Requires(_) => return Err(ModelfileError::Requires),
            Instruction::Parameter { name, .. } if is_deprecated(name) => self.deprecated.push(name.clone()),
            Instruction::Parameter { name, value } => {
                let value = typed_parameter(name, value)?;
                match (self.parameters.get_mut(name), value) {
                    (Some(Value::Array(have)), Value::Array(more)) => have.extend(more),
                    (_, value) => drop(self.parameters.insert(name.clone(), value)),
                }
            }
            Instruction::Message { role, content } => self.messages.push((*role, content.clone())),
        }
        Ok(())
    }
}

/// A semantic version, perhaps after a `v`, perhaps without its minor or patch number.
fn is_version(text: &str) -> bool {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
    };
    let words = |part: &str| {
        part.split('.')
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
    };
    let parts = core.split('.').count();
    core.split('.').all(number)
        && (parts == 3 || (parts < 3 && pre.is_none() && build.is_none()))
        && pre.is_none_or(words)
        && build.is_none_or(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["0.14.0", "v1.2.3", "1", "1.2", "0.31.0-rc1+build.5"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "latest", "1.2.3.4", "01.2.3", "1.2-rc", "1.2.3-", "1..2", "vv1"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
