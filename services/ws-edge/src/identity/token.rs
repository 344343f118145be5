//! Where a token is found, and how it is kept out of sight.

use std::fmt;

use herald_protocol::frame::TOKEN_PROTOCOL;
use http::{
    Uri,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::Refusal;

/// Longest token, in bytes. Longer heads of requests are refused anyway.
pub const MAX_TOKEN: usize = 16 << 10;
/// Longest frame a token is looked for in, in bytes.
pub const MAX_FRAME: usize = MAX_TOKEN + 256;
/// The parameter of a query that is a token, where it may be one.
pub(crate) const PARAMETER: &str = "token";
/// The event of a frame that brings a token.
const EVENT: &str = "herald.token";

/// A token as it came: not shown by `Debug`, and no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, for the one place that verifies it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(********)")
    }
}

/// The token of a request, if it has one: in `Authorization: Bearer`, in the list of sub-protocols, and, where `in_query`, in
/// the parameter `token`.
///
/// # Errors
/// [`Refusal::Several`]: whose would count is then for nobody to guess.
pub fn find(head: &Parts, in_query: bool) -> Result<Option<Token>, Refusal> {
    let lines = |name| head.headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let in_header = lines(AUTHORIZATION).filter_map(bearer);
    let offered = lines(SEC_WEBSOCKET_PROTOCOL).flat_map(|line| line.split(','));
    let offered = offered.filter_map(|item| item.trim().strip_prefix(TOKEN_PROTOCOL));
    let query = head.uri.query().filter(|_| in_query).unwrap_or_default();
    let in_query = query.split('&').filter(|pair| is_token(pair)).map(value);
    let mut all = in_header.chain(offered).map(Token::from).chain(in_query);
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(Refusal::Several),
        (token, None) => Ok(token),
    }
}

/// Takes the token out of a request that goes on: nobody behind the door needs it, or could keep it to themselves.
pub fn strip(head: &mut Parts, in_query: bool) {
    if head.headers.get_all(AUTHORIZATION).iter().any(|line| line.to_str().is_ok_and(|line| bearer(line).is_some())) {
        head.headers.remove(AUTHORIZATION);
    }
    let Some(query) = head.uri.query().filter(|query| in_query && query.split('&').any(is_token)) else { return };
    let rest: Vec<_> = query.split('&').filter(|pair| !is_token(pair)).collect();
    let path = head.uri.path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    // Made of parts of a URI, it is one.
    head.uri = target.parse().unwrap_or_else(|_| Uri::from_static("/"));
}

/// The token in a text frame `{"event":"herald.token","data":{"token":"..."}}`; `None`: it is another frame.
#[must_use]
pub fn in_frame(text: &[u8]) -> Option<Token> {
    #[derive(Deserialize)]
    struct Frame {
        event: String,
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        token: String,
    }
    let frame: Frame = serde_json::from_slice(text).ok()?;
    (frame.event == EVENT).then_some(Token(frame.data.token))
}

/// Whether a text frame is about a token, one that can be used or not: nobody but the door is to see it.
#[must_use]
pub fn is_frame(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Frame {
        event: String,
    }
    serde_json::from_slice(text).is_ok_and(|frame: Frame| frame.event == EVENT)
}

/// The credentials of the one scheme that is ours. Others, such as a proxy's own `Basic`, are none of our business.
fn bearer(line: &str) -> Option<&str> {
    let (scheme, token) = line.split_once(' ').unwrap_or((line, ""));
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn is_token(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    percent_decode_str(name).decode_utf8().is_ok_and(|name| name == PARAMETER)
}

fn value(pair: &str) -> Token {
    let value = pair.split_once('=').map_or("", |(_, value)| value);
    Token(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_token_is_found_in_each_of_its_places() {
        let none: &[(&str, &str)] = &[];
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
        let table: [Row; 12] = [
            ("/ws/s", none, None),
            ("/ws/s", &[("authorization", "Bearer a.b.c")], Some("a.b.c")),
            ("/ws/s", &[("authorization", "bearer  a.b.c ")], Some("a.b.c")),
            ("/ws/s", &[("authorization", "Bearer")], Some("")),
            ("/ws/s", &[("authorization", "Basic YTpi")], None),
            ("/ws/s", &[("sec-websocket-protocol", "herald.v1, herald.token.a.b.c")], Some("a.b.c")),
            ("/ws/s", &[("sec-websocket-protocol", "herald.token.a.b.c,herald.v1")], Some("a.b.c")),
            (
                "/ws/s",
                &[("sec-websocket-protocol", "x"), ("sec-websocket-protocol", "herald.token.a.b.c")],
                Some("a.b.c"),
            ),
            ("/ws/s", &[("sec-websocket-protocol", "herald.v1")], None),
            ("/ws/s?after=5&token=a.b%2Ec", none, Some("a.b.c")),
            ("/ws/s?%74oken=a.b.c", none, Some("a.b.c")),
            ("/ws/s?tokens=a.b.c&xtoken=d", none, None),
        ];
        for (uri, headers, expected) in table {
            let found = find(&head(uri, headers), true).unwrap();
            assert_eq!(found.as_ref().map(Token::expose), expected, "{uri} {headers:?}");
        }
        assert_eq!(find(&head("/ws/s?token=a.b.c", none), false), Ok(None), "not unless it is allowed");
        for (uri, headers) in [
            ("/ws/s?token=a&token=b", none),
            ("/ws/s?token=a", &[("authorization", "Bearer a")]),
            ("/ws/s", &[("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            ("/ws/s", &[("authorization", "Bearer a"), ("sec-websocket-protocol", "herald.token.a")]),
        ] {
            assert_eq!(find(&head(uri, headers), true), Err(Refusal::Several), "{uri} {headers:?}");
        }
    }

    #[test]
    fn what_goes_on_has_no_token() {
        for (uri, rest) in [
            ("/api/start?token=a.b.c", "/api/start"),
            ("/api/start?lang=fr&token=a.b.c&x=%2F", "/api/start?lang=fr&x=%2F"),
            ("/api/start?to%6ben=a", "/api/start"),
            ("/api/start?lang=fr", "/api/start?lang=fr"),
        ] {
            let mut head = head(uri, &[("authorization", "BEARER a.b.c"), ("accept", "*/*")]);
            strip(&mut head, true);
            assert_eq!(head.uri, rest);
            assert!(!head.headers.contains_key(AUTHORIZATION) && head.headers.contains_key("accept"));
        }
        let mut other = head("/x?token=theirs", &[("authorization", "Basic YTpi")]);
        strip(&mut other, false);
        assert_eq!((other.uri.to_string().as_str(), other.headers.len()), ("/x?token=theirs", 1));
    }

    #[test]
    fn a_frame_brings_a_token_or_is_another_one() {
        let token = in_frame(br#"{"event":"herald.token","data":{"token":"a.b.c","x":1},"y":2}"#).unwrap();
        assert_eq!((token.expose(), format!("{token:?}").as_str()), ("a.b.c", "Token(********)"));
        for other in [
            "",
            "a.b.c",
            "{}",
            r#"{"event":"herald.token"}"#,
            r#"{"event":"herald.token","data":{"token":5}}"#,
            r#"{"event":"herald.tokens","data":{"token":"a"}}"#,
            r#"{"event":"herald.token","data":{"token":"a"}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(in_frame(other.as_bytes()), None, "{other}");
        }
        for about in [r#"{"event":"herald.token"}"#, r#"{"data":"a.b.c","event":"herald.\u0074oken"}"#] {
            assert!(is_frame(about.as_bytes()), "{about}");
        }
        for other in ["", "5", r#"{"event":"roll","data":{"event":"herald.token"}}"#] {
            assert!(!is_frame(other.as_bytes()), "{other}");
        }
        assert_eq!(in_frame(b"\xff"), None);
    }
}
