//! What stands around every route.

mod cors;
mod host;
mod trace;
mod zstd;

pub use cors::{Origins, cors};
pub use host::{Hosts, hosts};
pub use trace::trace;
pub use zstd::unpack;
