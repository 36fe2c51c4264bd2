//! Sizes and times as people read them, in Ollama's words.

use chrono::{DateTime, Local};

/// 1000-based: `4.7 GB`, `12 GB`, `2 GB`, `500 B`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let whole = value >= 10.0 || (value * 10.0).trunc() % 10.0 == 0.0;
    let number = if whole { format!("{}", value.trunc()) } else { format!("{:.1}", (value * 10.0).trunc() / 10.0) };
    format!("{number} {}", UNITS[unit])
}

/// `3 days ago`, `4 minutes from now`, `Forever`.
pub(crate) fn moment(time: DateTime<Local>, now: DateTime<Local>) -> String {
    let past = time <= now;
    let seconds = if past { now - time } else { time - now }.num_seconds();
    if !past && seconds > 20 * 365 * 24 * 3600 {
        return "Forever".into();
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let span = match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    };
    format!("{span} {}", if past { "ago" } else { "from now" })
}

/// As [`moment`], for the text of an answer; `-` when it is no time.
pub(crate) fn moment_of(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => moment(time.into(), Local::now()),
        Err(_) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;

    #[test]
    fn sizes() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (2_000, "2 KB"),
            (4_740_000_000, "4.7 GB"),
            (12_900_000, "12 MB"),
            (1_000, "1 KB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times() {
        let now = Local::now();
        for (seconds, text) in [
            (0, "Less than a second ago"),
            (-45, "45 seconds ago"),
            (-90, "About a minute ago"),
            (250, "4 minutes from now"),
            (-3 * 24 * 3600, "3 days ago"),
            (-47 * 3600, "47 hours ago"),
            (-20 * 24 * 3600, "2 weeks ago"),
            (100 * 365 * 24 * 3600, "Forever"),
        ] {
            assert_eq!(moment(now + Duration::seconds(seconds), now), text);
        }
    }
}
