//! Pulls and pushes against a local registry that can lie.
