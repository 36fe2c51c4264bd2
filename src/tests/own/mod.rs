//! Our own routes, by the router.

mod link;
mod registry;
mod store;
