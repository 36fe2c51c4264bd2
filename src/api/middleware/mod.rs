//! What stands around every route.

mod bodies;
mod cors;
mod host;
mod trace;
mod zstd;

pub use bodies::{Held, hold};
pub use cors::{Origins, cors};
pub use host::{Hosts, hosts};
pub use trace::trace;
pub use zstd::unpack;
