//! Who may publish, and where: by API key, and by the token that the door has verified.

use std::{process::Command, time::Duration};

use herald_testkit::{Ingest, Nats, Service, http, within};
use hyper::Method;

use crate::world::{ONE, World, door, event, publish};

const MINUTE: Duration = Duration::from_secs(60);
const SECRET: &str = "00112233445566778899aabbccddeeff";
const QUIZ: &str = "quiz-secret-0123456789";
const KEYS: &str = r#"[{ name = "quiz", secret = "quiz-secret-0123456789", sessions = "quiz-*, s1" }]"#;

/// A token made by other means than Herald's.
fn token(role: &str, sessions: &str) -> String {
    let script = format!(
        "import base64,hmac,json,time
p=lambda data: base64.urlsafe_b64encode(data).rstrip(b'=')
claims=dict(sub='ann',role='{role}',sessions='{sessions}',exp=int(time.time())+600)
t=p(b'{{\"alg\":\"HS256\"}}')+b'.'+p(json.dumps(claims).encode())
print((t+b'.'+p(hmac.digest(b'{SECRET}',t,'sha256'))).decode(),end='')"
    );
    let made = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

async fn status(edge: &Service, session: &str, authorization: &str) -> u16 {
    let headers = [ONE, ("authorization", authorization)];
    publish(edge, session, if authorization.is_empty() { &headers[..1] } else { &headers }, &event("a", "1"))
        .await
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_its_sessions_and_stays_a_secret() {
    within(MINUTE, async {
        let world = World::start(|ingest| ingest.env("HERALD_INGEST__KEYS", KEYS)).await;
        let bearer = format!("Bearer {QUIZ}");
        for (session, authorization, expected) in [
            ("quiz-7", bearer.as_str(), 201),
            ("s1", &bearer, 201),
            ("s2", &bearer, 403),
            ("quiz", &bearer, 403),
            ("s1", "", 401),
            ("s1", "Bearer quiz-secret-012345678", 401),
            ("s1", "Basic cXVpejpxdWl6", 401),
        ] {
            assert_eq!(status(&world.edge, session, authorization).await, expected, "{session} {authorization}");
        }
        let refused = world.post("s1", &[ONE], &event("a", "1")).await.expect_status(401);
        let said = (refused.error(), refused.header("www-authenticate").to_owned());
        assert_eq!(said, ("An API key is needed: Authorization: Bearer KEY".to_owned(), "Bearer".to_owned()));
        // Nobody makes himself an operator: what a door verifies can't be sent.
        let forged = [ONE, ("herald-user", "ann"), ("herald-role", "operator"), ("herald-sessions", "*")];
        world.post("s1", &forged, &event("a", "1")).await.expect_status(401);
        assert_eq!(world.head().await, 2);
        for ingest in &world.ingests {
            assert!(!ingest.log().contains(QUIZ), "{}", ingest.log());
        }
        let printed = Ingest::new(&world.nats).env("HERALD_INGEST__KEYS", KEYS).arg("--print-config").spawn();
        let printed = finished(printed).await;
        assert!(printed.contains("quiz-*") && printed.contains("********") && !printed.contains(QUIZ), "{printed}");
    })
    .await;
}

async fn finished(mut service: Service) -> String {
    assert!(service.process().wait(Duration::from_secs(20)).await.success());
    service.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_stand_in_a_file() {
    within(MINUTE, async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, format!("{QUIZ}\n")).unwrap();
        let nats = Nats::start().await;
        let config =
            format!("[[ingest.keys]]\nname = \"quiz\"\nsecret_file = \"{}\"\nsessions = [\"s1\"]\n", file.display());
        let _ingest = Ingest::new(&nats).config(config.clone()).start().await;
        let edge = door(&nats, "").start().await;
        assert_eq!(status(&edge, "s1", &format!("Bearer {QUIZ}")).await, 201);
        assert_eq!(status(&edge, "s1", "").await, 401);
        std::fs::write(&file, "short").unwrap();
        let mut refused = Ingest::new(&nats).config(config).spawn();
        assert_eq!(refused.process().wait(Duration::from_secs(20)).await.code(), Some(1));
        assert!(refused.log().contains("the key quiz must have 16 bytes at least"), "{}", refused.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_publishes_by_its_role_in_its_sessions() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _ingest = Ingest::new(&nats).start().await;
        let edge = door(&nats, "auth = \"jwt\"").env("HERALD_JWT__SECRET", SECRET).start().await;
        for (role, sessions, expected) in [
            ("engine", "s1", 201),
            ("operator", "*", 201),
            ("engine", "s2", 403),
            ("player", "s1", 403),
            ("player", "*", 403),
            ("", "*", 403),
        ] {
            let bearer = format!("Bearer {}", token(role, sessions));
            let got = status(&edge, "s1", &bearer).await;
            // A role that is no name may be refused at the door already.
            assert!(got == expected || (role.is_empty() && got == 401), "{role} {sessions}: {got}");
        }
        assert_eq!(status(&edge, "s1", "").await, 401);
        assert_eq!(status(&edge, "s1", &format!("Bearer {QUIZ}")).await, 401, "a key is no token");
        let headers = [("authorization", format!("Bearer {}", token("player", "s1")))];
        let forged = [(headers[0].0, headers[0].1.as_str()), ("herald-role", "operator")];
        let reply = http::send(Method::POST, &edge.http("/sessions/s1/events"), &forged, event("a", "1")).await;
        assert_eq!((reply.status, &*reply.error()), (403, "Your role may not publish"));
    })
    .await;
}
