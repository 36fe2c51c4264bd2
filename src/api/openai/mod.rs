//! OpenAI's API.
