//! What a process takes: memory, file descriptors, processor time.

use rustix::process::Pid;

/// Bytes that a server may have gained when all is over: what an allocator keeps, and no more.
pub const GAIN: u64 = 64 << 20;

/// Bytes of memory that are its own: what it has of files in memory is the system's to take back.
pub fn memory(process: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

/// Open files, sockets and pipes.
pub fn files(process: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).unwrap().count()
}

/// Hundredths of a second that it has computed.
#[cfg(feature = "llama")]
pub fn work(process: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap();
    let words: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // The state is the third of all fields and the first of these.
    [11, 12].map(|field: usize| words[field].parse::<u64>().unwrap()).iter().sum()
}
