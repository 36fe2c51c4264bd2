//! `/api/models`.
