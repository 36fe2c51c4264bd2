//! The Modelfile that would make a model again.

use std::path::PathBuf;

use serde_json::Value;

use super::{Instruction, MessageRole, Modelfile, parameter_text};
use crate::store::{Model, ModelFormat};

impl Model {
    /// A Modelfile that would make this model, in the order in which `show` prints it.
    pub fn modelfile(&self) -> Modelfile {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let weights = match self.format() {
            Some(ModelFormat::Gguf) => self.gguf_layers().map(|layer| text(self.path(layer))).collect(),
            _ => vec![self.name.short()],
        };
        let set = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let mut instructions: Vec<Instruction> = weights.into_iter().map(Instruction::From).collect();
        instructions.extend(self.adapters().into_iter().map(text).map(Instruction::Adapter));
        instructions.extend(self.drafts().into_iter().map(text).map(Instruction::Draft));
        instructions.extend(self.projectors().into_iter().map(text).map(Instruction::From));
        let template = self.template.clone().unwrap_or_else(|| "{{ .Prompt }}".to_owned());
        instructions.push(Instruction::Template(template));
        instructions.extend(self.system.clone().map(Instruction::System));
        instructions.extend(set(&self.config.renderer).map(Instruction::Renderer));
        instructions.extend(set(&self.config.parser).map(Instruction::Parser));
        instructions.extend(self.parameter_lines().map(|(name, value)| Instruction::Parameter { name, value }));
        instructions.extend(self.licenses.iter().cloned().map(Instruction::License));
        instructions.extend(self.messages.iter().filter_map(|message| {
            let role = MessageRole::of_str(message.role.as_str())?;
            Some(Instruction::Message { role, content: message.content.clone() })
        }));
        Modelfile { instructions }
    }

    /// Each parameter's name and text, sorted by name; a list's elements each for itself.
    pub fn parameter_lines(&self) -> impl Iterator<Item = (String, String)> {
        let mut parameters: Vec<(&String, &Value)> = self.parameters.iter().collect();
        parameters.sort_unstable_by_key(|(name, _)| *name);
        parameters.into_iter().flat_map(|(name, value)| {
            let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            values.iter().map(|value| (name.clone(), parameter_text(value)))
        })
    }
}
