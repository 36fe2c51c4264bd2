//! A conversation with a model: what `/api/chat` and the `/v1` routes have in common before their answers differ.

use super::{Loaded, Prompt, Turn};
use crate::api::AppState;
use crate::api::error::ApiError;
use crate::prompt::{Conversation, developer};
use crate::store::Capability;
use crate::types::{Message, Role, Tool};

/// What the client brings.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
}

impl Turn {
    /// Checks what the conversation needs, loads the model and renders. `None` when there was only to load.
    ///
    /// # Errors
    /// What the model cannot do; that it cannot be loaded; a template that fails.
    pub async fn chat(mut self, state: &AppState, chat: Chat) -> Result<Option<(Loaded, Prompt)>, ApiError> {
        self.settle_thinking()?;
        self.need_completion("chat")?;
        if !chat.tools.is_empty() {
            self.need(Capability::Tools)?;
        }
        let loaded = self.load(state).await?;
        if chat.messages.is_empty() {
            return Ok(None);
        }
        let turn = &loaded.turn;
        let messages = assemble(turn, chat.messages);
        let conversation = Conversation { messages, tools: chat.tools, think: turn.wish.think };
        let prompt = loaded.render_newest(conversation).await?;
        loaded.check_fits(&prompt.parts).await?;
        Ok(Some((loaded, prompt)))
    }
}

/// The model's own messages before the client's, and its system message before all when the client brings none.
fn assemble(turn: &Turn, messages: Vec<Message>) -> Vec<Message> {
    let model = &turn.known.model;
    let messages = match &turn.known.format {
        Ok(format) => developer::as_system(format, messages),
        Err(_) => messages,
    };
    let has_system = messages.first().is_some_and(|first| first.role == *Role::SYSTEM);
    let system = model.system.as_deref().filter(|system| !has_system && !system.is_empty());
    let system = system.map(|text| Message::text(Role::SYSTEM, text));
    system.into_iter().chain(model.messages.iter().cloned()).chain(messages).collect()
}
