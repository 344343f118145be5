//! Times, and what is said of them.

use std::{fmt, time::Duration};

/// Times, the shortest first.
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// So many hundredths are not longer, in ms.
    fn ms(&self, hundredths: usize) -> f64 {
        self.0[(self.0.len() - 1) * hundredths / 100].as_secs_f64() * 1e3
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(times) = self;
        let (p50, p99, most) = (self.ms(50), self.ms(99), self.ms(100));
        write!(f, "p50 {p50:.1} ms, p99 {p99:.1} ms, most {most:.1} ms ({} measured)", times.len())
    }
}
