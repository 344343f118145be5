//! Heads of requests and responses, to NATS headers and back. Pure.

use std::time::Duration;

use async_nats::HeaderMap;
use herald_protocol::headers::{
    BODY, DEADLINE, DEFAULT_DOOR, DOOR, HTTP_PREFIX, METHOD, PATH, QUERY, REQUEST_HEADERS, STATUS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::HEAD_ROOM;

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
    Ok(RequestHead { method, uri, headers, deadline, door, body: text(BODY).map(ToOwned::to_owned) })
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
    Ok((status, headers))
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
        let name: &str = name.as_ref();
        let Some(name) = name
            .get(..HTTP_PREFIX.len())
            .filter(|prefix| prefix.eq_ignore_ascii_case(HTTP_PREFIX))
            .and_then(|_| HeaderName::from_bytes(&name.as_bytes()[HTTP_PREFIX.len()..]).ok())
        else {
            continue;
        };
        for value in values {
            if let Ok(value) = HeaderValue::from_bytes(value.as_str().as_bytes()) {
                headers.append(name.clone(), value);
            }
        }
    }
    headers
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
