//! The time, as it is written down.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Now, as UTC in ISO 8601 with six decimals.
pub(crate) fn now() -> String {
    text(OffsetDateTime::now_utc())
}

/// Milliseconds since 1970, by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn text(time: OffsetDateTime) -> String {
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z", time.microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_decimals_and_says_that_it_is_utc() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_795_348_861_000_042_900).unwrap();
        assert_eq!(text(time), "2026-11-22T12:01:01.000042Z");
    }
}
