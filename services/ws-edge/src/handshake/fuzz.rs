//! Fuzzing target: the head of a request for a socket or an event stream, with everything that is read of it at the door.

use std::{net::SocketAddr, str::FromStr, sync::LazyLock};

use axum::body::Body;
use herald_fuzz::Target;
use herald_protocol::SessionId;
use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

use super::*;
use crate::{
    identity::token,
    origins::{Allowed, Origins},
    path::Pattern,
    proxy::{FORWARDED_FOR, Network, Proxies, ProxyProtocol, Vouched},
};

const ORIGINS: [&str; 3] = ["https://play.example", "https://*.games.example", "http://localhost:5173"];

static DOOR: LazyLock<(Vec<Pattern>, Origins, Proxies)> = LazyLock::new(|| {
    let patterns =
        ["/ws/{sid}", "/app/ws/{sid}", "/gm/ws/{sid}", "/sse/{sid}"].map(|path| path.parse().expect("a path"));
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| Network::from_str(network).expect("a network"));
    let proxies = Proxies::new(&networks, ProxyProtocol::Off, std::time::Duration::from_secs(1));
    (patterns.to_vec(), Origins::new(&ORIGINS.map(ToOwned::to_owned)), proxies)
});

/// A request's head out of its text, as far as hyper would take it.
fn head(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let mut words = first.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_str(method).ok()?;
    *request.uri_mut() = Uri::from_str(target).ok()?;
    *request.version_mut() = if version == "HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(request.into_parts().0)
}

#[test]
fn handshakes() {
    let usual = "GET /ws/5e551040-0000-4000-8000-00000000000a?after=deadbeef-7&dialect=app HTTP/1.1\r\nHost: play.example\r\nConnection: keep-alive, Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://a.games.example\r\n";
    Target::new("handshakes")
        .seeds([
            format!("{usual}Sec-WebSocket-Protocol: herald.v1, herald.token.a.b.c\r\n\r\n"),
            format!("{usual}Sec-WebSocket-Protocol: herald.plain\r\nAuthorization: Bearer a.b.c\r\nX-Forwarded-For: 203.0.113.7, 10.0.0.2\r\n\r\n"),
            "GET /sse/s?snapshot=1&token=a.b.c&x=%2F HTTP/1.1\r\nAccept: text/event-stream\r\nLast-Event-ID: deadbeef-18446744073709551615\r\n\r\n".to_owned(),
            "GET /gm/ws/G HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n".to_owned(),
            "GET http://play.example/app/ws/s?to%6ben=a&after=0 HTTP/1.1\r\nX-Forwarded-For: [2001:db8::1]:4711\r\nOrigin: null\r\n\r\n".to_owned(),
        ])
        .tokens([
            "\r\n", "after=", "snapshot=", "dialect=", "token=", "&", "=", "?", "%74oken", "Connection: ", "Upgrade: ", "upgrade", "websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: ", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: ", "herald.v1", "herald.plain",
            "herald.token.", "Authorization: Bearer ", "Last-Event-ID: ", "X-Forwarded-For: ", "10.0.0.1", "fd00::1", "::ffff:10.0.0.9", "Origin: ",
            "https://", ".games.example", "https://play.example", "Sec-Fetch-Site: cross-site", ", ", "deadbeef-", "/ws/", "%2e%2e", "%00", "#", "@",
        ])
        .run(|input| {
            let mut head = head(input)?;
            let (patterns, origins, proxies) = &*DOOR;
            let session = patterns.iter().find_map(|pattern| pattern.matches(head.uri.path())).map(|session| {
                assert!(!session.contains('/'));
                percent_decode_str(session).decode_utf8().ok().and_then(|id| SessionId::new(&id).ok()).is_some()
            });
            let way = client(&mut head.headers, proxies);
            let (page, command) = (origins.allow(&head.headers), origins.allow_command(&head.headers));
            assert_eq!(page, is_ours(&head.headers), "{:?}", head.headers);
            assert!(page || !command);
            let asked = asked(&head);
            let opened = opened(&head);
            let tokens = tokens(&mut head);
            Some((session, way, page, command, asked, opened, tokens))
        });
}

/// Whether the page that asks is one of [`ORIGINS`], by a way of our own.
fn is_ours(headers: &HeaderMap) -> bool {
    let all: Vec<_> = headers.get_all("origin").iter().collect();
    let [origin] = all[..] else { return all.is_empty() };
    let Ok(origin) = origin.to_str() else { return false };
    assert!(ORIGINS.iter().all(|known| known.parse::<Allowed>().is_ok()));
    let Some(host) = origin.strip_prefix("https://") else { return origin == ORIGINS[2] };
    let below = host.strip_suffix(".games.example").is_some_and(|below| {
        let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        below.bytes().all(letters) && !below.is_empty() && !format!(".{below}.").contains("..")
    });
    below || host == "play.example"
}

/// Whose request it is: nobody is believed but trusted proxies, and what goes on says just that.
fn client(headers: &mut HeaderMap, proxies: &Proxies) -> (Word, bool) {
    let said = headers.contains_key(&FORWARDED_FOR);
    let mut last = (Word::Nothing, false);
    for from in ["192.0.2.1:9", "10.0.0.1:9"].map(|from| from.parse::<SocketAddr>().expect("an address")) {
        let mut headers = headers.clone();
        let (client, vouched) = proxies.client_of_request(&mut headers, from);
        let way = headers[&FORWARDED_FOR].to_str().expect("text");
        let hops: Vec<std::net::IpAddr> = way.split(", ").map(|hop| hop.parse().expect("an address")).collect();
        assert_eq!(headers.get_all(&FORWARDED_FOR).iter().count(), 1);
        assert_eq!((hops.first(), hops.last()), (Some(&client.ip()), Some(&from.ip())));
        assert!(hops.len() <= 16 && hops[1..].iter().all(|hop| proxies.trusts(*hop)), "{way}");
        assert!(hops.iter().all(|hop| *hop == hop.to_canonical()));
        let believed = matches!(vouched, Vouched::By(_));
        assert!(!believed || said);
        assert_eq!(matches!(vouched, Vouched::Untrusted), said && !proxies.trusts(from.ip()));
        last = (Word::of(vouched), hops.len() > 2);
    }
    last
}

/// [`Vouched`], without its numbers.
#[derive(Hash)]
enum Word {
    Nothing,
    Believed,
    Malformed,
    Else,
}

impl Word {
    const fn of(vouched: Vouched) -> Self {
        match vouched {
            Vouched::Nothing => Self::Nothing,
            Vouched::By(_) => Self::Believed,
            Vouched::Malformed => Self::Malformed,
            _ => Self::Else,
        }
    }
}

/// Where it wants to start.
fn asked(head: &Parts) -> Result<(Option<u8>, bool), String> {
    let asked = Asked::read(head.uri.query().unwrap_or_default()).map_err(|error| error.to_string())?;
    let resumed = asked.with_last_event_id(&head.headers);
    if let Ok(resumed) = &resumed {
        let says = head.headers.get(&LAST_EVENT_ID).is_some_and(|id| !id.is_empty());
        assert!(if says { matches!(resumed.start, Some(Start::After(_))) } else { resumed.start == asked.start });
        assert_eq!(resumed.dialect, asked.dialect);
    }
    let kind = asked.start.map(|start| match start {
        Start::Live => 0,
        Start::Snapshot => 1,
        Start::After(_) => 2,
    });
    Ok((kind, resumed.is_ok()))
}

/// What is answered to it.
fn opened(head: &Parts) -> (u16, Option<bool>) {
    let own = ["connection", "upgrade", "sec-websocket-accept", "sec-websocket-protocol"];
    match Handshake::read(head) {
        Ok(handshake) => {
            let v1 = handshake.v1;
            let answer: http::Response<Body> = handshake.answer();
            assert_eq!((answer.status(), head.version), (StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11));
            assert!(answer.headers().keys().all(|name| own.contains(&name.as_str())));
            assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT].len(), 28);
            let protocol = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).map(|it| it.to_str().expect("text"));
            assert!(matches!(protocol, None | Some(SUB_PROTOCOL | PLAIN_PROTOCOL)), "a token is never said back");
            assert_eq!(v1, protocol == Some(SUB_PROTOCOL));
            (101, Some(v1))
        }
        Err(answer) => {
            assert!(matches!(answer.status().as_u16(), 400 | 426));
            (answer.status().as_u16(), None)
        }
    }
}

/// Whether a token was found, and none goes on.
fn tokens(head: &mut Parts) -> (Option<bool>, bool) {
    let found = token::find(head, true);
    let path = head.uri.path().to_owned();
    token::strip(head, true);
    assert_eq!(head.uri.path(), path);
    head.headers.remove(SEC_WEBSOCKET_PROTOCOL);
    assert_eq!(token::find(head, true), Ok(None), "{} {:?}", head.uri, head.headers);
    (
        found.as_ref().ok().map(Option::is_some),
        found.is_ok_and(|found| found.is_some_and(|token| token.expose().len() > 3)),
    )
}
