//! Random names for answers, calls and requests.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Random, but no secret: seeded once a thread by the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number below `limit`.
pub fn below(limit: u64) -> u64 {
    random() % limit
}

/// `prefix` and 24 hexadecimal digits.
pub fn hex(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", random(), random() as u32)
}

/// The name of a tool call: `call_` and eight letters or digits.
pub fn call() -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut number = random();
    let mut id = String::from("call_");
    for _ in 0..8 {
        id.push(char::from(LETTERS[(number % 36) as usize]));
        number /= 36;
    }
    id
}
