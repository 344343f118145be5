//! Fuzzing target: what a forward makes of a request's target and body before it goes on.

use axum::extract::Query;
use herald_fuzz::{Target, line};
use herald_protocol::SessionId;
use http::Method;

use super::*;
use crate::config::Config;

/// The session that a service which reads to the letter takes from a query: one that is there once.
fn of_query(uri: &Uri) -> Option<SessionId> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let mut named = pairs.iter().filter(|(name, _)| name == "session_id");
    let (only, None) = (named.next()?, named.next()) else { return None };
    SessionId::new(&only.1).ok()
}

/// The same of a body.
fn of_body(body: &[u8]) -> Option<SessionId> {
    let object: serde_json::Value = serde_json::from_slice(body).ok()?;
    SessionId::new(object.as_object()?.get("session_id")?.as_str()?).ok()
}

/// The target on the first line, the body behind it.
#[test]
fn forwards() {
    let config = Config::default();
    let listener = config.listeners().remove(0);
    let shared = Forwards::new(&config.http, Limits::new(&config));
    let health = listener.health.as_ref().and_then(Health::new).map(Arc::new).expect("what it says of its health");
    let places: Vec<(Vec<Pattern>, Forward)> = listener
        .forwards
        .iter()
        .map(|forward| {
            let paths = forward.paths.iter().map(|path| path.parse().expect("a path")).collect();
            (paths, Forward::new(forward, Trust::None, &health, &shared).expect("a forward"))
        })
        .collect();
    Target::new("forwards")
        .seeds([
            "/app/api/start?lang=fr&session_id=abc\n",
            "/gm/submit_news?x=1\n{\"session_id\":\"abc\",\"content\":\"\\u00e9\"}",
            "/init_session?session%5Fid=a%62c\n{\"session\\u005fid\":\"a\\u0062c\",\"x\":[{\"session_id\":\"no\"}]}",
            "/app/api/images/G/real.png?session_id\n{\"session_id\":\"first\",\"session_id\":\"last\"}",
            "/api/cancel?session_id=a+b&session_id=\n",
            "http://127.0.0.1/app/api/choose?kind=fake&session_id=abc\n",
        ])
        .tokens([
            "session_id=",
            "session%5fid=",
            "\"session_id\":",
            "\"session\\u005fid\":",
            "&",
            "=",
            "?",
            "+",
            "%20",
            ";",
            "/app",
            "/gm",
            "/api/",
            "/api/cancel",
            "//",
            "/..",
            "http://",
            "\n",
            "{",
            "}",
            "\"",
            ":",
            ",",
            "\\ud800",
            "1e999",
            "\u{feff}",
            "\"abc\"",
            "#",
            "\\u0000",
        ])
        .longest(800)
        .run(|input| {
            let (target, body) = line(input)?;
            let uri: Uri = target.parse().ok()?;
            let query = uri.query().and_then(|query| commands::session_in_query(query, "session_id"));
            let theirs = of_query(&uri);
            assert!(theirs.is_none() || theirs == query, "counted in {query:?}, played in {theirs:?}");
            let in_body = commands::session_in_body(body, "session_id");
            let theirs = of_body(body);
            assert!(theirs.is_none() || theirs == in_body, "counted in {in_body:?}, played in {theirs:?}");
            let place = places.iter().find(|(paths, _)| paths.iter().any(|path| path.matches(uri.path()).is_some()));
            let stripped = place.map(|(_, forward)| {
                let mut request = Request::new(());
                *request.method_mut() = Method::POST;
                *request.uri_mut() = uri.clone();
                let (mut head, ()) = request.into_parts();
                forward.strip(&mut head);
                // A service is asked for a path of its own, and nobody else is asked.
                assert_eq!(
                    head.uri.path(),
                    uri.path().strip_prefix(forward.strip.as_str()).expect("the door's prefix")
                );
                assert_eq!(head.uri.query(), uri.query());
                let counted = forward.counted_by(&uri).is_some();
                assert!(!counted || forward.is_for_commands());
                (forward.is_health(), counted)
            });
            Some((query.is_some(), in_body.is_some(), stripped))
        });
}
