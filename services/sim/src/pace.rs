//! How fast a stand-in goes: pauses divided by a speed.

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
}
