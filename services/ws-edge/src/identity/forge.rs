//! Tokens and keys for tests, good ones and others: made by hand, so that everything can be wrong with them.

#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub, reason = "shared by several test programs")]

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, PublicKeyComponents},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use serde_json::{Value, json};

/// A secret that is long enough.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Made for these tests, and worth nothing anywhere else.
static RSA: LazyLock<[RsaKeyPair; 2]> = LazyLock::new(|| {
    let keys: [&[u8]; 2] = [
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa-1.pk8.der")),
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa-2.pk8.der")),
    ];
    keys.map(|key| RsaKeyPair::from_pkcs8(key).unwrap())
});
static EC: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &SystemRandom::new()).unwrap()
});

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of somebody, good for a minute.
pub fn claims(user: &str, sessions: &[&str]) -> Value {
    json!({ "sub": user, "sessions": sessions, "exp": now() + 60 })
}

/// The same with one claim changed.
pub fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

/// A token of any header, signed by `sign`.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = base64(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

pub fn mac(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |text| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text).as_ref().to_vec()
}

pub fn hs256(claims: &Value) -> String {
    token(&json!({ "alg": "HS256", "typ": "JWT" }), claims, mac(SECRET.as_bytes()))
}

/// Signed by the first or the second of the RSA keys.
pub fn rs256(key: usize, kid: &str, claims: &Value) -> String {
    token(&json!({ "alg": "RS256", "kid": kid }), claims, |text| rsa_sign(key, text))
}

pub fn rsa_sign(key: usize, text: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; RSA[key].public().modulus_len()];
    RSA[key].sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
    signature
}

pub fn es256(kid: &str, claims: &Value) -> String {
    let sign = |text: &[u8]| EC.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
    token(&json!({ "alg": "ES256", "kid": kid }), claims, sign)
}

fn rsa_public(key: usize) -> PublicKeyComponents<Vec<u8>> {
    PublicKeyComponents::from(RSA[key].public())
}

/// The public key as others may have it: what a confused verifier takes for a secret.
pub fn rsa_modulus(key: usize) -> Vec<u8> {
    rsa_public(key).n
}

pub fn rsa_jwk(kid: &str) -> Value {
    rsa_jwk_of(0, kid)
}

pub fn rsa_jwk_of(key: usize, kid: &str) -> Value {
    let PublicKeyComponents { n, e } = rsa_public(key);
    json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": base64(n), "e": base64(e) })
}

pub fn ec_jwk(kid: &str) -> Value {
    let point = EC.public_key().as_ref();
    json!({ "kty": "EC", "kid": kid, "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..]) })
}

pub fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
