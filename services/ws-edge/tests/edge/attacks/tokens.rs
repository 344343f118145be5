//! Tokens that are forged, foreign, stolen or out of place.

use std::time::Duration;

use herald_testkit::{
    Nats,
    http::{Raw, send},
    within, ws,
};
use hyper::Method;
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use super::{BOUND, MINUTE, get_raw, knock, status};
use crate::{
    auth::{door, refused, with_token},
    floods::{close_code, frame},
    forge::{self, SECRET, claims, hs256, mac, rsa_sign, token},
    limits::{OTHER, upgrade},
    support::Engine,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_trick_with_keys_and_algorithms_passes_the_door() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.publish("gm.s1.phase", r#"{"text":"secret"}"#).await;
        let folder = tempfile::tempdir().unwrap();
        let (file, own) =
            (folder.path().join("jwks.json"), forge::jwks(&[forge::rsa_jwk_of(0, "one"), forge::ec_jwk("ec")]));
        std::fs::write(&file, &own).unwrap();
        // Where keys of theirs would be had, if anybody asked.
        let theirs = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", theirs.local_addr().unwrap());
        let jwt = format!("secret = \"{SECRET}\"\njwks = \"{}\"\nrefresh_min = \"1ms\"", file.display());
        let edge = door(&nats, &jwt).start().await;
        let eve = claims("eve", &["s1"]);
        let by = |key: usize| move |text: &[u8]| rsa_sign(key, text);
        let (good, other) =
            (forge::rs256(0, "one", &claims("ann", &["s1"])), forge::rs256(0, "one", &claims("ann", &["s2"])));
        let parts: Vec<_> = good.split('.').collect();
        let other: Vec<_> = other.split('.').collect();
        let jwk = forge::rsa_jwk_of(1, "one");
        let public = forge::rsa_jwk_of(0, "one");
        let table = [
            ("none", token(&json!({"alg": "none"}), &eve, |_| Vec::new())),
            ("NoNe", token(&json!({"alg": "NoNe"}), &eve, |_| Vec::new())),
            ("none, signed all the same", token(&json!({"alg": "none", "kid": "one"}), &eve, mac(SECRET.as_bytes()))),
            ("no algorithm", token(&json!({"typ": "JWT"}), &eve, mac(SECRET.as_bytes()))),
            ("a list of algorithms", token(&json!({"alg": ["HS256"]}), &eve, mac(SECRET.as_bytes()))),
            ("no signature", format!("{}.{}.", parts[0], parts[1])),
            ("no signature at all", format!("{}.{}", parts[0], parts[1])),
            ("another token's signature", format!("{}.{}.{}", parts[0], other[1], parts[2])),
            ("another token's claims", format!("{}.{}.{}", parts[0], forge::base64(eve.to_string()), parts[2])),
            ("half a signature", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..100])),
            ("RS256 of nothing", token(&json!({"alg": "RS256", "kid": "one"}), &eve, |_| vec![0; 256])),
            ("ES256 of nothing", token(&json!({"alg": "ES256", "kid": "ec"}), &eve, |_| vec![0; 64])),
            ("ES256 by the RSA key's id", token(&json!({"alg": "ES256", "kid": "one"}), &eve, |_| vec![0; 64])),
            ("RS256 by the secret", token(&json!({"alg": "RS256", "kid": "one"}), &eve, mac(SECRET.as_bytes()))),
            ("HS256 by the modulus", token(&json!({"alg": "HS256", "kid": "one"}), &eve, mac(&forge::rsa_modulus(0)))),
            (
                "HS256 by the JWK",
                token(&json!({"alg": "HS256", "kid": "one"}), &eve, mac(public.to_string().as_bytes())),
            ),
            ("HS256 by the file", token(&json!({"alg": "HS256", "kid": "one"}), &eve, mac(own.as_bytes()))),
            ("HS256 by nothing", token(&json!({"alg": "HS256", "kid": "../../../../dev/null"}), &eve, mac(b""))),
            ("HS256 by a file's name", token(&json!({"alg": "HS256", "kid": file}), &eve, mac(own.as_bytes()))),
            ("HS512", token(&json!({"alg": "HS512"}), &eve, mac(SECRET.as_bytes()))),
            ("PS256", token(&json!({"alg": "PS256", "kid": "one"}), &eve, by(1))),
            ("a foreign key under a known id", token(&json!({"alg": "RS256", "kid": "one"}), &eve, by(1))),
            ("a question to a database", token(&json!({"alg": "RS256", "kid": "x' OR '1'='1"}), &eve, by(1))),
            ("a command", token(&json!({"alg": "RS256", "kid": "one|sleep 9"}), &eve, by(1))),
            ("an id with NUL", token(&json!({"alg": "RS256", "kid": "one\0x"}), &eve, by(1))),
            ("an id without end", token(&json!({"alg": "RS256", "kid": "k".repeat(8000)}), &eve, by(1))),
            ("an id that is none", token(&json!({"alg": "RS256", "kid": {"one": 1}}), &eve, by(1))),
            ("a key of its own", token(&json!({"alg": "RS256", "kid": "one", "jwk": jwk}), &eve, by(1))),
            ("a place for keys", token(&json!({"alg": "RS256", "kid": "new", "jku": url}), &eve, by(1))),
            ("a place for certificates", token(&json!({"alg": "RS256", "kid": "new", "x5u": url}), &eve, by(1))),
            ("a certificate", token(&json!({"alg": "RS256", "kid": "new", "x5c": ["MIIB"]}), &eve, by(1))),
            (
                "not in base64",
                token(&json!({"alg": "HS256", "b64": false, "crit": ["b64"]}), &eve, mac(SECRET.as_bytes())),
            ),
            (
                "compressed",
                token(&json!({"alg": "HS256", "zip": "DEF", "crit": ["zip"]}), &eve, mac(SECRET.as_bytes())),
            ),
            ("an encrypted one", "e30.e30.e30.e30.e30".to_owned()),
            ("one in the other", token(&json!({"alg": "none", "cty": "JWT"}), &json!(good), |_| Vec::new())),
        ];
        for (what, token) in &table {
            let (code, reason) = refused(&edge.ws("/ws/s1?after=0"), token).await;
            assert_eq!(code, 4401, "{what}: {reason}");
            let bearer = format!("Bearer {token}");
            send(Method::GET, &edge.http("/sse/s1?after=0"), &[("authorization", &bearer)], "")
                .await
                .expect_status(401);
        }
        assert!(timeout(Duration::ZERO, theirs.accept()).await.is_err(), "nobody asks where a token says");
        for good in [good, hs256(&claims("ann", &["s1"])), forge::es256("ec", &claims("ann", &["s1"]))] {
            with_token(&edge.ws("/ws/s1?after=0"), &good).await.wait_events(1, BOUND).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_where_none_belongs_is_none() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        engine.publish("gm.s1.phase", r#"{"text":"secret"}"#).await;
        let edge = door(&nats, &format!("secret = \"{SECRET}\"\nwait = \"200ms\"")).start().await;
        let token = hs256(&claims("ann", &["s1"]));
        let headers = [
            format!("cookie: token={token}; access_token={token}; authorization=Bearer {token}\r\n"),
            format!("x-authorization: Bearer {token}\r\n"),
            format!("proxy-authorization: Bearer {token}\r\n"),
            format!("x-forwarded-access-token: {token}\r\n"),
            format!("authorization: Basic {token}\r\n"),
            format!("authorization: Token {token}\r\n"),
            format!("authorization: {token}\r\n"),
            format!("authorization: Bearer\r\nx: {token}\r\n"),
            format!("sec-websocket-protocol: token.{token}, herald.v1\r\n"),
            format!("sec-websocket-protocol: bearer.{token}, herald.v1\r\n"),
            "herald-user: ann\r\nherald-sessions: *\r\n".to_owned(),
        ];
        for lines in headers {
            for path in ["/sse/s1?after=0", "/api/state"] {
                assert_eq!(status(&get_raw(&edge, path, &lines).await), 401, "{lines}");
            }
            let (mut raw, head, mut read) = knock(&edge, "/ws/s1?after=0", &lines).await;
            assert_eq!(status(&head), 101, "{head}");
            raw.write(frame(0x88, b"")).await;
            read.extend(raw.read_to_end(BOUND).await);
            assert!(matches!(close_code(&read), 1000 | 4401), "{lines}: {}", read.escape_ascii());
            assert!(!String::from_utf8_lossy(&read).contains("secret"), "{lines}");
        }
        for query in ["token", "TOKEN", "access_token", "jwt", "authorization", "bearer", "herald.token", "%74oken"] {
            assert_eq!(status(&get_raw(&edge, &format!("/sse/s1?after=0&{query}={token}"), "").await), 401, "{query}");
        }
        // In a body, and behind a fragment, which is no part of a request.
        let body = json!({ "token": token, "session_id": "s1" }).to_string();
        send(Method::POST, &edge.http("/init_session"), &[], body).await.expect_status(401);
        assert!(matches!(status(&get_raw(&edge, &format!("/sse/s1#token={token}"), "").await), 400 | 401));
    })
    .await;
}

/// Whoever has a token is its bearer, for as long as it is good: that is what such tokens are. So all who use it have no more than
/// its one user may have, and it expires (`auth::a_connection_ends_with_its_token_unless_a_fresh_one_comes`).
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_others_use_too_gets_them_no_more_than_its_user_has() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let edge = door(&nats, &format!("secret = \"{SECRET}\"")).set("limits.connections_per_user", 2).start().await;
        let hello = async |socket: &ws::Client| {
            socket.wait_for("hello", BOUND, |frame| frame.event() == "herald.hello").await;
        };
        let token = hs256(&claims("ann", &["s1", "s2"]));
        let one = with_token(&edge.ws("/ws/s1"), &token).await;
        let two = with_token(&edge.ws("/ws/s2"), &token).await;
        hello(&one).await;
        hello(&two).await;
        // From another address, in another session, and with another token of the same user.
        for token in [&token, &hs256(&claims("ann", &["s2"]))] {
            let mut thief = Raw::connect_from(OTHER, edge.address()).await;
            let request = upgrade("/ws/s2");
            thief.write(request.replacen("\r\n", &format!("\r\nauthorization: Bearer {token}\r\n"), 1)).await;
            let read = thief.read_until(b"retry in", BOUND).await;
            let head = read.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
            assert_eq!(close_code(&read[head + 4..]), 1013, "{}", read.escape_ascii());
        }
        hello(&with_token(&edge.ws("/ws/s1"), &hs256(&claims("bob", &["s1"]))).await).await;
        assert!(one.ended().is_none() && two.ended().is_none(), "whoever was there first stays");
    })
    .await;
}
