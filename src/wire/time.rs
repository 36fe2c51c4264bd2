//! Times as Go writes them in JSON: RFC 3339 with as many digits of a second as are needed.

use std::time::SystemTime;

use chrono::{DateTime, Local, TimeZone, Utc};

/// `created_at`: in UTC, with a `Z`.
pub fn utc(time: SystemTime) -> String {
    write(&DateTime::<Utc>::from(time))
}

/// `modified_at` and `expires_at`: with the offset of the server's own zone.
pub fn local(time: SystemTime) -> String {
    write(&DateTime::<Local>::from(time))
}

/// Whole seconds since 1970, as OpenAI's `created`.
pub fn unix(time: SystemTime) -> i64 {
    DateTime::<Utc>::from(time).timestamp()
}

fn write<Zone: TimeZone>(time: &DateTime<Zone>) -> String
where
    Zone::Offset: std::fmt::Display,
{
    let nanos = format!(".{:09}", time.timestamp_subsec_nanos());
    let offset = time.format("%:z").to_string();
    format!(
        "{}{}{}",
        time.format("%Y-%m-%dT%H:%M:%S"),
        nanos.trim_end_matches('0').trim_end_matches('.'),
        if offset == "+00:00" { "Z" } else { &offset }
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn zeros_at_the_end_are_cut() {
        let at = |nanos| utc(UNIX_EPOCH + Duration::from_nanos(nanos));
        assert_eq!(at(1_700_000_000_123_400_000), "2023-11-14T22:13:20.1234Z");
        assert_eq!(at(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
        let east = chrono::FixedOffset::east_opt(5400).unwrap();
        let time = DateTime::<Utc>::from(UNIX_EPOCH + Duration::from_nanos(7)).with_timezone(&east);
        assert_eq!(write(&time), "1970-01-01T01:30:00.000000007+01:30");
    }
}
