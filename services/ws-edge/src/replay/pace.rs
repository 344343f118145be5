//! How fast the past is played again, and what its viewer can say about that.

use std::time::Duration;

use herald_protocol::Position;
use serde::Deserialize;

/// Slowest and fastest, in thousandths.
const SPEEDS: std::ops::RangeInclusive<u32> = 100..=64_000;
/// Shortest and longest cap of a pause, in ms.
const GAPS: std::ops::RangeInclusive<u32> = 10..=3_600_000;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// So many times as fast as it was, in thousandths.
    speed: u32,
    /// No pause is longer than so many ms, if that is given.
    max_gap: Option<u32>,
}

/// A number with up to three digits behind the point, in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    // What is out of range is so behind this, too.
    Some((number * 1000.0).round() as u32)
}

impl Pace {
    /// A speed, `4` or `0.5`.
    pub(crate) fn parse(speed: &str) -> Option<Self> {
        let speed = thousandths(speed).filter(|speed| SPEEDS.contains(speed))?;
        Some(Self { speed, max_gap: None })
    }

    /// The same, with no pause longer than so many seconds.
    pub(crate) fn capped(self, seconds: &str) -> Option<Self> {
        let max_gap = thousandths(seconds).filter(|gap| GAPS.contains(gap))?;
        Some(Self { max_gap: Some(max_gap), ..self })
    }

    /// The same, as fast as the other one.
    pub(crate) const fn at(self, other: Self) -> Self {
        Self { speed: other.speed, ..self }
    }

    /// How fast it is, in thousandths.
    pub(crate) const fn speed(self) -> u32 {
        self.speed
    }

    /// How long a pause takes that took `ms`, of which so much has gone by at other speeds.
    pub(crate) fn pause(self, ms: u64, spent: Duration) -> Duration {
        let pause = Duration::from_micros(ms.saturating_mul(1_000_000) / u64::from(self.speed));
        self.max_gap.map_or(pause, |most| pause.min(Duration::from_millis(most.into()).saturating_sub(spent)))
    }

    /// How many ms are played in that time.
    pub(crate) fn played(self, time: Duration) -> u64 {
        let played = time.as_micros().saturating_mul(self.speed.into()) / 1_000_000;
        u64::try_from(played).unwrap_or(u64::MAX)
    }
}

/// What a viewer wants: in a frame `{"event":"herald.replay","data":{...}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Command {
    /// Halt, or go on.
    pub(crate) pause: Option<bool>,
    /// From now on so fast.
    pub(crate) speed: Option<Pace>,
    /// Go on behind that place.
    pub(crate) seek: Option<Position>,
    /// Go where the session is now.
    pub(crate) live: bool,
}

/// A frame that brings a command which can't be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The event of such a frame.
const EVENT: &str = "herald.replay";

impl Command {
    /// Longest frame a command is looked for in, in bytes.
    pub(crate) const MAX_FRAME: usize = 512;

    /// The command in a text frame; `None`: it is another frame.
    pub(crate) fn in_frame(text: &[u8]) -> Option<Result<Self, Malformed>> {
        #[derive(Deserialize)]
        struct Frame<'a> {
            event: &'a str,
            #[serde(borrow)]
            data: &'a serde_json::value::RawValue,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Data {
            pause: Option<bool>,
            speed: Option<serde_json::Number>,
            seek: Option<Place>,
            live: Option<bool>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Place {
            Seq(u64),
            Text(String),
        }
        let frame: Frame<'_> = serde_json::from_slice(text).ok().filter(|frame: &Frame<'_>| frame.event == EVENT)?;
        let read = || {
            let Data { pause, speed, seek, live } = serde_json::from_str(frame.data.get()).ok()?;
            let speed = speed.map(|speed| Pace::parse(&speed.to_string()).ok_or(())).transpose().ok()?;
            let seek = seek.map(|place| match place {
                Place::Seq(seq) => Ok(Position::Seq(seq)),
                Place::Text(text) => text.parse().map_err(|_| ()),
            });
            let command = Self { pause, speed, seek: seek.transpose().ok()?, live: live == Some(true) };
            // Two places at once are none, and nothing is nothing to do.
            let senseless = command.live && (command.seek.is_some() || command.pause == Some(true));
            (command != Self::default() && !senseless).then_some(command)
        };
        Some(read().ok_or(Malformed))
    }

    /// Where it leads to, `head` being where the session is now; `None`: nowhere else.
    pub(crate) fn place(&self, head: u64) -> Option<Position> {
        if self.live { Some(Position::Seq(head)) } else { self.seek }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_divides_pauses_and_caps_them() {
        let pace = |text| Pace::parse(text).unwrap();
        for (text, ms, took) in [("4", 1_000, 250_000), ("0.1", 5, 50_000), ("64", 64, 1_000), ("1.500", 3, 2_000)] {
            assert_eq!(pace(text).pause(ms, Duration::ZERO), Duration::from_micros(took), "{text}");
        }
        let capped = |speed, cap, ms, spent| pace(speed).capped(cap).unwrap().pause(ms, Duration::from_millis(spent));
        assert_eq!(capped("1", "0.5", 9_000, 0), Duration::from_millis(500));
        assert_eq!(capped("2", "2", 1_000, 0), Duration::from_millis(500));
        assert_eq!(capped("1", "0.5", 9_000, 400), Duration::from_millis(100), "whatever it was spent at");
        assert_eq!(capped("1", "0.5", 50, 400), Duration::from_millis(50));
        assert_eq!(capped("1", "0.5", 9_000, 600), Duration::ZERO);
        assert_eq!((pace("4").played(Duration::from_millis(250)), pace("0.5").speed()), (1_000, 500));
        for bad in ["", "0", "0.09", "64.1", "-1", "+1", "1e1", "NaN", "inf", "1,5", " 1", "99999999999"] {
            assert_eq!(Pace::parse(bad), None, "{bad:?}");
        }
        for bad in ["", "0", "0.001", "3601", "x"] {
            assert_eq!(pace("1").capped(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_frame_brings_a_command_or_is_another_one() {
        let read =
            |data: &str| Command::in_frame(format!("{{\"event\":\"herald.replay\",\"data\":{data}}}").as_bytes());
        let nothing = Command::default();
        for (data, command) in [
            (r#"{"pause":true}"#, Command { pause: Some(true), ..nothing }),
            (r#"{"pause":false,"speed":2.5}"#, Command { pause: Some(false), speed: Pace::parse("2.5"), ..nothing }),
            (r#"{"seek":0}"#, Command { seek: Some(Position::Seq(0)), ..nothing }),
            (r#"{"seek":"000000ab-7"}"#, Command { seek: "000000ab-7".parse().ok(), ..nothing }),
            (r#"{"live":true}"#, Command { live: true, ..nothing }),
        ] {
            assert_eq!(read(data), Some(Ok(command)), "{data}");
        }
        for data in [
            "{}",
            "1",
            r#"{"live":false}"#,
            r#"{"pause":1}"#,
            r#"{"speed":65}"#,
            r#"{"speed":"4"}"#,
            r#"{"seek":"x"}"#,
            r#"{"seek":-1}"#,
            r#"{"live":true,"seek":1}"#,
            r#"{"live":true,"pause":true}"#,
            r#"{"rewind":true}"#,
        ] {
            assert_eq!(read(data), Some(Err(Malformed)), "{data}");
        }
        for other in ["", "{}", r#"{"event":"herald.token","data":{"pause":true}}"#, r#"{"event":"herald.replay"}"#] {
            assert_eq!(Command::in_frame(other.as_bytes()), None, "{other}");
        }
    }
}
