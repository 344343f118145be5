//! Heads of requests and responses, to NATS headers and back. Pure.

use std::time::Duration;

use async_nats::HeaderMap;
use herald_protocol::{
    TraceContext,
    headers::{
        BODY, DEADLINE, DEFAULT_DOOR, DOOR, HTTP_PREFIX, METHOD, PATH, QUERY, REQUEST_HEADERS, ROLE, SESSIONS, STATUS,
        TRACEPARENT, USER,
    },
    subject,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::{Caller, HEAD_ROOM};

/// What a caller that names no deadline is given.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// A deadline beyond this is taken for this: nobody waits so long.
const LONGEST_DEADLINE: Duration = Duration::from_secs(600);

/// Headers that speak of one connection and end with it (RFC 9110, 7.6.1), with the obsolete ones still met.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A message that is no request or response of this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {what}: {header} is missing or not valid")]
pub(super) struct BadHead {
    what: &'static str,
    header: &'static str,
}

/// The head of a request does not fit into a message.
#[derive(Debug, thiserror::Error)]
#[error("the headers are too large")]
pub(super) struct HeadTooLarge;

/// A request's head, taken apart.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: http::HeaderMap,
    pub(super) deadline: Duration,
    pub(super) door: String,
    pub(super) caller: Option<Caller>,
    pub(super) body: Option<String>,
}

/// Writes a request's head. `left` and the body's subject are added where the message is sent.
pub(super) fn write_request(parts: &http::request::Parts, door: &str) -> Result<HeaderMap, HeadTooLarge> {
    let mut head = HeaderMap::new();
    head.insert(METHOD, parts.method.as_str());
    head.insert(PATH, parts.uri.path());
    if let Some(query) = parts.uri.query().filter(|query| !query.is_empty()) {
        head.insert(QUERY, query);
    }
    head.insert(DOOR, door);
    if let Some(caller) = parts.extensions.get::<Caller>() {
        head.insert(USER, caller.user());
        head.insert(SESSIONS, caller.sessions().to_string());
        if let Some(role) = caller.role() {
            head.insert(ROLE, role);
        }
    }
    if let Some(context) = parts.extensions.get::<TraceContext>() {
        head.insert(TRACEPARENT, context.to_string());
    }
    for name in REQUEST_HEADERS {
        write_header(&mut head, name, parts.headers.get_all(name));
    }
    fitting(head)
}

/// Reads a request's head.
pub(super) fn read_request(head: &HeaderMap) -> Result<RequestHead, BadHead> {
    let bad = |header| BadHead { what: "request", header };
    let text = |name: &'static str| head.get(name).map(async_nats::HeaderValue::as_str);
    let method = text(METHOD).and_then(|method| Method::from_bytes(method.as_bytes()).ok()).ok_or(bad(METHOD))?;
    let path = text(PATH).filter(|path| path.starts_with('/') && !path.contains(['?', '#'])).ok_or(bad(PATH))?;
    let query = text(QUERY).filter(|query| !query.is_empty());
    // What is behind it would be left out without a word.
    if query.is_some_and(|query| query.contains('#')) {
        return Err(bad(QUERY));
    }
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let uri =
        Uri::builder().path_and_query(target).build().map_err(|_| bad(if query.is_some() { QUERY } else { PATH }))?;
    let deadline = match text(DEADLINE) {
        Some(left) => Duration::from_millis(left.parse().map_err(|_| bad(DEADLINE))?).min(LONGEST_DEADLINE),
        None => DEFAULT_DEADLINE,
    };
    let mut headers = read_headers(head);
    let listed: Vec<HeaderName> =
        headers.keys().filter(|name| !REQUEST_HEADERS.contains(&name.as_str())).cloned().collect();
    for name in listed {
        headers.remove(name);
    }
    let door = text(DOOR).filter(|door| !door.is_empty()).unwrap_or(DEFAULT_DOOR).to_owned();
    let caller = text(USER).map(|user| {
        let sessions = text(SESSIONS).and_then(|sessions| sessions.parse().ok()).ok_or(bad(SESSIONS))?;
        Caller::new(user, text(ROLE), sessions).map_err(|_| bad(USER))
    });
    let caller = caller.transpose()?;
    // Whoever fetches it publishes there.
    if text(BODY).is_some_and(|body| !subject::is_inbox(body)) {
        return Err(bad(BODY));
    }
    Ok(RequestHead { method, uri, headers, deadline, door, caller, body: text(BODY).map(ToOwned::to_owned) })
}

/// Writes a response's head.
pub(super) fn write_response(status: StatusCode, headers: &http::HeaderMap) -> Result<HeaderMap, HeadTooLarge> {
    let mut head = HeaderMap::new();
    head.insert(STATUS, status.as_str());
    for name in headers.keys().filter(|name| travels(name, headers)) {
        write_header(&mut head, name.as_str(), headers.get_all(name));
    }
    fitting(head)
}

/// Reads a response's head.
pub(super) fn read_response(head: &HeaderMap) -> Result<(StatusCode, http::HeaderMap), BadHead> {
    let status = head.get(STATUS).and_then(|status| StatusCode::from_bytes(status.as_str().as_bytes()).ok());
    let status = status.filter(|status| (200..600).contains(&status.as_u16()));
    let status = status.ok_or(BadHead { what: "response", header: STATUS })?;
    let all = read_headers(head);
    let hops: Vec<HeaderName> = all.keys().filter(|name| !travels(name, &all)).cloned().collect();
    let mut headers = all;
    for name in hops {
        headers.remove(name);
    }
    if !has_length(&headers) {
        return Err(BadHead { what: "response", header: "Herald-H-content-length" });
    }
    Ok((status, headers))
}

/// Whether a response says one length or none: of several, each proxy behind us might believe another one.
fn has_length(headers: &http::HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let number = |length: &HeaderValue| {
        let digits = length.as_bytes();
        digits.iter().all(u8::is_ascii_digit) && std::str::from_utf8(digits).is_ok_and(|it| it.parse::<u64>().is_ok())
    };
    lengths.next().is_none_or(number) && lengths.next().is_none()
}

/// Whether a header of a message goes on beyond the connection it came from.
fn travels(name: &HeaderName, headers: &http::HeaderMap) -> bool {
    let named = || {
        let tokens = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(name.as_str()))
    };
    !HOP_BY_HOP.contains(name) && !named()
}

fn write_header<'a>(head: &mut HeaderMap, name: &str, values: impl IntoIterator<Item = &'a HeaderValue>) {
    let name = format!("{HTTP_PREFIX}{name}");
    for value in values {
        // NATS carries text: what is not UTF-8 stays behind.
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => head.append(name.as_str(), text),
            Err(_) => tracing::debug!(header = name, "header is not UTF-8, left out"),
        }
    }
}

fn read_headers(head: &HeaderMap) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, values) in head.iter() {
        let Some(name) = http_name(name.as_ref()) else { continue };
        for value in values {
            if let Ok(value) = HeaderValue::from_bytes(value.as_str().as_bytes()) {
                headers.append(name.clone(), value);
            }
        }
    }
    headers
}

/// The name of the HTTP header that travels under `name`.
fn http_name(name: &str) -> Option<HeaderName> {
    let (prefix, name) = name.split_at_checked(HTTP_PREFIX.len())?;
    if prefix.eq_ignore_ascii_case(HTTP_PREFIX) { HeaderName::from_bytes(name.as_bytes()).ok() } else { None }
}

fn fitting(head: HeaderMap) -> Result<HeaderMap, HeadTooLarge> {
    let line = |name: &async_nats::HeaderName, value: &async_nats::HeaderValue| {
        let name: &str = name.as_ref();
        name.len() + value.as_str().len() + 4
    };
    let size: usize = head.iter().flat_map(|(name, values)| values.iter().map(move |value| line(name, value))).sum();
    // Room for the lines that are added where the message is sent.
    if size + 1024 > HEAD_ROOM { Err(HeadTooLarge) } else { Ok(head) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> http::request::Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn response(headers: &[(&str, &str)]) -> http::HeaderMap {
        let pairs = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        pairs.collect::<Vec<_>>().into_iter().fold(http::HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
    }

    fn head(lines: &[(&str, &str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, *value);
        }
        head
    }

    #[test]
    fn a_request_head_is_written_as_documented() {
        let headers = [("accept", "a/b"), ("accept", "c/d"), ("cookie", "secret"), ("x-forwarded-for", "10.0.0.1")];
        let parts = request("http://door/api/a%2Fb?lang=fr&x=%20", &headers);
        let expected = head(&[
            ("Herald-Method", "GET"),
            ("Herald-Path", "/api/a%2Fb"),
            ("Herald-Query", "lang=fr&x=%20"),
            ("Herald-Door", "app"),
            ("Herald-H-accept", "a/b"),
            ("Herald-H-accept", "c/d"),
            ("Herald-H-x-forwarded-for", "10.0.0.1"),
        ]);
        assert_eq!(write_request(&parts, "app").unwrap(), expected);
    }

    #[test]
    fn who_sent_a_request_travels_in_headers_of_its_own() {
        let mut parts = request("/x", &[("herald-user", "root"), ("herald-sessions", "*")]);
        let written = write_request(&parts, "event").unwrap();
        assert!(read_request(&written).unwrap().caller.is_none(), "headers from outside say nothing");
        assert!(written.iter().all(|(_, values)| values.iter().all(|value| value.as_str() != "root")));
        for (role, sessions) in [(Some("player"), "a,b"), (None, "*"), (Some("x y"), "")] {
            let caller = Caller::new("ann é", role, sessions.parse().unwrap()).unwrap();
            parts.extensions.insert(caller.clone());
            let written = write_request(&parts, "event").unwrap();
            assert_eq!(written.get("Herald-User").unwrap().as_str(), "ann é");
            assert_eq!(written.get("Herald-Sessions").unwrap().as_str(), sessions);
            assert_eq!(read_request(&written).unwrap().caller, Some(caller));
        }
        for (name, value) in [("Herald-Sessions", "a b"), ("Herald-Sessions", "a.*"), ("Herald-User", "")] {
            let mut bad = write_request(&parts, "event").unwrap();
            bad.insert(name, value);
            assert_eq!(read_request(&bad).unwrap_err().header, name, "a half said identity is none");
        }
        let mut bad = write_request(&parts, "event").unwrap();
        bad.insert("Herald-Role", "");
        assert!(read_request(&bad).is_err());
    }

    #[test]
    fn a_trace_travels_beside_what_a_client_sends() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut parts = request("/x", &[("traceparent", "00-11111111111111111111111111111111-1111111111111111-01")]);
        assert!(write_request(&parts, "event").unwrap().get("traceparent").is_none(), "not believed as it came");
        parts.extensions.insert(text.parse::<TraceContext>().unwrap());
        let written = write_request(&parts, "event").unwrap();
        assert_eq!(written.get("traceparent").unwrap().as_str(), text);
        assert!(read_request(&written).unwrap().headers.is_empty(), "a handler is told by other means");
    }

    #[test]
    fn a_response_head_leaves_hop_by_hop_headers_behind() {
        let headers = response(&[
            ("content-type", "image/png"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("trailer", "x"),
            ("content-length", "5"),
        ]);
        let expected = head(&[
            ("Herald-Status", "200"),
            ("Herald-H-content-type", "image/png"),
            ("Herald-H-set-cookie", "a=1"),
            ("Herald-H-set-cookie", "b=2"),
            ("Herald-H-content-length", "5"),
        ]);
        assert_eq!(write_response(StatusCode::OK, &headers).unwrap(), expected);
        // A service that sends them all the same is not believed.
        let mut all = expected;
        all.insert("Herald-H-Connection", "x-private");
        all.insert("Herald-H-x-private", "1");
        let (status, headers) = read_response(&all).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert!(!headers.contains_key("connection") && !headers.contains_key("x-private"));
    }

    #[test]
    fn a_request_head_without_the_optional_lines_has_defaults() {
        let read = read_request(&head(&[("Herald-Method", "POST"), ("Herald-Path", "/x")])).unwrap();
        assert_eq!((read.method, read.uri.to_string().as_str()), (Method::POST, "/x"));
        assert_eq!((read.deadline, read.door.as_str(), read.body), (DEFAULT_DEADLINE, "event", None));
        let long = head(&[("Herald-Method", "GET"), ("Herald-Path", "/"), ("Herald-Deadline", "99999999999")]);
        assert_eq!(read_request(&long).unwrap().deadline, LONGEST_DEADLINE);
    }

    #[test]
    fn bad_heads_name_what_is_wrong() {
        let good = [("Herald-Method", "GET"), ("Herald-Path", "/x")];
        for (name, value) in [
            ("Herald-Method", "G T"),
            ("Herald-Method", ""),
            ("Herald-Path", "x"),
            ("Herald-Path", "/x?y"),
            ("Herald-Path", "/x y"),
            ("Herald-Query", "a b"),
            ("Herald-Query", "a=1#b"),
            ("Herald-Deadline", "soon"),
            ("Herald-Deadline", "-1"),
            ("Herald-Body", "gm.s1.phase"),
        ] {
            let mut bad = head(&good);
            bad.insert(name, value);
            let error = read_request(&bad).unwrap_err();
            assert_eq!(error.to_string(), format!("bad request: {name} is missing or not valid"), "{value}");
        }
        assert!(read_request(&head(&good[..1])).is_err() && read_request(&head(&good[1..])).is_err());
        for status in ["", "99", "101", "600", "abc", "2000"] {
            assert!(read_response(&head(&[("Herald-Status", status)])).is_err(), "{status}");
        }
        assert!(read_response(&HeaderMap::new()).is_err());
        let length = |lengths: &[&str]| {
            let lines = lengths.iter().map(|length| ("Herald-H-content-length", *length));
            let mut head = head(&[("Herald-Status", "200")]);
            lines.for_each(|(name, value)| head.append(name, value));
            read_response(&head).is_ok()
        };
        assert!(length(&[]) && length(&["0"]) && length(&["18446744073709551615"]));
        for bad in [&["5", "6"][..], &["5", "5"], &["+5"], &["-1"], &["5, 6"], &[""], &["x"], &["18446744073709551616"]]
        {
            assert!(!length(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_head_that_fits_into_no_message_is_refused() {
        let long = "x".repeat(HEAD_ROOM);
        assert!(write_request(&request("/", &[("user-agent", &long)]), "event").is_err());
        assert!(write_response(StatusCode::OK, &response(&[("x-long", &long)])).is_err());
        assert!(write_request(&request("/", &[("cookie", &long)]), "event").is_ok(), "what stays behind has no size");
    }

    proptest! {
        #[test]
        fn a_request_head_reads_back_what_travels(
            path in "(/[a-zA-Z0-9._~%!$&'()*+,;=:@-]{0,12}){1,4}",
            query in "[a-zA-Z0-9._~!$&'()*+,;=:@/?-]{0,20}",
            listed in prop::collection::vec((0..REQUEST_HEADERS.len(), "[!-~]([ -~]{0,20}[!-~])?"), 0..6),
            others in prop::collection::vec(("x-[a-z]{1,10}", "[!-~]{0,10}"), 0..4),
        ) {
            let uri = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
            let named = listed.iter().map(|(name, value)| (REQUEST_HEADERS[*name], value.as_str()));
            let headers: Vec<(&str, &str)> =
                named.clone().chain(others.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
            let sent = request(&uri, &headers);
            let read = read_request(&write_request(&sent, "event").unwrap()).unwrap();
            prop_assert_eq!(&read.method, &sent.method);
            prop_assert_eq!(read.uri.path(), sent.uri.path());
            prop_assert_eq!(read.uri.query().unwrap_or_default(), query);
            prop_assert_eq!(read.headers, response(&named.collect::<Vec<_>>()));
        }

        #[test]
        fn no_message_makes_reading_panic(lines in prop::collection::vec(
            ("Herald-(Method|Path|Query|Deadline|Status|Door|Body|User|Role|Sessions|H-[a-zA-Z-]{0,8})|[A-Za-z-]{1,10}", "[^\r\n]{0,20}"), 0..8
        )) {
            let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let head = head(&lines);
            let _ = read_request(&head);
            let _ = read_response(&head);
        }
    }
}
