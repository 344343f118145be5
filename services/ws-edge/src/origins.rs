//! Whose pages may talk to us. What is no page sends no origin, and is none of this module's business: a program can claim any.

use std::{str::FromStr, sync::Arc};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AsHeaderName, ORIGIN},
};
use tower_http::cors::{AllowOrigin, Any};

/// What a browser says of where a request comes from, beside its origin: also with those that have none, such as pictures.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins of one listener.
#[derive(Debug, Clone)]
pub struct Origins(Option<Arc<[Allowed]>>);

/// An origin, or all below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// `https://play.example`, as browsers write it.
    Exactly(String),
    /// `https://*.play.example`: what stands in front of the star, and behind it.
    Below(String, String),
}

/// A text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin such as https://play.example or https://*.play.example")]
pub struct BadOrigin(String);

impl Origins {
    /// Those of a listener's configuration; a text that is no origin allows nobody.
    #[must_use]
    pub fn new(origins: &[String]) -> Self {
        if origins.iter().any(|origin| origin == "*") {
            return Self(None);
        }
        Self(Some(origins.iter().filter_map(|origin| origin.parse().ok()).collect()))
    }

    /// Whether a page of the request's origin may open a stream: browsers don't ask CORS about sockets, and of another stream
    /// it would be the browser alone that keeps it from its page.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(allowed) = &self.0 else { return true };
        match only(headers, ORIGIN) {
            Ok(origin) => origin.is_none_or(|origin| allows(allowed, origin)),
            Err(Several) => false,
        }
    }

    /// Whether a page of the request's origin may have something changed. A browser asks before it sends most of what does,
    /// but not before a GET; and for a picture it names no origin at all.
    #[must_use]
    pub fn allow_command(&self, headers: &HeaderMap) -> bool {
        let foreign = !headers.contains_key(ORIGIN)
            && headers.get_all(SEC_FETCH_SITE).iter().any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site"));
        self.allow(headers) && (self.0.is_none() || !foreign)
    }

    /// The same, for what browsers ask about.
    pub fn cors(&self, credentials: bool) -> AllowOrigin {
        match &self.0 {
            // Beside credentials browsers take no `*`.
            None if credentials => AllowOrigin::mirror_request(),
            None => Any.into(),
            Some(allowed) => {
                let allowed = allowed.clone();
                AllowOrigin::predicate(move |origin, _| allows(&allowed, origin))
            }
        }
    }
}

fn allows(allowed: &[Allowed], origin: &HeaderValue) -> bool {
    origin.to_str().is_ok_and(|origin| allowed.iter().any(|it| it.is(origin)))
}

/// A header that may be there once.
struct Several;

fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, Several> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() { Err(Several) } else { Ok(first) }
}

impl Allowed {
    /// Whether `origin`, from a browser, is this one or one of these.
    #[must_use]
    pub fn is(&self, origin: &str) -> bool {
        match self {
            Self::Exactly(known) => origin == known,
            Self::Below(scheme, name) => {
                let below = origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(name.as_str()));
                below.is_some_and(is_name)
            }
        }
    }
}

impl FromStr for Allowed {
    type Err = BadOrigin;

    /// `scheme://host[:port]`, in lower case; a scheme's own port is left out, as browsers do.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let parts = || {
            let (scheme, rest) = text.split_once("://")?;
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
                _ => (rest, None),
            };
            let name = host.strip_prefix("*.").unwrap_or(host);
            let v6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let known = v6.map_or(is_name(name), |v6| name == host && v6.parse::<std::net::Ipv6Addr>().is_ok());
            let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
            if !known || !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(letters) {
                return None;
            }
            let port = match (scheme, port) {
                ("https", Some(443)) | ("http", Some(80)) | (_, None) => String::new(),
                (_, Some(port)) => format!(":{port}"),
            };
            Some(match host.strip_prefix('*') {
                Some(below) => Self::Below(format!("{scheme}://"), format!("{below}{port}")),
                None => Self::Exactly(format!("{scheme}://{host}{port}")),
            })
        };
        parts().ok_or_else(|| BadOrigin(text.to_owned()))
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

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn origins(list: &[&str]) -> Origins {
        Origins::new(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        let good = [
            ("https://play.example", "https://play.example"),
            ("https://play.example:443", "https://play.example"),
            ("http://play.example:80", "http://play.example"),
            ("http://play.example:443", "http://play.example:443"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
        ];
        for (text, known) in good {
            assert_eq!(text.parse(), Ok(Allowed::Exactly(known.to_owned())), "{text}");
        }
        let below = Allowed::Below("https://".into(), ".play.example:8443".into());
        assert_eq!("https://*.play.example:8443".parse(), Ok(below));
        let bad = [
            "",
            "play.example",
            "null",
            "https://",
            "https://play.example/",
            "https://play.example/a",
            "https://Play.example",
            "HTTPS://play.example",
            "https://me@play.example",
            "https://play.example:",
            "https://play.example:x",
            "https://play.example.",
            "https://play..example",
            "https://*",
            "https://*.",
            "https://a.*.example",
            "https://*play.example",
            "https://*.*.example",
            "https://[::1",
            "https://[play]",
            "https://*.[::1]",
            "*://x.example",
            "https://pläy.example",
            "https://a.example,https://b.example",
            "https://play.example?x",
            "1http://a.example",
        ];
        for text in bad {
            assert_eq!(text.parse::<Allowed>(), Err(BadOrigin(text.to_owned())));
        }
    }

    #[test]
    fn tricks_with_names_let_no_other_page_in() {
        let some = origins(&["https://play.example", "https://*.games.example", "http://localhost:5173"]);
        let good =
            ["https://play.example", "http://localhost:5173", "https://a.games.example", "https://a.b-1.games.example"];
        for origin in good {
            assert!(some.allow(&headers(&[("origin", origin)])), "{origin}");
        }
        let bad = [
            "https://play.example.evil",
            "https://evilplay.example",
            "https://evil.play.example",
            "http://play.example",
            "https://play.example:8443",
            "https://play.example:443",
            "https://play.example.",
            "https://play.example/",
            "https://play.example@evil.example",
            "https://evil.example#https://play.example",
            "https://PLAY.example",
            "null",
            "",
            " https://play.example",
            "https://games.example",
            "https://evilgames.example",
            "https://.games.example",
            "https://a..games.example",
            "https://evil.example/.games.example",
            "https://evil.example#.games.example",
            "https://evil.example:1.games.example",
            "https://me@a.games.example",
            "https://a.games.example:8443",
            "https://a.games.example.evil",
            "http://a.games.example",
            "https://*.games.example",
            "https://%2e.games.example",
            "http://localhost",
            "http://localhost:51730",
            "https://play.example, https://evil.example",
            "https://pl\u{e4}y.example",
        ];
        for origin in bad {
            assert!(!some.allow(&headers(&[("origin", origin)])), "{origin}");
        }
        let two = [("origin", "https://play.example"), ("origin", "https://evil.example")];
        assert!(!some.allow(&headers(&two)), "which of them is it?");
        assert!(some.allow(&headers(&[])), "no page");
        assert!(origins(&["*"]).allow(&headers(&[("origin", "null")])));
        assert!(!origins(&[]).allow(&headers(&[("origin", "https://play.example")])));
    }

    #[test]
    fn a_foreign_page_commands_nothing_not_even_by_a_picture() {
        let some = origins(&["https://play.example"]);
        let table: [(&[(&str, &str)], bool); 7] = [
            (&[], true),
            (&[("origin", "https://play.example"), ("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "Cross-Site")], false),
            (&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false),
        ];
        for (of, expected) in table {
            assert_eq!(some.allow_command(&headers(of)), expected, "{of:?}");
            assert!(origins(&["*"]).allow_command(&headers(of)), "{of:?}");
        }
    }
}
