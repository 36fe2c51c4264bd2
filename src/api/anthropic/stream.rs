//! A turn's pieces as events: blocks that open, grow and close.

use axum::body::Bytes;
use futures_util::StreamExt as _;
use serde_json::Map;

use super::end::{reason, usage};
use crate::api::error::{AnthropicError, ApiError};
use crate::api::stream::{Pieces, event};
use crate::api::turn::{Chunk, Done, Event as Piece};
use crate::types::ToolCall;
use crate::wire::anthropic::{Answer, Block, Delta, End, Event};

pub(super) struct Stream {
    /// Sent with the first block.
    start: Option<Answer>,
    open: Option<Open>,
    /// Blocks so far.
    index: usize,
    called: bool,
    /// Calls are told with the end.
    calls_last: bool,
    late: Vec<ToolCall>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
}

impl Stream {
    pub(super) fn new(start: Answer, calls_last: bool) -> Self {
        Self { start: Some(start), open: None, index: 0, called: false, calls_last, late: Vec::new() }
    }

    pub(super) fn events(mut self, mut pieces: Pieces<Piece>) -> Pieces<Event> {
        Box::pin(async_stream::try_stream! {
            while let Some(piece) = pieces.next().await {
                let mut events = Vec::new();
                match piece? {
                    Piece::Chunk(chunk) => self.chunk(chunk, &mut events),
                    Piece::Done(done) => self.done(&done, &mut events),
                }
                for event in events {
                    yield event;
                }
            }
        })
    }

    fn chunk(&mut self, mut chunk: Chunk, events: &mut Vec<Event>) {
        if self.calls_last {
            self.late.append(&mut chunk.tool_calls);
        }
        if chunk.content.is_empty() && chunk.thinking.is_empty() && chunk.tool_calls.is_empty() {
            return;
        }
        events.extend(self.start.take().map(|message| Event::MessageStart { message }));
        if !chunk.thinking.is_empty() {
            self.open(Open::Thinking, events);
            let delta = Delta::ThinkingDelta { thinking: chunk.thinking };
            events.push(Event::ContentBlockDelta { index: self.index, delta });
        }
        if !chunk.content.is_empty() {
            self.open(Open::Text, events);
            let delta = Delta::TextDelta { text: chunk.content };
            events.push(Event::ContentBlockDelta { index: self.index, delta });
        }
        self.calls(chunk.tool_calls, events);
    }

    fn calls(&mut self, calls: Vec<ToolCall>, events: &mut Vec<Event>) {
        for call in calls {
            self.close(events);
            self.called = true;
            let index = self.index;
            let partial_json = crate::go::json::to_string(&call.function.arguments).unwrap_or_default();
            let content_block = Block::ToolUse { id: call.id, name: call.function.name, input: Map::new() };
            events.push(Event::ContentBlockStart { index, content_block });
            events.push(Event::ContentBlockDelta { index, delta: Delta::InputJsonDelta { partial_json } });
            events.push(Event::ContentBlockStop { index });
            self.index += 1;
        }
    }

    fn done(&mut self, done: &Done, events: &mut Vec<Event>) {
        // an answer that begins with its end knows its numbers
        events.extend(self.start.take().map(|mut message| {
            message.usage.input_tokens = usage(done).input_tokens;
            Event::MessageStart { message }
        }));
        let late = std::mem::take(&mut self.late);
        self.calls(late, events);
        self.close(events);
        let stop_reason = reason(done, self.called);
        events.push(Event::MessageDelta { delta: End { stop_reason }, usage: usage(done) });
        events.push(Event::MessageStop);
    }

    fn open(&mut self, wanted: Open, events: &mut Vec<Event>) {
        if self.open == Some(wanted) {
            return;
        }
        self.close(events);
        self.open = Some(wanted);
        let content_block = match wanted {
            Open::Thinking => Block::Thinking { thinking: String::new() },
            Open::Text => Block::Text { text: String::new() },
        };
        events.push(Event::ContentBlockStart { index: self.index, content_block });
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        if self.open.take().is_some() {
            events.push(Event::ContentBlockStop { index: self.index });
            self.index += 1;
        }
    }
}

/// An error in the middle is an event of its own, as Anthropic sends it.
pub(super) fn frame(piece: Result<Event, ApiError>) -> Bytes {
    match piece {
        Ok(one) => event(Some(one.name()), &one),
        Err(error) => event(Some("error"), &AnthropicError(error).envelope()),
    }
}
