//! A turn's pieces as events: items that begin, grow and end.

use axum::body::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;

use super::output;
use super::tools::Names;
use crate::api::error::{ApiError, OpenAiError};
use crate::api::id;
use crate::api::stream::{Pieces, event};
use crate::api::turn::{Chunk, Done, Event as Piece};
use crate::types::ToolCall;
use crate::wire::openai::responses::{Content, Event, Failure, Given, Message, Output, Response, Status, Thought};

pub(super) struct Stream {
    /// With the items that have ended.
    response: Response,
    names: Names,
    begun: bool,
    open: Option<Open>,
    sequence: u64,
}

/// The item that grows.
struct Open {
    kind: Kind,
    id: String,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
}

impl Stream {
    pub(super) fn new(response: Response, names: Names) -> Self {
        Self { response, names, begun: false, open: None, sequence: 0 }
    }

    /// The data of the events. An error in the middle is an event too; one before all others stays an error.
    pub(super) fn events(mut self, mut pieces: Pieces<Piece>) -> Pieces<Value> {
        Box::pin(async_stream::try_stream! {
            while let Some(piece) = pieces.next().await {
                let mut events = Vec::new();
                let over = piece.is_err();
                match piece {
                    Ok(Piece::Chunk(chunk)) => self.chunk(chunk, &mut events),
                    Ok(Piece::Done(done)) => self.done(&done, &mut events),
                    Err(error) if self.begun => self.fail(&error, &mut events),
                    Err(error) => Err(error)?,
                }
                for event in events {
                    let data = event.data(self.sequence);
                    self.sequence += 1;
                    yield data;
                }
                if over {
                    break;
                }
            }
        })
    }

    fn begin(&mut self, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.begun, true) {
            events.push(Event::Created { response: self.response.clone() });
            events.push(Event::InProgress { response: self.response.clone() });
        }
    }

    fn chunk(&mut self, chunk: Chunk, events: &mut Vec<Event>) {
        self.begin(events);
        self.grow(Kind::Reasoning, chunk.thinking, events);
        self.grow(Kind::Message, chunk.content, events);
        for call in chunk.tool_calls {
            self.call(call, events);
        }
    }

    fn grow(&mut self, kind: Kind, delta: String, events: &mut Vec<Event>) {
        if delta.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(Status::Completed, events);
            self.open(kind, events);
        }
        let output_index = self.response.output.len();
        let Some(open) = &mut self.open else { return };
        open.text.push_str(&delta);
        let item_id = open.id.clone();
        events.push(match kind {
            Kind::Reasoning => Event::SummaryDelta { item_id, output_index, summary_index: 0, delta },
            Kind::Message => Event::TextDelta { item_id, output_index, content_index: 0, delta, logprobs: [] },
        });
    }

    fn open(&mut self, kind: Kind, events: &mut Vec<Event>) {
        let output_index = self.response.output.len();
        let id = id::hex(if kind == Kind::Reasoning { "rs_" } else { "msg_" });
        match kind {
            Kind::Reasoning => {
                let item = Output::Reasoning(Thought::begin(id.clone()));
                events.push(Event::ItemAdded { output_index, item });
            }
            Kind::Message => {
                let item = Output::Message(Message::begin(id.clone()));
                events.push(Event::ItemAdded { output_index, item });
                let (item_id, part) = (id.clone(), Content::new(String::new()));
                events.push(Event::PartAdded { item_id, output_index, content_index: 0, part });
            }
        }
        self.open = Some(Open { kind, id, text: String::new() });
    }

    /// Ends the item that grows, which is as it should be or was cut.
    fn close(&mut self, status: Status, events: &mut Vec<Event>) {
        let Some(Open { kind, id, text }) = self.open.take() else { return };
        let output_index = self.response.output.len();
        let item_id = id.clone();
        let item = match kind {
            Kind::Reasoning => {
                events.push(Event::SummaryDone { item_id, output_index, summary_index: 0, text: text.clone() });
                Output::Reasoning(Thought::whole(id, text))
            }
            Kind::Message => {
                let part = Content::new(text.clone());
                let (content_index, logprobs) = (0, []);
                let text_done =
                    Event::TextDone { item_id: id.clone(), output_index, content_index, text: text.clone(), logprobs };
                events.push(text_done);
                events.push(Event::PartDone { item_id, output_index, content_index, part });
                Output::Message(Message::whole(id, text, status))
            }
        };
        self.end(item, events);
    }

    fn call(&mut self, call: ToolCall, events: &mut Vec<Event>) {
        self.close(Status::Completed, events);
        let output_index = self.response.output.len();
        let call = self.names.call(call);
        events.push(Event::ItemAdded { output_index, item: Output::Call(call.begun()) });
        let (item_id, delta) = (call.id.clone(), call.given.text().to_owned());
        let id = item_id.clone();
        events.extend(match call.given.clone() {
            Given::Arguments(arguments) => [
                Event::ArgumentsDelta { item_id: id, output_index, delta },
                Event::ArgumentsDone { item_id, output_index, arguments },
            ],
            Given::Input(input) => [
                Event::InputDelta { item_id: id, output_index, delta },
                Event::InputDone { item_id, output_index, input },
            ],
        });
        self.end(Output::Call(call), events);
    }

    fn end(&mut self, item: Output, events: &mut Vec<Event>) {
        events.push(Event::ItemDone { output_index: self.response.output.len(), item: item.clone() });
        self.response.output.push(item);
    }

    fn done(&mut self, done: &Done, events: &mut Vec<Event>) {
        self.begin(events);
        self.close(output::status(done), events);
        output::end(&mut self.response, done);
        let response = self.response.clone();
        events.push(match response.status {
            Status::Incomplete => Event::Incomplete { response },
            _ => Event::Completed { response },
        });
    }

    /// With what there was of the answer; the item that was growing is left out.
    fn fail(&mut self, error: &ApiError, events: &mut Vec<Event>) {
        self.response.status = Status::Failed;
        self.response.error = Some(Failure { code: "server_error", message: error.to_string() });
        events.push(Event::Failed { response: self.response.clone() });
    }
}

pub(super) fn frame(data: Result<Value, ApiError>) -> Bytes {
    match data {
        Ok(data) => event(data["type"].as_str(), &data),
        Err(error) => event(None, &OpenAiError(error).envelope()),
    }
}
