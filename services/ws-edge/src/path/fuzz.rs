//! Fuzzing target: what an operator writes: paths, topics, origins, networks. And a path to be found by it.

use herald_fuzz::Target;

use super::*;
use crate::{dialect::Avatars, intake::sequence_and_time, origins::Allowed, proxy::Network, view::Topics};

/// Two patterns, and a path, a line each.
#[test]
fn patterns() {
    Target::new("patterns")
        .seeds([
            "/ws/{sid}\n/ws/*\n/ws/abc",
            "/api/images/*\n/api/*\n/api/images/x/y.png",
            "/r/{sid}/events\n/r/7/{sid}\n/r/7/events",
            "/\n/*\n/",
            "arena.agent.*.status\nlobby.>\n",
            "https://*.play.example:8443\nhttps://[::1]:80\nhttps://a.play.example:8443",
            "10.0.0.0/8\nfd00::/8\n10.0.0.1",
            "$JS.ACK.EVENTS.c.1.48210377.91022.1767225600000000017.3\n$JS.ACK._.hash.EVENTS.c.1.5.6.7.8.x\n",
            "pavel.png\nV\u{e9}ra.jpg\nPAVEL",
        ])
        .tokens([
            "/", "{sid}", "*", "..", ".", "~", "%2f", "\n", "https://", "*.", ":443", "[", "]", "::", "/8", "/33",
            "$JS.ACK.", ".>", "arena.", "\u{130}", "\u{df}",
        ])
        .longest(400)
        .run(|input| {
            let text = std::str::from_utf8(input).ok()?;
            let mut lines = text.split('\n');
            let lines = [(); 3].map(|()| lines.next().unwrap_or_default());
            let [one, other, path] = lines;
            let found = found(one, other, path);
            let words = lines.map(|line| {
                let topics = line.parse::<Topics>();
                assert!(topics.as_ref().is_ok_and(|topics| topics.to_string() == line) || topics.is_err());
                let network = line.parse::<Network>();
                assert!(network.as_ref().is_ok_and(|it| it.to_string().parse() == Ok(*it)) || network.is_err());
                let origin = line.parse::<Allowed>();
                if let Ok(Allowed::Exactly(exactly)) = &origin {
                    assert_eq!(exactly.parse(), origin, "as browsers write it");
                    assert!(Allowed::is(&Allowed::Exactly(exactly.clone()), exactly));
                }
                if let Ok(Allowed::Below(scheme, name)) = &origin {
                    assert!(
                        origin
                            .as_ref()
                            .is_ok_and(|it| it.is(&format!("{scheme}a{name}")) && !it.is(&format!("{scheme}{name}")))
                    );
                }
                let delivery = sequence_and_time(line);
                assert_eq!(delivery, delivered(line));
                (topics.is_ok(), network.is_ok(), origin.is_ok(), delivery.is_some())
            });
            if let Some(avatars) = Avatars::new("/static/", [one, other]) {
                let url = avatars.url(path);
                assert!([one, other].iter().any(|file| url == format!("/static/{file}")), "{url}");
                assert_eq!(avatars.url(&path.to_lowercase()), avatars.url(&path.to_lowercase().to_lowercase()));
            }
            Some((found, words))
        });
}

/// Which of two patterns a path matches, and which is tried first.
fn found(one: &str, other: &str, path: &str) -> Option<(bool, bool, Ordering)> {
    let patterns = [one, other].map(str::parse::<Pattern>);
    for (text, pattern) in [one, other].iter().zip(&patterns) {
        let Ok(pattern) = pattern else { continue };
        let matched = pattern.matches(path);
        assert_eq!(matched, by_hand(text, path), "{text} {path}");
        assert!(matched.is_none_or(|session| !session.contains('/')));
        assert!(!pattern.is_literal() || pattern.matches(text) == Some(""), "{text} is itself");
        assert_eq!(pattern.specificity(pattern), Ordering::Equal);
    }
    let [Ok(one), Ok(other)] = patterns else { return None };
    let order = one.specificity(&other);
    assert_eq!(order, other.specificity(&one).reverse());
    Some((one.matches(path).is_some(), other.matches(path).is_some(), order))
}

/// Sequence and time of a delivery, by its tokens.
fn delivered(reply: &str) -> Option<(u64, u64)> {
    let tokens: Vec<_> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let first = if tokens.len() < 9 { 3 } else { 5 };
    let number = |token: &&str| if token.bytes().all(|byte| byte.is_ascii_digit()) { token.parse().ok() } else { None };
    let numbers: Vec<u64> = tokens.get(first..first + 4)?.iter().map(number).collect::<Option<_>>()?;
    Some((numbers[0], numbers[2]))
}

/// The same, by comparing segments.
fn by_hand<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let (wanted, found) = (pattern.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
    let endless = wanted.last() == Some(&"*");
    let fixed = if endless { wanted.len() - 1 } else { wanted.len() };
    if !path.starts_with('/') || if endless { found.len() <= fixed } else { found.len() != fixed } {
        return None;
    }
    let mut pairs = wanted[..fixed].iter().zip(&found);
    let session =
        wanted[..fixed].iter().zip(&found).find(|(wanted, _)| **wanted == "{sid}").map_or("", |(_, found)| *found);
    pairs.all(|(wanted, found)| *wanted == "{sid}" || wanted == found).then_some(session)
}
