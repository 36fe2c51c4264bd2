//! A turn's end as an answer.

use super::tools::{self, Names};
use crate::api::id;
use crate::api::openai::chat::now;
use crate::api::turn::{Chunk, Done};
use crate::engine::FinishReason;
use crate::wire::openai::responses::{
    IncompleteDetails, InputDetails, Message, Output, OutputDetails, Response, ResponsesRequest, Status, Thought, Usage,
};

/// An answer of which nothing is there yet.
pub(super) fn start(request: ResponsesRequest) -> Response {
    Response {
        id: id::hex("resp_"),
        object: "response",
        created_at: now(),
        completed_at: None,
        status: Status::InProgress,
        incomplete_details: None,
        model: request.model,
        previous_response_id: None,
        instructions: Some(request.instructions).filter(|text| !text.is_empty()),
        output: Vec::new(),
        error: None,
        tools: tools::told(request.tools),
        tool_choice: "auto",
        truncation: if request.truncation.is_empty() { "disabled".into() } else { request.truncation },
        parallel_tool_calls: true,
        text: request.text,
        top_p: request.top_p.unwrap_or(1.0),
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        top_logprobs: 0,
        temperature: request.temperature.unwrap_or(1.0),
        reasoning: request.reasoning,
        usage: None,
        max_output_tokens: request.max_output_tokens,
        max_tool_calls: None,
        store: false,
        background: request.background,
        service_tier: "default",
        metadata: serde_json::Map::new(),
        safety_identifier: None,
        prompt_cache_key: None,
    }
}

/// Tells how the answer ended.
pub(super) fn end(response: &mut Response, done: &Done) {
    response.status = status(done);
    response.completed_at = Some(now());
    if response.status == Status::Incomplete {
        response.incomplete_details = Some(IncompleteDetails { reason: "max_output_tokens" });
    }
    response.usage = Some(Usage {
        input_tokens: done.usage.prompt_tokens,
        output_tokens: done.usage.completion_tokens,
        total_tokens: done.usage.prompt_tokens + done.usage.completion_tokens,
        input_tokens_details: InputDetails::default(),
        output_tokens_details: OutputDetails::default(),
    });
}

pub(super) fn status(done: &Done) -> Status {
    match done.finish {
        FinishReason::Stop => Status::Completed,
        FinishReason::Length => Status::Incomplete,
    }
}

/// Without a call there is a message, be it empty.
pub(super) fn whole(mut response: Response, names: &Names, chunk: Chunk, done: &Done) -> Response {
    if !chunk.thinking.is_empty() {
        response.output.push(Output::Reasoning(Thought::whole(id::hex("rs_"), chunk.thinking)));
    }
    if !chunk.content.is_empty() || chunk.tool_calls.is_empty() {
        response.output.push(Output::Message(Message::whole(id::hex("msg_"), chunk.content, status(done))));
    }
    response.output.extend(chunk.tool_calls.into_iter().map(|call| Output::Call(names.call(call))));
    end(&mut response, done);
    response
}
