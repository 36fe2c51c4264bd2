//! A conversation through a Go template: whole, turn by turn, or a text with a gap.

use std::collections::BTreeSet;

use super::go_template::{Budget, Node, Template, TemplateError, Value, names_field};
use super::{Conversation, PromptError, Rendered, images, turns, values};
use crate::types::{Message, Role, Think};

/// A model's Go template.
#[derive(Clone, Debug)]
pub struct GoPrompt {
    template: Template,
    names: BTreeSet<String>,
}

impl From<TemplateError> for PromptError {
    fn from(error: TemplateError) -> Self {
        Self(error.0)
    }
}

impl GoPrompt {
    /// # Errors
    /// When Go would refuse the text.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Template::parse(text)?;
        let mut names = template.names();
        if !names.contains("messages") && !names.contains("response") {
            template = Template::parse(&format!("{text}{{{{ .Response }}}}"))?;
            names = template.names();
        }
        Ok(Self { template, names })
    }

    /// Whether the template names this field or variable; `name` is lower-case.
    pub fn uses(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    pub fn template(&self) -> &Template {
        &self.template
    }

    /// # Errors
    /// When the template fails on this conversation.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, PromptError> {
        let (messages, images) = images::mark(&conversation.messages);
        let messages = turns::merge(messages);
        let text = if self.uses("messages") {
            let system: Vec<&str> =
                messages.iter().filter(|message| message.role == Role::SYSTEM).map(|system| &*system.content).collect();
            let mut data = values::think(conversation.think).to_vec();
            data.extend([
                ("System", Value::from(system.join("\n\n"))),
                ("Messages", values::messages(&messages)),
                ("Tools", values::tools(&conversation.tools)),
                ("Response", Value::from("")),
            ]);
            self.template.execute(&Value::map(data))?
        } else {
            self.turns(&messages, conversation.think)?
        };
        Ok(Rendered { text, images })
    }

    /// The prompt for what belongs between `prompt` and `suffix`.
    ///
    /// # Errors
    /// When the template fails.
    pub fn render_suffix(&self, prompt: &str, suffix: &str, think: Option<Think>) -> Result<String, PromptError> {
        let mut data = values::think(think).to_vec();
        data.extend([("Prompt", Value::from(prompt)), ("Suffix", Value::from(suffix)), ("Response", Value::from(""))]);
        Ok(self.template.execute(&Value::map(data))?)
    }

    /// Templates from before `.Messages`: once for each turn, the last one cut where the answer goes.
    fn turns(&self, messages: &[Message], think: Option<Think>) -> Result<String, PromptError> {
        let mut turn = Turn::default();
        let mut text = String::new();
        let mut budget = Budget::default();
        for message in messages {
            let slot = match message.role.as_str() {
                Role::SYSTEM => &mut turn.system,
                Role::USER => &mut turn.prompt,
                Role::ASSISTANT => &mut turn.response,
                _ => continue,
            };
            let follows = match message.role.as_str() {
                Role::ASSISTANT => !slot.is_empty(),
                _ => !turn.prompt.is_empty() || !turn.response.is_empty(),
            };
            if follows {
                let data = std::mem::take(&mut turn).data(think);
                text.push_str(&self.template.execute_nodes(self.template.nodes(), &data, &mut budget)?);
            }
            match message.role.as_str() {
                Role::SYSTEM => turn.system.clone_from(&message.content),
                Role::USER => turn.prompt.clone_from(&message.content),
                _ => turn.response.clone_from(&message.content),
            }
        }
        let response = std::mem::take(&mut turn.response);
        let mut nodes = self.template.nodes().to_vec();
        cut(&mut nodes);
        text.push_str(&self.template.execute_nodes(&nodes, &turn.data(think), &mut budget)?);
        Ok(text + &response)
    }
}

#[derive(Default)]
struct Turn {
    system: String,
    prompt: String,
    response: String,
}

impl Turn {
    fn data(self, think: Option<Think>) -> Value {
        let mut data = values::think(think).to_vec();
        data.extend([
            ("System", Value::from(self.system)),
            ("Prompt", Value::from(self.prompt)),
            ("Response", Value::from(self.response)),
        ]);
        Value::map(data)
    }
}

/// Takes the first action that prints `.Response` and all that follows it out of the nodes. True when there was one.
fn cut(nodes: &mut Vec<Node>) -> bool {
    for index in 0..nodes.len() {
        let found = match &mut nodes[index] {
            Node::Action(pipe) if names_field(pipe, "Response") => {
                nodes.truncate(index);
                return true;
            }
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                let found = cut(&mut branch.body);
                if found {
                    branch.otherwise.clear();
                }
                found || cut(&mut branch.otherwise)
            }
            _ => false,
        };
        if found {
            nodes.truncate(index + 1);
            return true;
        }
    }
    false
}
