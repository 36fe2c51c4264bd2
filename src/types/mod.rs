//! Floor 0: our words. No IO, no async, nothing of any dialect.

pub mod byte_rate;
pub mod byte_size;
pub mod chat;
pub mod digest;
pub mod file_name;
pub mod host_list;
pub mod keep_alive;
pub mod name;
pub mod options;

pub use byte_rate::ByteRate;
pub use byte_size::ByteSize;
pub use chat::{
    Format, Function, Image, Message, Property, Role, Think, ThinkLevel, Tool, ToolCall, ToolFunction, ToolParameters,
};
pub use digest::Digest;
pub use host_list::HostList;
pub use keep_alive::KeepAlive;
pub use name::ModelName;
pub use options::{Guessing, LoadOptions, Options, SamplingOptions};
