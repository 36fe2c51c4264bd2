//! `/api/chat`.
