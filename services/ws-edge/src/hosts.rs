//! By which names a listener may be asked for. A browser sends the name that its page was found under: one that belongs to somebody
//! else, and leads here all the same (DNS rebinding), makes their page one of ours, which origins can't tell apart.

use std::str::FromStr;

use http::{HeaderMap, HeaderValue, Uri, header::HOST};

/// The names of one listener; none: any.
#[derive(Debug, Clone)]
pub struct Hosts(Vec<Host>);

/// A name, or all below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `play.example`, `127.0.0.1`, `[::1]`.
    Exactly(String),
    /// `*.play.example`: what stands behind the star.
    Below(String),
}

/// A text that is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host such as play.example, *.play.example or 127.0.0.1, without a port and in lower case")]
pub struct BadHost(String);

impl Hosts {
    /// Those of a listener's configuration; a text that is none is the name of nobody.
    #[must_use]
    pub fn new(hosts: &[String]) -> Self {
        Self(hosts.iter().map(|host| host.parse().unwrap_or_else(|BadHost(text)| Host::Exactly(text))).collect())
    }

    /// Whether a request is for one of them: by its header, and by its target where that names a host too.
    #[must_use]
    pub fn allow(&self, target: &Uri, headers: &HeaderMap) -> bool {
        let is_ours = |name: &str| {
            let name = without_port(name).to_ascii_lowercase();
            self.0.iter().any(|host| host.is(name.strip_suffix('.').unwrap_or(&name)))
        };
        let header = headers.get(HOST).map(HeaderValue::to_str);
        self.0.is_empty() || header.is_some_and(|name| name.is_ok_and(is_ours)) && target.host().is_none_or(is_ours)
    }
}

impl Host {
    /// Whether `name`, without a port and in lower case, is this one or one of these.
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Exactly(known) => name == known,
            Self::Below(known) => name.strip_suffix(known.as_str()).is_some_and(is_name),
        }
    }
}

impl FromStr for Host {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let v6 = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match (text.strip_prefix('*'), v6) {
            (Some(below), _) if below.strip_prefix('.').is_some_and(is_name) => Ok(Self::Below(below.to_owned())),
            (None, Some(v6)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok(Self::Exactly(text.to_owned())),
            (None, None) if is_name(text) => Ok(Self::Exactly(text.to_owned())),
            _ => Err(BadHost(text.to_owned())),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Labels of a host's name, with dots between them.
fn is_name(text: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_without_a_port() {
        for good in ["play.example", "*.play.example", "localhost", "127.0.0.1", "[::1]"] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        let bad = [
            "",
            "*",
            "*.",
            "*play.example",
            "a.*.b",
            "Play.example",
            "play.example:80",
            "play.example.",
            "[::1",
            "[x]",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Host>(), Err(BadHost(bad.to_owned())));
        }
    }

    #[test]
    fn who_asks_by_another_name_asks_for_another_one() {
        let hosts = Hosts::new(&["play.example", "*.games.example", "[::1]"].map(str::to_owned));
        let asks = |hosts: &Hosts, target: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            hosts.allow(&target.parse().unwrap(), &headers)
        };
        for host in ["play.example", "Play.Example:8000", "play.example.", "a.games.example", "[::1]:8000", "[::1]"] {
            assert!(asks(&hosts, "/", host), "{host}");
        }
        let others = [
            "",
            "evil.example",
            "play.example.evil.example",
            "evilplay.example",
            "games.example",
            ".games.example",
            "evil.example:80@play.example",
            "play.example:x",
            "127.0.0.1",
            "pl\u{e4}y.example",
        ];
        for host in others {
            assert!(!asks(&hosts, "/", host), "{host}");
            assert!(asks(&Hosts::new(&[]), "/", host));
        }
        assert!(!asks(&hosts, "http://evil.example/", "play.example"), "both are to be ours");
        assert!(asks(&hosts, "http://play.example:8000/", "play.example"));
        assert!(!hosts.allow(&Uri::from_static("/"), &HeaderMap::new()));
    }
}
