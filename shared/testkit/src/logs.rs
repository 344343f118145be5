//! What a log must look like, whatever somebody tried to write into it.

use serde_json::Value;

const LEVELS: [&str; 5] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

/// Proves that each line is a record of its own, and holds nothing that a terminal would obey.
///
/// # Panics
/// With the first line that is not, or does.
pub fn check_lines(log: &str, json: bool) {
    for line in log.lines() {
        assert!(!line.contains(is_obeyed), "a terminal would obey it: {line:?}");
        if json {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let level = record["level"].as_str().unwrap_or_default();
            assert!(record["timestamp"].is_string() && LEVELS.contains(&level), "no record: {line}");
        } else {
            // `2026-01-01T00:00:00.000000Z  INFO ws_edge: ...`
            let (time, rest) = line.split_once(' ').unwrap_or_default();
            let level = rest.trim_start().split(' ').next().unwrap_or_default();
            let dated = time.len() == 27 && time.starts_with("20") && time.ends_with('Z');
            assert!(dated && LEVELS.contains(&level), "no record: {line:?}");
        }
    }
}

/// Whether a terminal obeys it: control characters of either kind, ends of lines and paragraphs, and what turns the direction
/// of writing.
fn is_obeyed(char: char) -> bool {
    char.is_control() || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_pass_and_nothing_else_does() {
        check_lines("2026-11-22T01:02:03.000004Z  INFO ws_edge: ready a=\"\\u{1b}[31m\"\n", false);
        check_lines("{\"timestamp\":\"2026\",\"level\":\"WARN\",\"message\":\"a\\nb\"}\n", true);
        let bad = [
            ("forged\n", false),
            ("2026-11-22T01:02:03.000004Z  LOUD ws_edge: x\n", false),
            ("2026-11-22T01:02:03.000004Z  INFO ws_edge: \u{1b}[31m\n", false),
            ("2026-11-22T01:02:03.000004Z  INFO ws_edge: \u{9b}\n", false),
            ("{\"level\":\"WARN\"}\n", true),
            ("2026-11-22T01:02:03.000004Z  INFO ws_edge: x\n", true),
        ];
        for (line, json) in bad {
            assert!(std::panic::catch_unwind(|| check_lines(line, json)).is_err(), "{line}");
        }
    }
}
