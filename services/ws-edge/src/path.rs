//! Path patterns: what routes and forwards are found by.

use std::{cmp::Ordering, str::FromStr};

/// A path of a route or a forward: literal segments, at most one `{sid}`, and perhaps a `*` at the end that stands for
/// one segment or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Literal(Box<str>),
    Session,
    Rest,
}

/// A text that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a path such as /ws/{{sid}}, /submit_news or /api/*")]
pub struct InvalidPattern;

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix('/').ok_or(InvalidPattern)?;
        let mut segments = Vec::new();
        if !rest.is_empty() {
            for segment in rest.split('/') {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
                segments.push(match segment {
                    "{sid}" => Segment::Session,
                    "*" => Segment::Rest,
                    "" | "." | ".." => return Err(InvalidPattern),
                    literal if literal.bytes().all(plain) => Segment::Literal(literal.into()),
                    _ => return Err(InvalidPattern),
                });
            }
        }
        let sessions = segments.iter().filter(|segment| **segment == Segment::Session).count();
        let rest_inside = segments.iter().rev().skip(1).any(|segment| *segment == Segment::Rest);
        if sessions > 1 || rest_inside { Err(InvalidPattern) } else { Ok(Self { segments }) }
    }
}

impl Pattern {
    /// Whether it has a `{sid}`.
    #[must_use]
    pub fn has_session(&self) -> bool {
        self.segments.contains(&Segment::Session)
    }

    /// Whether it is one path and no other.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether `path` (as sent, percent-encoded) is one of these; with what stands for `{sid}`, still encoded, empty
    /// where there is none.
    #[must_use]
    pub fn matches<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut parts = path.strip_prefix('/')?.split('/');
        if self.segments.is_empty() {
            return (path == "/").then_some("");
        }
        let mut session = "";
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(literal) if **literal == *part => {}
                Segment::Literal(_) => return None,
                Segment::Session => session = part,
                Segment::Rest => return Some(session),
            }
        }
        parts.next().is_none().then_some(session)
    }

    /// Which of two patterns that match the same path is tried first: literals before `{sid}` before `*`.
    #[must_use]
    pub fn specificity(&self, other: &Self) -> Ordering {
        let rank = |segment: Option<&Segment>| match segment {
            Some(Segment::Literal(_)) => 0,
            Some(Segment::Session) => 1,
            None => 2,
            Some(Segment::Rest) => 3,
        };
        let longest = self.segments.len().max(other.segments.len());
        (0..longest)
            .map(|at| rank(self.segments.get(at)).cmp(&rank(other.segments.get(at))))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_match_whole_paths() {
        let table = [
            ("/ws/{sid}", "/ws/abc", Some("abc")),
            ("/ws/{sid}", "/ws/a%00b", Some("a%00b")),
            ("/ws/{sid}", "/ws/", Some("")),
            ("/ws/{sid}", "/ws", None),
            ("/ws/{sid}", "/ws/a/b", None),
            ("/ws/{sid}", "/WS/a", None),
            ("/api/*", "/api/start", Some("")),
            ("/api/*", "/api/images/x/y.png", Some("")),
            ("/api/*", "/api", None),
            ("/api/*", "/apis/x", None),
            ("/submit_news", "/submit_news", Some("")),
            ("/submit_news", "/submit_news/", None),
            ("/", "/", Some("")),
            ("/", "/x", None),
            ("/r/{sid}/events", "/r/7/events", Some("7")),
        ];
        for (text, path, expected) in table {
            assert_eq!(pattern(text).matches(path), expected, "{text} {path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in ["", "ws", "/a/*/b", "/{sid}/{sid}", "/{id}", "//", "/a/", "/a?b", "/é", "/../a", "/a b", "/x*"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_more_special_pattern_is_tried_first() {
        let mut patterns = ["/api/*", "/*", "/api/{sid}", "/api/state", "/api/images/*"].map(pattern);
        patterns.sort_by(Pattern::specificity);
        assert_eq!(patterns, ["/api/state", "/api/images/*", "/api/{sid}", "/api/*", "/*"].map(pattern));
    }
}
