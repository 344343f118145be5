//! The trace that a request or an event belongs to, as it travels: W3C Trace Context, header `traceparent`.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

/// Bytes of a `traceparent` of version 00: `00-<32 digits>-<16 digits>-<2 digits>`.
const LENGTH: usize = 55;

/// A place in a trace: what comes next is a child of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: NonZeroU128,
    /// The span that is the parent of what comes next.
    pub span: NonZeroU64,
    /// Whether the trace is recorded. Who begins it decides, for all.
    pub sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent: expected 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case, ids not zero")]
pub struct InvalidTraceContext;

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Also of a later version, of which the beginning is understood, as the standard wants it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let whole = match bytes.len() {
            LENGTH => true,
            longer => longer > LENGTH && !text.starts_with("00") && bytes[LENGTH] == b'-',
        };
        if !whole || text.starts_with("ff") || [2, 35, 52].iter().any(|at| bytes[*at] != b'-') {
            return Err(InvalidTraceContext);
        }
        hex(&bytes[..2])?;
        let trace = NonZeroU128::new(hex(&bytes[3..35])?).ok_or(InvalidTraceContext)?;
        let span = u64::try_from(hex(&bytes[36..52])?).ok().and_then(NonZeroU64::new).ok_or(InvalidTraceContext)?;
        let flags = hex(&bytes[53..LENGTH])?;
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// Lower-case hexadecimal digits, 32 at most.
fn hex(digits: &[u8]) -> Result<u128, InvalidTraceContext> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(InvalidTraceContext),
        };
        Ok(value << 4 | u128::from(digit))
    })
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_the_standards_example() {
        let context: TraceContext = GOOD.parse().unwrap();
        assert_eq!((context.span.get(), context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), GOOD);
    }

    #[test]
    fn later_versions_are_understood_as_far_as_they_are_known() {
        let later = GOOD.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-what-comes")] {
            assert_eq!(text.parse(), GOOD.parse::<TraceContext>(), "{text}");
        }
        assert!(!GOOD.replace("-01", "-fe").parse::<TraceContext>().unwrap().sampled, "only the last bit is known");
    }

    #[test]
    fn what_is_none_is_refused() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let more = format!("{GOOD}-more");
        let upper = GOOD.to_uppercase();
        let (version, cut) = (GOOD.replacen("00", "ff", 1), &GOOD[..54]);
        let glued = format!("{}x", GOOD.replacen("00", "01", 1));
        for bad in ["", "00", &zero_trace, &zero_span, &more, &upper, &version, cut, &glued, &GOOD.replace('-', "_")] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
        assert!("é".repeat(LENGTH).parse::<TraceContext>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let context = TraceContext {
                trace: NonZeroU128::new(trace).unwrap(), span: NonZeroU64::new(span).unwrap(), sampled,
            };
            prop_assert_eq!(context.to_string().parse(), Ok(context));
        }

        #[test]
        fn nothing_breaks_it(text in "\\PC{0,70}") {
            let _read = text.parse::<TraceContext>();
        }
    }
}
