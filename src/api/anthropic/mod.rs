//! Anthropic's messages API.
