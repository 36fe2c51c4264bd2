//! Anthropic's messages API: how its requests become a turn, and a turn's pieces its blocks.

mod convert;
mod end;
pub mod messages;
mod stream;
