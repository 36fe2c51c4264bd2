//! `/api/generate`.
