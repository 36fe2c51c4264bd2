//! Whether a further model fits.

/// A further model may take this part of what is free: estimates are estimates.
const SHARE: f64 = 0.8;

/// Bytes that programs may still take without swapping, as the kernel says. `None` where it does not say.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

pub(super) fn fits(estimate: u64, available: Option<u64>) -> bool {
    available.is_none_or(|available| estimate as f64 <= available as f64 * SHARE)
}
