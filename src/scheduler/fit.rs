//! Whether a further model fits.

/// A further model may take this part of what is free: estimates are estimates.
const SHARE: f64 = 0.8;

pub(super) fn fits(estimate: u64, available: Option<u64>) -> bool {
    available.is_none_or(|available| estimate as f64 <= available as f64 * SHARE)
}
