//! A door that asks for tokens, and the bridge behind it: whose session it is decides what one may do there.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{process::Command, time::Duration};

use herald_testkit::{Bridge, Edge, Nats, SimGm, http, within};
use hyper::Method;
use serde_json::json;

const SECRET: &str = "00112233445566778899aabbccddeeff";

/// A token made by other means than Herald's.
fn token(user: &str, sessions: &str) -> String {
    let script = format!(
        "import base64,hmac,json,time
p=lambda data: base64.urlsafe_b64encode(data).rstrip(b'=')
t=p(b'{{\"alg\":\"HS256\"}}')+b'.'+p(json.dumps({{'sub':'{user}','sessions':'{sessions}','exp':int(time.time())+600}}).encode())
print((t+b'.'+p(hmac.digest(b'{SECRET}',t,'sha256'))).decode(),end='')"
    );
    let made = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_plays_or_sees_in_anothers_session() {
    within(Duration::from_secs(60), async {
        let nats = Nats::start().await;
        let gm = SimGm::new().arg("--no-door").start().await;
        let _bridge = Bridge::new(&nats).gm(&gm.url()).start().await;
        let config = "[[ws-edge.listeners]]\nbuiltin = \"arena\"\nauth = \"jwt\"\n";
        let edge = Edge::new(&nats).config(config).env("HERALD_JWT__SECRET", SECRET).start().await;
        let ask = async |method: Method, path: &str, token: &str, body: &str| {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            http::send(method, &edge.http(path), &headers, body.to_owned()).await
        };
        let (ann, bob, all) = (token("ann", "s1"), token("bob", "s2"), token("operator", "*"));
        let started = ask(Method::GET, "/api/start?session_id=s1&lang=en", &ann, "").await.expect_status(200).json();
        let game = started["gm_session_id"].as_str().unwrap().to_owned();
        let body = json!({ "session_id": "s1", "content": "news" }).to_string();
        for prefix in ["", "/app", "/gm"] {
            for path in [
                "/api/start?session_id=s1&lang=en",
                "/api/propose?session_id=s1&lang=en",
                "/api/choose?session_id=s1&kind=fake&lang=en",
                "/api/state?session_id=s1",
                "/api/state",
                "/api/start?lang=en",
                "/api/images/s1/x.png",
                &format!("/api/images/{game}/x.png"),
                "/api/images/of-nobody/x.png",
            ] {
                ask(Method::GET, &format!("{prefix}{path}"), &bob, "").await.expect_status(403);
            }
            for path in ["/api/cancel?session_id=s1", "/init_session", "/submit_news"] {
                ask(Method::POST, &format!("{prefix}{path}"), &bob, &body).await.expect_status(403);
            }
        }
        ask(Method::GET, "/api/state?session_id=s1", &ann, "").await.expect_status(200);
        ask(Method::GET, "/api/propose?session_id=s1&lang=en", &ann, "").await.expect_status(202);
        ask(Method::GET, &format!("/api/images/{game}/none.png"), &ann, "").await.expect_status(404);
        ask(Method::GET, "/api/state", &all, "").await.expect_status(200);
    })
    .await;
}
