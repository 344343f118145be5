//! What came over a socket, how it ended, and whether it was in order.

use std::time::Instant;

use serde_json::Value;

/// One text frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it arrived.
    pub at: Instant,
    /// Its bytes.
    pub text: String,
    /// The same, read; `null` if it is no JSON.
    pub json: Value,
}

impl Frame {
    /// Its `event`, empty if it has none.
    #[must_use]
    pub fn event(&self) -> &str {
        self.json["event"].as_str().unwrap_or_default()
    }

    /// Its `data`.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.json["data"]
    }

    /// Its stream sequence; control frames have none.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.json["seq"].as_u64()
    }

    /// The sequence of the event shown before it, under `herald.v1`.
    #[must_use]
    pub fn prev(&self) -> Option<u64> {
        self.json["prev"].as_u64()
    }

    /// Whether it belongs to a snapshot, under `herald.v1`.
    #[must_use]
    pub fn snapshot(&self) -> bool {
        self.json["snapshot"] == Value::Bool(true)
    }

    /// Whether it is `herald.*`.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.event().starts_with("herald.")
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame.
    Closed {
        /// Its code; 1005 if it had none.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// Without one: what a browser reports as 1006.
    Lost(String),
}

impl End {
    /// The code a browser would report.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Closed { code, .. } => *code,
            Self::Lost(_) => 1006,
        }
    }

    /// The reason, empty if there was none.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Closed { reason, .. } => reason,
            Self::Lost(_) => "",
        }
    }
}

/// Whether the frames are in order and, with `prev`, without a hole that was not announced.
///
/// # Errors
/// With the first fault found.
pub fn order(frames: &[Frame], v1: bool) -> Result<(), String> {
    // What we have seen everything up to: known after the first event, a live frame, or a gap.
    let mut seen: Option<u64> = None;
    let mut last = 0;
    for frame in frames {
        let text = &frame.text;
        match (frame.event(), frame.seq()) {
            ("herald.live", _) => seen = frame.data()["after"].as_u64().or(seen),
            // What lies in a gap is announced as missing: any `prev` is right up to its end.
            ("herald.gap", _) => seen = None,
            (event, None) if event.starts_with("herald.") => {}
            (_, None) => return Err(format!("an event without a sequence: {text}")),
            // A snapshot shows the last event of each topic, in order but with holes between.
            (_, Some(seq)) if frame.snapshot() => {
                if seq <= last {
                    return Err(format!("a snapshot frame out of order, after {last}: {text}"));
                }
                last = seq;
            }
            (_, Some(seq)) => {
                if seq <= last {
                    return Err(format!("not after {last}: {text}"));
                }
                match (v1, frame.prev(), seen) {
                    (true, None, _) => return Err(format!("no prev under herald.v1: {text}")),
                    (true, Some(prev), Some(seen)) if prev > seen => {
                        return Err(format!("a hole: seen up to {seen}, but before this frame comes {prev}: {text}"));
                    }
                    (true, Some(prev), _) if prev >= seq => return Err(format!("prev is not before: {text}")),
                    (false, Some(_), _) => return Err(format!("prev without herald.v1: {text}")),
                    _ => {}
                }
                (seen, last) = (Some(seq), seq);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn frames(texts: &[Value]) -> Vec<Frame> {
        texts.iter().map(|json| Frame { at: Instant::now(), text: json.to_string(), json: json.clone() }).collect()
    }

    fn event(prev: u64, seq: u64) -> Value {
        json!({"event": "gm.phase", "data": {}, "seq": seq, "prev": prev})
    }

    #[test]
    fn complete_and_ordered_frames_pass() {
        let hello = json!({"event": "herald.hello", "data": {"epoch": "0a", "head": 9}});
        order(&frames(&[hello.clone(), event(0, 3), event(3, 4), event(4, 9)]), true).expect("complete");
        order(&frames(&[hello.clone(), event(7, 9)]), true).expect("live from now: what was before is unknown");
        let gap = json!({"event": "herald.gap", "data": {"from": 4, "to": 8, "reason": "trimmed"}});
        order(&frames(&[hello.clone(), event(0, 3), gap, event(6, 9)]), true).expect("announced");
        let old = |seq: u64| json!({"event": "gm.images", "data": {}, "seq": seq, "snapshot": true});
        let live = json!({"event": "herald.live", "data": {"after": 8}});
        order(&frames(&[hello, old(2), old(5), live, event(6, 9)]), true).expect("nothing after the cut");
        let plain = |seq: u64| json!({"event": "gm.phase", "data": {}, "seq": seq, "ts": 1});
        order(&frames(&[plain(1), plain(5)]), false).expect("ordered");
    }

    #[test]
    fn holes_doubles_and_disorder_are_found() {
        for (texts, v1, fault) in [
            (vec![event(0, 3), event(4, 5)], true, "a hole: seen up to 3, but before this frame comes 4"),
            (vec![event(0, 3), event(0, 3)], true, "not after 3"),
            (vec![event(0, 3), event(0, 2)], true, "not after 3"),
            (vec![event(3, 3)], true, "prev is not before"),
            (vec![json!({"event": "gm.x", "data": 1, "seq": 1})], true, "no prev under herald.v1"),
            (vec![event(0, 1)], false, "prev without herald.v1"),
            (vec![json!({"event": "gm.x", "data": 1})], false, "an event without a sequence"),
            (
                vec![json!({"event": "herald.live", "data": {"after": 8}}), event(9, 10)],
                true,
                "a hole: seen up to 8, but before this frame comes 9",
            ),
        ] {
            let found = order(&frames(&texts), v1).expect_err(fault);
            assert!(found.starts_with(fault), "{found}, not {fault}");
        }
    }
}
