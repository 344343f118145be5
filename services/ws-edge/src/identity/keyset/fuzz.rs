//! Fuzzing target: the document of an issuer's keys.

use herald_fuzz::Target;
use jsonwebtoken::{Validation, decode};
use serde_json::{Value, json};

use super::*;
use crate::identity::{crypto, forge};

#[test]
fn key_sets() {
    crypto::install();
    let set = |keys: &[Value]| forge::jwks(keys);
    let claims = json!({ "sub": "ann", "exp": 4_102_444_800_u64 });
    let tokens = [(Algorithm::RS256, forge::rs256(0, "r", &claims)), (Algorithm::ES256, forge::es256("e", &claims))];
    let (rsa, ec) = (forge::rsa_jwk("r"), forge::ec_jwk("e"));
    Target::new("key_sets")
        .seeds([
            set(&[rsa.clone(), ec.clone()]),
            set(std::slice::from_ref(&rsa)),
            set(&[json!({ "kty": "oct", "k": "AAAA", "kid": "o" }), ec.clone()]),
            set(&[json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }), json!(null), json!(5)]),
        ])
        .tokens([
            "\"kty\":",
            "\"RSA\"",
            "\"EC\"",
            "\"oct\"",
            "\"OKP\"",
            "\"kid\":",
            "\"use\":",
            "\"sig\"",
            "\"enc\"",
            "\"alg\":",
            "\"RS256\"",
            "\"ES256\"",
            "\"HS256\"",
            "\"crv\":",
            "\"P-256\"",
            "\"P-384\"",
            "\"n\":",
            "\"e\":",
            "\"AQAB\"",
            "\"x\":",
            "\"y\":",
            "{",
            "}",
            "[",
            "]",
            ",",
            "null",
            "\"keys\":",
            "AAAA",
            "=",
            "-",
            "_",
            "\"key_ops\":[]",
            "\"x5c\":[]",
        ])
        .longest(2048)
        .run(|input| {
            let read = match KeySet::read(input) {
                Ok(read) => read,
                Err(BadKeySet::Malformed(_)) => return (0, [0; 2]),
                Err(BadKeySet::Useless(count)) => return (1 + count.min(4), [0; 2]),
            };
            assert!((1..=MOST).contains(&read.len()));
            for key in &read.keys {
                assert!(
                    matches!(key.algorithm, Algorithm::RS256 | Algorithm::ES256),
                    "a secret in a public set is none"
                );
                assert!(key.key.family() == key.algorithm.family());
            }
            for never in [Algorithm::HS256, Algorithm::PS256, Algorithm::ES384] {
                assert!(read.find(None, never).is_none() && read.find(Some("r"), never).is_none());
            }
            // Whatever key it is, verifying by it is a yes or a no; the slow part, so seldom.
            let verified = [0, 1].map(|at| {
                let (algorithm, token) = &tokens[at];
                let key = read.find(Some(["r", "e"][at]), *algorithm).or_else(|| read.find(None, *algorithm));
                let Some(key) = key.filter(|_| input.len().is_multiple_of(16)) else { return 0 };
                let mut validation = Validation::new(*algorithm);
                validation.validate_aud = false;
                1 + u8::from(decode::<Value>(token, &key, &validation).is_ok())
            });
            (10 + read.len().min(4), verified)
        });
}
