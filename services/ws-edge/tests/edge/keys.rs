//! Public keys: by file and by URL, as they come and go.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use herald_testkit::{Nats, Service, eventually, within, ws};
use serde_json::json;

use crate::{
    auth::{door, refused, with_token},
    forge::{self, claims, mac},
    support::Engine,
};

const MINUTE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(20);

/// Waits until a token is taken; its socket.
async fn taken(edge: &Service, token: &str) -> ws::Client {
    eventually("the token is taken", BOUND, async || {
        let socket = with_token(&edge.ws("/ws/s1?after=0"), token).await;
        let shown = eventually_shown(&socket).await;
        if shown { Ok(socket) } else { Err(socket.ended()) }
    })
    .await
}

/// Whether a socket is shown a hello, and not closed before.
async fn eventually_shown(socket: &ws::Client) -> bool {
    eventually("a word", BOUND, async || {
        if !socket.frames().is_empty() {
            return Ok(true);
        }
        if socket.ended().is_some() { Ok(false) } else { Err("nothing yet") }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_file_are_changed_while_we_run() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        let ann = claims("ann", &["s1"]);
        let (one, two, point) = (forge::rs256(0, "one", &ann), forge::rs256(1, "two", &ann), forge::es256("ec", &ann));
        let write = |keys: &[serde_json::Value]| {
            let whole = folder.path().join("new");
            std::fs::write(&whole, forge::jwks(keys)).unwrap();
            std::fs::rename(whole, &file).unwrap();
        };
        write(&[forge::rsa_jwk_of(0, "one")]);
        let config = format!("jwks = \"{}\"\nrefresh = \"1h\"\nrefresh_min = \"1ms\"", file.display());
        let edge = door(&nats, &config).start().await;
        let kept = taken(&edge, &one).await;
        assert_eq!(refused(&edge.ws("/ws/s1"), &two).await.0, 4401);
        // A token with a key that nobody knows has the keys looked at again.
        write(&[forge::rsa_jwk_of(0, "one"), forge::rsa_jwk_of(1, "two"), forge::ec_jwk("ec")]);
        taken(&edge, &two).await;
        taken(&edge, &point).await;
        // The public key is no secret, whoever says so.
        let public = forge::rsa_modulus(0);
        let confused = forge::token(&json!({"alg": "HS256", "kid": "one"}), &ann, mac(&public));
        let (code, reason) = refused(&edge.ws("/ws/s1"), &confused).await;
        assert!(code == 4401 && reason.contains("algorithm"), "{reason}");
        let forged = forge::rs256(1, "one", &ann);
        assert!(refused(&edge.ws("/ws/s1"), &forged).await.1.contains("signature"));
        // One that is taken away is not taken any more; who is in stays until its token ends.
        write(&[forge::rsa_jwk_of(1, "two")]);
        assert_eq!(refused(&edge.ws("/ws/s1"), &forge::rs256(0, "three", &ann)).await.0, 4401);
        assert_eq!(refused(&edge.ws("/ws/s1"), &one).await.0, 4401);
        assert!(kept.ended().is_none());
        // A file that is broken or gone leaves the last good keys.
        std::fs::write(&file, "{\"keys\":[").unwrap();
        assert_eq!(refused(&edge.ws("/ws/s1"), &one).await.0, 4401);
        taken(&edge, &two).await;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(refused(&edge.ws("/ws/s1"), &one).await.0, 4401);
        taken(&edge, &two).await;
        assert!(edge.metric("herald_auth_key_readings_total", &["outcome=\"failed\""]).await >= 2.0);
    })
    .await;
}

/// A server of keys: what it answers, and how often it was asked.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicU32>,
}

impl Issuer {
    async fn start() -> (Self, String) {
        let issuer = Self::default();
        let router = Router::new().route("/jwks.json", get(Self::keys)).with_state(issuer.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (issuer, url)
    }

    async fn keys(State(issuer): State<Self>) -> impl IntoResponse {
        issuer.asked.fetch_add(1, Ordering::SeqCst);
        match issuer.answer.lock().unwrap().clone() {
            Some(answer) => (StatusCode::OK, Body::from(answer)),
            None => (StatusCode::INTERNAL_SERVER_ERROR, Body::empty()),
        }
    }

    fn say(&self, answer: Option<String>) {
        *self.answer.lock().unwrap() = answer;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_a_url_are_asked_for_again_and_never_lost() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (issuer, url) = Issuer::start().await;
        let ann = claims("ann", &["s1"]);
        let (one, two) = (forge::rs256(0, "one", &ann), forge::rs256(1, "two", &ann));
        let mut edge = door(&nats, &format!("jwks = \"{url}\"\nrefresh = \"300ms\"")).spawn();
        // Nobody is let in as long as there are no keys, and it says so.
        let why = eventually("not ready for want of keys", BOUND, async || {
            let why = edge.wait_not_ready(BOUND).await.to_string();
            if why.contains("keys of tokens") { Ok(why) } else { Err(why) }
        })
        .await;
        assert!(why.contains("token keys"), "{why}");
        issuer.say(Some(forge::jwks(&[forge::rsa_jwk_of(0, "one")])));
        edge.wait_ready(BOUND).await;
        taken(&edge, &one).await;
        issuer.say(Some(forge::jwks(&[forge::rsa_jwk_of(1, "two")])));
        taken(&edge, &two).await;
        assert_eq!(refused(&edge.ws("/ws/s1"), &one).await.0, 4401, "taken away");
        for broken in [None, Some("<html>".to_owned()), Some(" ".repeat(300 << 10)), Some(forge::jwks(&[]))] {
            issuer.say(broken);
            let failed = edge.metric("herald_auth_key_readings_total", &["failed"]).await;
            eventually("a reading has failed", BOUND, async || {
                let now = edge.metric("herald_auth_key_readings_total", &["failed"]).await;
                if now > failed { Ok(()) } else { Err(now) }
            })
            .await;
            taken(&edge, &two).await;
        }
        assert_eq!(edge.readyz().await.0, 200, "it goes on with the last good ones");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_keys_does_not_become_a_flood_of_questions() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let (issuer, url) = Issuer::start().await;
        issuer.say(Some(forge::jwks(&[forge::rsa_jwk_of(0, "one")])));
        let edge = door(&nats, &format!("jwks = \"{url}\"\nrefresh = \"1h\"\nrefresh_min = \"1h\"")).start().await;
        let ann = claims("ann", &["s1"]);
        for at in 0..50 {
            let (code, reason) = refused(&edge.ws("/ws/s1"), &forge::rs256(1, &format!("k{at}"), &ann)).await;
            assert!(code == 4401 && reason.contains("key is not known"), "{reason}");
        }
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
        taken(&edge, &forge::rs256(0, "one", &ann)).await;
    })
    .await;
}
