//! Good tokens, and everything that can be wrong with others.

use herald_protocol::SessionId;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    config::Config,
    identity::forge::{self, SECRET, claims, hs256, mac, now, with},
};

fn verifier(change: impl FnOnce(&mut JwtConfig)) -> Arc<Verifier> {
    let mut config = Config::default().jwt;
    config.secret = SECRET.to_owned().into();
    change(&mut config);
    Verifier::new(&config).unwrap().0
}

async fn verified(verifier: &Verifier, token: &str) -> Result<Arc<Claims>, Refusal> {
    verifier.verify(&Token::from(token)).await
}

/// A verifier with the keys of a file, read once.
async fn with_keys(keys: &[Value], secret: bool) -> (Arc<Verifier>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, forge::jwks(keys)).unwrap();
    let mut config = Config::default().jwt;
    config.jwks = Some(file.to_str().unwrap().to_owned());
    if secret {
        config.secret = SECRET.to_owned().into();
    }
    let (verifier, reader) = Verifier::new(&config).unwrap();
    let condition = herald_runtime::health::Health::new().condition("token keys");
    tokio::spawn(reader.unwrap().run(condition));
    (verifier, folder)
}

#[tokio::test]
async fn of_further_claims_those_are_kept_that_engines_are_told() {
    let verifier = verifier(|jwt| jwt.admission_claims = vec!["email".into(), "/app/team".into(), "age".into()]);
    let claims = with(with(claims("ann", &["s1"]), "email", "ann@example.com"), "secret", "x");
    let ann = verified(&verifier, &hs256(&with(claims.clone(), "app", json!({"team": ["red"]})))).await.unwrap();
    assert_eq!(Value::Object(ann.further.clone()), json!({"email": "ann@example.com", "/app/team": ["red"]}));
    assert!(ann.names_sessions);
    let later = verified(&verifier, &hs256(&with(claims.clone(), "exp", now() + 600))).await.unwrap();
    let same = verified(&verifier, &hs256(&claims)).await.unwrap();
    assert!(later.say_the_same(&same) && !later.say_the_same(&ann));
    let open = verified(&verifier, &hs256(&with(claims, "sessions", json!(null)))).await.unwrap();
    assert!(!open.names_sessions && !open.say_the_same(&same));
}

#[tokio::test]
async fn a_good_token_says_who_it_is_and_what_they_may_open() {
    let verifier = verifier(|_| {});
    let id = |text| SessionId::new(text).unwrap();
    let ann = verified(&verifier, &hs256(&with(claims("ann", &["s1", "s2"]), "role", "player"))).await.unwrap();
    assert_eq!((ann.caller.user(), ann.caller.role()), ("ann", Some("player")));
    assert!(ann.caller.may_open(&id("s1")) && !ann.caller.may_open(&id("s3")));
    let left = verifier.left(&ann).as_secs();
    assert!((85..=90).contains(&left), "until it expires, and the grace: {left}");

    let sessions = [
        (json!("*"), "*"),
        (json!(["*"]), "*"),
        (json!(["a", "*"]), "*"),
        (json!("a"), "a"),
        (json!([]), ""),
        (json!(null), ""),
    ];
    for (claim, expected) in sessions {
        let somebody = verified(&verifier, &hs256(&with(claims("ann", &[]), "sessions", claim.clone()))).await.unwrap();
        assert_eq!(somebody.caller.sessions().to_string(), expected, "{claim}");
    }
    let none = verified(&verifier, &hs256(&json!({ "sub": "ann", "exp": now() + 60 }))).await.unwrap();
    assert_eq!(none.caller.sessions(), &Grant::Sessions([].into()), "a token that names no session opens none");
    let fraction = with(claims("ann", &[]), "exp", now() as f64 + 60.5);
    assert!(verified(&verifier, &hs256(&fraction)).await.is_ok());
}

#[tokio::test]
async fn each_thing_that_is_wrong_with_a_token_is_refused() {
    let verifier = verifier(|config| {
        config.issuers = vec!["https://issuer.example".to_owned(), "other".to_owned()];
        config.audiences = vec!["herald".to_owned()];
    });
    let mut good = with(claims("ann", &["s1"]), "iss", "https://issuer.example");
    good["aud"] = json!(["web", "herald"]);
    let changed = |name: &str, value: Value| hs256(&with(good.clone(), name, value));
    assert!(verified(&verifier, &hs256(&good)).await.is_ok());
    assert!(verified(&verifier, &changed("nbf", json!(now() - 5))).await.is_ok());
    assert!(verified(&verifier, &changed("exp", json!(now() - 5))).await.is_ok(), "within the leeway");
    assert!(verified(&verifier, &changed("nbf", json!(now() + 5))).await.is_ok(), "within the leeway");
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        hs256(&claims)
    };
    let header = |header: Value| forge::token(&header, &good, mac(SECRET.as_bytes()));
    let valid = hs256(&good);
    let parts: Vec<_> = valid.split('.').collect();
    let table = [
        ("empty", String::new(), Refusal::Malformed),
        ("no token", "hello".to_owned(), Refusal::Malformed),
        ("two parts", format!("{}.{}", parts[0], parts[1]), Refusal::Malformed),
        ("four parts", format!("{valid}.x"), Refusal::Malformed),
        ("five parts", format!("{valid}.x.y"), Refusal::Malformed),
        ("too long", "x".repeat(MAX_TOKEN + 1), Refusal::Malformed),
        ("no base64", format!("{}.{}.{}", parts[0], parts[1], "***"), Refusal::Malformed),
        ("padded", format!("{valid}="), Refusal::Malformed),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), Refusal::Signature),
        ("foreign payload", format!("{}.{}.{}", parts[0], forge::base64("{}"), parts[2]), Refusal::Signature),
        ("other secret", forge::token(&json!({"alg": "HS256"}), &good, mac(&[7; 32])), Refusal::Signature),
        ("empty secret", forge::token(&json!({"alg": "HS256"}), &good, mac(b"")), Refusal::Signature),
        ("alg none", forge::token(&json!({"alg": "none"}), &good, |_| Vec::new()), Refusal::Malformed),
        ("alg None", forge::token(&json!({"alg": "None"}), &good, mac(SECRET.as_bytes())), Refusal::Malformed),
        ("no alg", header(json!({"typ": "JWT"})), Refusal::Malformed),
        ("HS384", header(json!({"alg": "HS384"})), Refusal::Algorithm),
        ("HS512", header(json!({"alg": "HS512"})), Refusal::Algorithm),
        ("RS256 without keys", header(json!({"alg": "RS256"})), Refusal::Algorithm),
        ("EdDSA", header(json!({"alg": "EdDSA"})), Refusal::Algorithm),
        ("crit", header(json!({"alg": "HS256", "crit": ["exp"]})), Refusal::Malformed),
        ("expired", changed("exp", json!(now() - 60)), Refusal::Expired),
        ("no exp", without("exp"), Refusal::Expired),
        ("exp as text", changed("exp", json!("2100-01-01")), Refusal::Expired),
        ("negative exp", changed("exp", json!(-5)), Refusal::Expired),
        ("exp null", changed("exp", json!(null)), Refusal::Expired),
        ("not yet", changed("nbf", json!(now() + 60)), Refusal::Early),
        ("nbf as text", changed("nbf", json!("x")), Refusal::Claims),
        ("foreign issuer", changed("iss", json!("https://issuer.example.evil")), Refusal::Issuer),
        ("no issuer", without("iss"), Refusal::Issuer),
        ("foreign audience", changed("aud", json!(["web"])), Refusal::Audience),
        ("no audience", without("aud"), Refusal::Audience),
        ("no user", without("sub"), Refusal::Claims),
        ("user as number", changed("sub", json!(5)), Refusal::Claims),
        ("empty user", changed("sub", json!("")), Refusal::Claims),
        ("user with a line", changed("sub", json!("ann\r\nHerald-Role: operator")), Refusal::Claims),
        ("role as list", changed("role", json!(["operator"])), Refusal::Claims),
        ("sessions as number", changed("sessions", json!(5)), Refusal::Claims),
        ("no session id", changed("sessions", json!(["s1", "s.*"])), Refusal::Claims),
        ("a wildcard of NATS", changed("sessions", json!([">"])), Refusal::Claims),
        ("a list of anything", changed("sessions", json!(["s1", 5])), Refusal::Claims),
        ("claims that are no object", hs256(&json!([1])), Refusal::Malformed),
    ];
    for (what, token, expected) in table {
        assert_eq!(verified(&verifier, &token).await.err(), Some(expected), "{what}");
    }
}

#[tokio::test]
async fn a_token_is_good_until_its_time_and_not_a_moment_longer() {
    let verifier = verifier(|config| config.leeway = herald_runtime::config::HumanDuration::from_secs(0));
    for exp in [json!(now()), json!(now() as f64 + 0.000_001)] {
        let token = hs256(&with(claims("ann", &[]), "exp", exp));
        assert_eq!(verified(&verifier, &token).await.err(), Some(Refusal::Expired));
    }
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused_also_by_who_has_no_name() {
    let verifier = verifier(|_| {});
    assert_eq!(
        verified(&verifier, &hs256(&with(claims("ann", &[]), "aud", "another"))).await.err(),
        Some(Refusal::Audience)
    );
    assert!(verified(&verifier, &hs256(&with(claims("ann", &[]), "iss", "anybody"))).await.is_ok());
}

#[tokio::test]
async fn claims_have_the_names_an_operator_gives_them() {
    let verifier = verifier(|config| {
        config.user_claim = "https://play.example/user".to_owned();
        config.role_claim = "/realm/roles/0".to_owned();
        config.sessions_claim = "/realm/games".to_owned();
    });
    let claims = json!({
        "https://play.example/user": "ann", "realm": { "roles": ["player"], "games": ["g1"] }, "exp": now() + 60,
        "sub": "no", "sessions": "*",
    });
    let ann = verified(&verifier, &hs256(&claims)).await.unwrap();
    assert_eq!((ann.caller.user(), ann.caller.role()), ("ann", Some("player")));
    assert_eq!(ann.caller.sessions().to_string(), "g1");
}

#[tokio::test]
async fn public_keys_verify_what_their_owners_signed_and_nothing_else() {
    let (verifier, _folder) = with_keys(&[forge::rsa_jwk("r"), forge::ec_jwk("e")], true).await;
    let ann = claims("ann", &["s1"]);
    for good in [forge::rs256(0, "r", &ann), forge::es256("e", &ann), hs256(&ann)] {
        assert_eq!(verified(&verifier, &good).await.unwrap().caller.user(), "ann");
    }
    let nameless = forge::token(&json!({"alg": "RS256"}), &ann, |text| forge::rsa_sign(0, text));
    assert!(verified(&verifier, &nameless).await.is_ok(), "there is one RSA key only");
    let public = forge::rsa_modulus(0);
    let jwk = forge::rsa_jwk("r").to_string();
    let confused = |key: &[u8], kid| forge::token(&json!({"alg": "HS256", "kid": kid}), &ann, mac(key));
    for (what, token, expected) in [
        ("another's key under a known id", forge::rs256(1, "r", &ann), Refusal::Signature),
        ("an unknown id", forge::rs256(0, "x", &ann), Refusal::UnknownKey),
        ("the other kind's id", forge::rs256(0, "e", &ann), Refusal::UnknownKey),
        ("the public key as a secret", confused(&public, "r"), Refusal::Signature),
        ("its JWK as a secret", confused(jwk.as_bytes(), "r"), Refusal::Signature),
        (
            "its point as a secret",
            confused(forge::ec_jwk("e")["x"].as_str().unwrap().as_bytes(), "e"),
            Refusal::Signature,
        ),
        (
            "a key that it brings along",
            forge::token(&json!({"alg": "RS256", "jwk": forge::rsa_jwk_of(1, "r")}), &ann, |text| {
                forge::rsa_sign(1, text)
            }),
            Refusal::Signature,
        ),
        (
            "a place of keys that it names",
            forge::token(&json!({"alg": "RS256", "jku": "http://127.0.0.1/", "kid": "x"}), &ann, |text| {
                forge::rsa_sign(1, text)
            }),
            Refusal::UnknownKey,
        ),
        (
            "PS256 with an RSA key",
            forge::token(&json!({"alg": "PS256", "kid": "r"}), &ann, |text| forge::rsa_sign(0, text)),
            Refusal::Algorithm,
        ),
    ] {
        assert_eq!(verified(&verifier, &token).await.err(), Some(expected), "{what}");
    }
    // Without a secret, nothing that is signed by one is looked at.
    let (public_only, _folder) = with_keys(&[forge::rsa_jwk("r")], false).await;
    assert!(verified(&public_only, &forge::rs256(0, "r", &ann)).await.is_ok());
    for token in [confused(&public, "r"), confused(b"", "r"), hs256(&ann)] {
        assert_eq!(verified(&public_only, &token).await.err(), Some(Refusal::Algorithm));
    }
}

#[tokio::test]
async fn a_token_is_as_long_as_heads_may_be_and_a_lease_never_endless() {
    let verifier = verifier(|_| {});
    let far = verified(&verifier, &hs256(&with(claims("ann", &[]), "exp", 9_999_999_999_999_u64))).await.unwrap();
    assert!(verifier.left(&far) <= FAR);
    let _instant = tokio::time::Instant::now() + verifier.left(&far);
    let many: Vec<_> = (0..500).map(|at| format!("session-{at}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(verified(&verifier, &hs256(&claims("ann", &many))).await.is_ok());
}

proptest! {
    #[test]
    fn nothing_that_is_not_signed_is_believed(
        header in "\\{\"alg\":\"(HS256|RS256|ES256|none|HS512)\"(,\"kid\":\"[a-z]{0,3}\")?\\}", payload in ".{0,80}",
        signature in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let verifier = verifier(|_| {});
        let token = format!("{}.{}.{}", forge::base64(header), forge::base64(payload), forge::base64(signature));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        prop_assert!(runtime.block_on(verified(&verifier, &token)).is_err());
    }

    #[test]
    fn no_text_makes_verifying_panic(token in "[a-zA-Z0-9_.=-]{0,60}|.{0,40}") {
        let verifier = verifier(|_| {});
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        prop_assert!(runtime.block_on(verified(&verifier, &token)).is_err());
    }
}
