//! mistral.rs, through `hanzod runner`.
