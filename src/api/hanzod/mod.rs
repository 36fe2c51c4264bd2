//! Routes of our own, for what a person does with a store beyond pulling and deleting.

pub mod archive;
pub mod link;
pub mod store;
pub mod verify;
