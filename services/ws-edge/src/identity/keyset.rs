//! The public keys of a JWKS (RFC 7517), as far as they can verify tokens here.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

/// Most keys that are looked at: a set has two or three, while one takes over from another.
const MOST: usize = 100;
/// Fewest bytes of an RSA key's modulus: 2048 bits.
const MODULUS: usize = 256;

/// Public keys by which tokens are verified.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a text brings no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadKeySet {
    /// It is no set of keys.
    #[error("not a JWKS")]
    Malformed(#[source] serde_json::Error),
    /// None of its keys can be used.
    #[error("no key for RS256 (2048 bits or more) or ES256 among its {0}")]
    Useless(usize),
}

impl KeySet {
    /// Reads a set. Keys for other purposes are left out, as sets may hold them (RFC 7517, section 5).
    pub(super) fn read(json: &[u8]) -> Result<Self, BadKeySet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(BadKeySet::Malformed)?;
        let count = set.keys.len();
        let keys: Vec<_> = set.keys.into_iter().take(MOST).filter_map(Key::read).collect();
        if keys.is_empty() { Err(BadKeySet::Useless(count)) } else { Ok(Self { keys }) }
    }

    /// The key of that id. A token that names none means the only one there is.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut keys = self.keys.iter().filter(|key| key.algorithm == algorithm);
        let found = match id {
            Some(id) => keys.find(|key| key.id.as_deref() == Some(id)),
            None => keys.next().filter(|_| keys.next().is_none()),
        };
        found.map(|key| key.key.clone())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Key {
    fn read(json: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => Algorithm::ES256,
            // A secret in a public set is none.
            _ => return None,
        };
        let named = match jwk.common.key_algorithm {
            None => algorithm,
            Some(KeyAlgorithm::RS256) => Algorithm::RS256,
            Some(KeyAlgorithm::ES256) => Algorithm::ES256,
            Some(_) => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| named == algorithm)?;
        if matches!(key.kind(), DecodingKeyKind::RsaModulusExponent { n, .. } if n.len() < MODULUS) {
            return None;
        }
        Some(Self { id: jwk.common.key_id, algorithm, key })
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::forge;

    fn read(keys: &[Value]) -> Result<KeySet, BadKeySet> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn keys_are_found_by_id_and_kind() {
        let set =
            read(&[forge::rsa_jwk("r"), forge::ec_jwk("e"), json!({"kty": "oct", "k": "AAAA", "kid": "o"})]).unwrap();
        assert_eq!(set.len(), 2);
        for (id, algorithm, found) in [
            (Some("r"), Algorithm::RS256, true),
            (Some("e"), Algorithm::ES256, true),
            (Some("r"), Algorithm::ES256, false),
            (Some("o"), Algorithm::HS256, false),
            (Some("R"), Algorithm::RS256, false),
            (None, Algorithm::RS256, true),
        ] {
            assert_eq!(set.find(id, algorithm).is_some(), found, "{id:?} {algorithm:?}");
        }
        let two = read(&[forge::rsa_jwk("1"), forge::rsa_jwk("2")]).unwrap();
        assert!(two.find(None, Algorithm::RS256).is_none(), "which one is not to be guessed");
    }

    #[test]
    fn what_can_not_be_used_is_left_out() {
        let with = |name: &str, value: Value| {
            let mut jwk = forge::rsa_jwk("r");
            jwk[name] = value;
            jwk
        };
        for odd in [
            with("use", json!("enc")),
            with("alg", json!("PS256")),
            with("alg", json!("ES256")),
            with("alg", json!("HS256")),
            with("n", json!("***")),
            with("n", json!("AQAB")),
            with("kty", json!("unknown")),
            with("kid", json!(5)),
            json!("r"),
            json!(null),
        ] {
            let error = read(std::slice::from_ref(&odd)).err().unwrap();
            assert!(matches!(error, BadKeySet::Useless(1)), "{odd}");
            assert_eq!(read(&[odd, forge::ec_jwk("e")]).unwrap().len(), 1);
        }
        assert_eq!(read(&[with("use", json!("sig")), with("alg", json!("RS256"))]).unwrap().len(), 2);
        for text in ["", "{}", "[]", r#"{"keys":5}"#, "<html>"] {
            assert!(matches!(KeySet::read(text.as_bytes()), Err(BadKeySet::Malformed(_))), "{text}");
        }
    }
}
