//! Our own routes, by the router.

mod store;
