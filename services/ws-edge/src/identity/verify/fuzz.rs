//! Fuzzing target: tokens of all kinds, and claims that are signed as they should be.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt as _;
use herald_fuzz::{Target, line};
use ring::hmac;
use serde_json::json;

use super::*;
use crate::{
    config::Config,
    identity::forge::{self, SECRET, base64, es256, hs256, mac, rs256},
};

/// Long after this test is run for the last time, in seconds since 1970.
const LATER: u64 = 4_102_444_800;

/// Verifiers that take tokens of the secret, of the keys, and of both.
fn verifiers() -> [Arc<Verifier>; 3] {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, forge::jwks(&[forge::rsa_jwk("r"), forge::ec_jwk("e")])).expect("written");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    [(true, false), (false, true), (true, true)].map(|(secret, keys)| {
        let mut config = Config::default().jwt;
        config.jwks = keys.then(|| file.to_str().expect("a path").to_owned());
        if secret {
            config.secret = SECRET.to_owned().into();
        }
        if secret && keys {
            (config.issuers, config.audiences) = (vec!["issuer".to_owned()], vec!["herald".to_owned()]);
            config.role_claim = "/realm/roles/0".to_owned();
        }
        // An unknown key is then unknown at once.
        config.refresh_min = Duration::from_secs(86_400).into();
        let (verifier, reader) = Verifier::new(&config).expect("a verifier");
        if let Some(reader) = reader {
            runtime.block_on(async {
                let condition = herald_runtime::health::Health::new().condition("token keys");
                let keys = verifier.keys.as_ref().expect("keys");
                let reading = async {
                    while keys.find(Some("r"), Algorithm::RS256).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    () = reader.run(condition) => {}
                    () = reading => {}
                }
            });
        }
        verifier
    })
}

/// Claims of somebody, for ever: for those who ask for an audience, and for the others.
fn claims() -> [Value; 2] {
    let named = json!({ "sub": "ann", "sessions": ["s1", "s2"], "exp": LATER, "iss": "issuer", "aud": ["herald"], "realm": { "roles": ["player"] } });
    [named, json!({ "sub": "bob", "role": "operator", "sessions": "*", "exp": LATER })]
}

/// What was signed: all of a token but its signature.
fn signed(token: &str) -> &str {
    token.rsplit_once('.').map_or("", |(signed, _)| signed)
}

#[test]
fn tokens() {
    let verifiers = verifiers();
    let [named, plain] = claims();
    let good = [&named, &plain].map(|claims| [rs256(0, "r", claims), es256("e", claims)]).concat();
    // Nobody else has the private keys, so that no other can be good.
    let ours: HashSet<&str> = good.iter().map(|token| signed(token)).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let (public, bare) = (forge::rsa_modulus(0), json!({ "alg": "HS256" }).to_string());
    Target::new("tokens")
        .seeds(good.iter().map(|token| format!("token\n{token}")))
        .seeds([hs256(&named), hs256(&plain), rs256(1, "r", &plain)].map(|token| format!("token\n{token}")))
        .seeds([
            format!("claims\n{named}"),
            format!("claims\n{plain}"),
            format!("claims\n{}", json!({ "sub": "\u{e9}", "sessions": "*", "exp": 4_102_444_800.5, "nbf": 1, "role": null, "iss": "issuer", "aud": "herald" })),
            format!("header\n{}\n{}", json!({ "alg": "HS256", "kid": "r", "crit": ["x"] }), plain),
            format!("header\n{}\n{}", json!({ "alg": "none" }), plain),
            format!("other\n{bare}\n{plain}"),
            format!("public\n{}\n{}", json!({ "alg": "HS256", "kid": "r" }), plain),
            format!("{{\"event\":\"herald.token\",\"data\":{{\"token\":\"{}\"}}}}", hs256(&plain)),
        ])
        .tokens([
            ".", "..", "=", "{", "}", ":", ",", "[", "]", "\"alg\":", "\"HS256\"", "\"RS256\"", "\"ES256\"", "\"none\"", "\"kid\":\"r\"", "\"crit\":[]", "\"exp\":",
            "\"nbf\":", "\"sub\":", "\"sessions\":", "\"*\"", "\"role\":", "\"iss\":", "\"aud\":", "null", "1e999", "-1", "\\u0000", "\\ud800", "\"b64\":false",
            "\"jwk\":{}", "eyJhbGciOiJub25lIn0", "claims\n", "header\n", "public\n", "other\n", "token\n", "\"event\":\"herald.token\"", "A", "_", "-",
        ])
        .run(|input| {
            let (way, rest) = line(input)?;
            let two = || line(rest).unwrap_or_default();
            let (text, genuine) = match way {
                "token" => (String::from_utf8_lossy(rest).into_owned(), true),
                "claims" => (sign(bare.as_bytes(), rest, mac(SECRET.as_bytes())), true),
                "header" => (sign(two().0.as_bytes(), two().1, mac(SECRET.as_bytes())), true),
                "other" => (sign(two().0.as_bytes(), two().1, mac(b"another secret, which is long enough")), false),
                "public" => (sign(two().0.as_bytes(), two().1, mac(&public)), false),
                _ => (token::in_frame(input)?.expose().to_owned(), true),
            };
            let token = Token::from(text.as_str());
            assert_eq!(format!("{token:?}"), "Token(********)");
            Some(verifiers.each_ref().map(|verifier| {
                let verified = verifier.verify(&token).now_or_never().expect("nothing is waited for");
                if let Ok(claims) = &verified {
                    assert!(genuine, "signed by somebody else");
                    assert!(text.len() <= MAX_TOKEN);
                    is_ours(&text, &key, &ours);
                    is_told(&text, claims, verifier);
                }
                verified.map(|claims| claims.caller.role().is_some()).map_err(Refusal::reason)
            }))
        });
}

/// A token of any header and claims.
fn sign(header: &[u8], claims: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", base64(header), base64(claims));
    let signature = base64(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// A token that is let in was made with our secret, or by us.
fn is_ours(token: &str, key: &hmac::Key, ours: &HashSet<&str>) {
    let (text, signature) = token.rsplit_once('.').expect("three parts");
    let header: Value = serde_json::from_slice(&decoded(text.split('.').next().expect("a header"))).expect("JSON");
    match header["alg"].as_str().expect("an algorithm") {
        "HS256" => hmac::verify(key, text.as_bytes(), &decoded(signature)).expect("our secret's"),
        "RS256" | "ES256" => assert!(ours.contains(text), "never signed: {token}"),
        other => panic!("{other} is not accepted"),
    }
    assert!(header.get("crit").is_none_or(Value::is_null), "what must be understood and is not");
}

/// What is taken from a token is what it says.
fn is_told(token: &str, claims: &Claims, verifier: &Verifier) {
    let said: Value = serde_json::from_slice(&decoded(token.split('.').nth(1).expect("claims"))).expect("JSON");
    assert_eq!(said["sub"].as_str(), Some(claims.caller.user()));
    assert!(claims.expires > SystemTime::now() - Duration::from_secs(60));
    assert!(said["exp"].as_f64().is_some_and(|exp| exp > 1_700_000_000.0));
    assert!(said["nbf"].as_f64().is_none_or(|nbf| nbf < (forge::now() + 60) as f64), "not yet");
    assert!(verifier.left(claims) <= FAR);
    let sessions = claims.caller.sessions();
    let named = match &said["sessions"] {
        Value::String(one) => vec![one.as_str()],
        several => several.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    match sessions {
        Grant::All => assert!(named.contains(&"*")),
        Grant::Sessions(sessions) => assert!(sessions.iter().all(|session| named.contains(&session.as_str()))),
    }
    if verifier.config.issuers.is_empty() {
        assert!(said["aud"].is_null(), "for somebody else");
    } else {
        assert!(said["iss"] == "issuer" || said["iss"].as_array().is_some_and(|all| all.contains(&json!("issuer"))));
        assert!(said["aud"] == "herald" || said["aud"].as_array().is_some_and(|all| all.contains(&json!("herald"))));
    }
}

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64")
}
