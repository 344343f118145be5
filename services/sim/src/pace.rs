//! How fast a stand-in goes: pauses divided by a speed, and time limits as flags.

use std::{str::FromStr, time::Duration};

/// A factor for pauses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Pauses are divided by this.
    Factor(f64),
    /// No pauses.
    Max,
}

impl Speed {
    /// What is left of a pause.
    #[must_use]
    pub fn scale(self, pause: Duration) -> Duration {
        match self {
            Self::Factor(factor) => pause.div_f64(factor),
            Self::Max => Duration::ZERO,
        }
    }

    /// Waits for what is left of a pause. Cancelling is safe.
    pub async fn pause(self, pause: Duration) {
        let left = self.scale(pause);
        if left.is_zero() {
            // Without pauses a script would never give the other tasks of its thread a turn.
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(left).await;
        }
    }
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        // The bounds keep every scaled pause a sane duration.
        match text.parse::<f64>() {
            Ok(factor) if (0.001..=1_000_000.0).contains(&factor) => Ok(Self::Factor(factor)),
            _ => Err("expected a number from 0.001 to 1000000, or max".into()),
        }
    }
}

/// A time limit on the command line: `250ms`, `15s`, `5m`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err("expected a number with its unit: 250ms, 15s, 5m, 2h".into()),
        };
        let number: u64 = number.parse().map_err(|_| "expected a number before the unit")?;
        // A week is longer than any limit here makes sense.
        match number.checked_mul(millis) {
            Some(total) if total <= 604_800_000 => Ok(Self(Duration::from_millis(total))),
            _ => Err("expected at most a week".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_divide_pauses() {
        let pause = Duration::from_secs(10);
        assert_eq!("4".parse::<Speed>().unwrap().scale(pause), Duration::from_millis(2500));
        assert_eq!("0.5".parse::<Speed>().unwrap().scale(pause), Duration::from_secs(20));
        assert_eq!("max".parse::<Speed>().unwrap().scale(pause), Duration::ZERO);
        for bad in ["0", "-1", "NaN", "inf", "", "fast"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_a_unit_and_a_bound() {
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("5m".parse(), Ok(Span(Duration::from_secs(300))));
        for bad in ["", "5", "s", "5 s", "-5s", "1.5s", "9999999999999999999s", "1000h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
