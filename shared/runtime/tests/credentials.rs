//! The ways to say who we are, and to be sure who the server is, each against a real one.

#![allow(clippy::expect_used, reason = "in a test, a failed step is a failed test")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use herald_runtime::{
    Context,
    config::{Common, NatsConfig, NatsTls, Secret},
    nats::connect,
};
use herald_testkit::{Nats as Server, NatsOptions, eventually, within};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

/// Certificates made for one test: of an authority, and two that it has signed.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// By `openssl`, as there is no library for it in the house.
    fn make() -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(made.path("openssl.cnf"), "[req]\ndistinguished_name = dn\n[dn]\n").expect("written");
        made.sign("ca", &["-addext", "basicConstraints=critical,CA:TRUE"]);
        let by_ca = |more: &[&str]| {
            let (certificate, key) = (made.path("ca.pem"), made.path("ca.key"));
            let signed = ["-CA", certificate.to_str().expect("text"), "-CAkey", key.to_str().expect("text")];
            [&signed[..], &["-addext", "basicConstraints=critical,CA:FALSE", "-addext"], more]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for (name, extension) in [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")]
        {
            made.sign(name, &by_ca(&[extension]));
        }
        made
    }

    fn sign(&self, name: &str, more: &[impl AsRef<std::ffi::OsStr>]) {
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-noenc",
            "-days",
            "2",
        ]);
        openssl.args(["-subj", &format!("/CN={name}"), "-config"]).arg(self.path("openssl.cnf"));
        openssl
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.pem")));
        let made = openssl.args(more).output().expect("`openssl` is on the PATH");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What stands in a server's configuration.
    fn tls(&self, more: &str) -> String {
        let file = |name: &str| self.path(name).display().to_string();
        format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", {more} }}",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        )
    }
}

/// Who connects: the operator, who trusts that authority.
fn config(server: &Server, authority: Option<&Path>) -> NatsConfig {
    NatsConfig { url: server.url(), root_certificates: authority.map(Path::to_owned), ..NatsConfig::default() }
}

/// Connects and has an answer.
async fn works(config: &NatsConfig) {
    let context = Context::new("test", Common::with_operations_port(0));
    let nats = connect(config, "nats", &context).await.expect("connected");
    nats.require_jetstream(&context).await.expect("it answers");
}

/// Has no connection, and says why.
async fn fails(config: NatsConfig, why: &str) {
    let context = Context::new("test", Common::with_operations_port(0));
    let connecting = tokio::spawn({
        let context = context.clone();
        async move { connect(&config, "nats", &context).await.map(drop) }
    });
    eventually(why, SOON, async || {
        let reason = context.health.report().conditions.remove("nats").unwrap_or_default();
        if reason.to_lowercase().contains(why) { Ok(()) } else { Err(reason) }
    })
    .await;
    context.shutdown.begin();
    connecting.await.expect("no panic").expect_err("never connected");
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate_and_so_are_its_clients() {
    within(LIMIT, async {
        let made = Certificates::make();
        let more = made.tls("verify: true");
        let server = Server::start_with(NatsOptions { more, ..NatsOptions::default() }).await;
        let ca = made.path("ca.pem");
        let ours = NatsConfig {
            client_certificate: Some(made.path("client.pem")),
            client_key: Some(made.path("client.key")),
            ..config(&server, Some(&ca))
        };
        works(&ours).await;
        works(&NatsConfig { url: ours.url.replace("nats://", "tls://"), ..ours.clone() }).await;
        works(&NatsConfig { tls: NatsTls::Required, ..ours.clone() }).await;

        // Another authority than ours has signed it; then: it does not know who we are.
        fails(NatsConfig { root_certificates: Some(made.path("client.pem")), ..ours }, "certificate").await;
        fails(config(&server, Some(&ca)), "certificate").await;
    })
    .await;
}

#[tokio::test]
async fn encryption_may_come_first_or_be_insisted_on() {
    within(LIMIT, async {
        let made = Certificates::make();
        // It waits a moment for the handshake before it speaks: whoever wants it first has it first, others too are served.
        let more = made.tls("handshake_first: \"300ms\"");
        let server = Server::start_with(NatsOptions { more, ..NatsOptions::default() }).await;
        let ca = made.path("ca.pem");
        works(&NatsConfig { tls: NatsTls::First, ..config(&server, Some(&ca)) }).await;
        works(&config(&server, Some(&ca))).await;

        let plain = Server::start().await;
        works(&config(&plain, None)).await;
        fails(NatsConfig { tls: NatsTls::Required, ..config(&plain, None) }, "corrupt message").await;
    })
    .await;
}

/// A token as `nsc` makes it: what `issuer` says about `subject`.
fn jwt(issuer: &nkeys::KeyPair, subject: &str, nats: &serde_json::Value) -> String {
    let claims = serde_json::json!({
        "jti": "x", "iat": 1, "iss": issuer.public_key(), "name": subject, "sub": subject, "nats": nats,
    });
    let signed =
        format!("{}.{}", base64(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#), base64(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes()).expect("signed");
    format!("{signed}.{}", base64(&signature))
}

/// As in URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0_usize, |bits, at| bits << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        (0..=group.len()).map(|at| char::from(DIGITS[bits >> (18 - 6 * at) & 63])).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[tokio::test]
async fn a_user_may_be_known_by_a_file_of_credentials() {
    within(LIMIT, async {
        use nkeys::KeyPair;

        let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
        let own = |kind: &str| serde_json::json!({ "type": kind, "version": 2 });
        let mut limited = own("account");
        limited["limits"] = serde_json::json!({ "subs": -1, "data": -1, "payload": -1, "conn": -1, "wildcards": true });
        let named = jwt(&operator, &operator.public_key(), &own("operator"));
        let preloaded = jwt(&operator, &account.public_key(), &limited);
        let more = format!(
            "operator: \"{named}\"\nresolver: MEMORY\nresolver_preload {{ {}: \"{preloaded}\" }}",
            account.public_key()
        );
        let server = Server::start_with(NatsOptions {
            config: "single.conf".into(),
            jetstream: false,
            refuses: true,
            more,
            ..NatsOptions::default()
        })
        .await;

        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, key: &KeyPair| {
            let mut speaks = own("user");
            for (limit, value) in [("subs", -1), ("data", -1), ("payload", -1)] {
                speaks[limit] = value.into();
            }
            let (token, seed) = (jwt(&account, &user.public_key(), &speaks), key.seed().expect("a pair has one"));
            let path = folder.path().join(name);
            let (begin, end) = ("-----BEGIN", "------END");
            let jwt = format!("{begin} NATS USER JWT-----\n{token}\n{end} NATS USER JWT------\n");
            let key = format!("{begin} USER NKEY SEED-----\n{seed}\n{end} USER NKEY SEED------\n");
            std::fs::write(&path, format!("{jwt}\n{key}")).expect("written");
            NatsConfig { url: server.url_of_nobody(), credentials_file: Some(path), ..NatsConfig::default() }
        };
        let context = Context::new("test", Common::with_operations_port(0));
        let nats = connect(&file("own.creds", &user), "nats", &context).await.expect("connected");
        let asked = nats.client().request("nobody.there", "".into()).await.expect_err("nobody answers");
        assert_eq!(asked.kind(), async_nats::RequestErrorKind::NoResponders, "it is let in");
        // The token alone, without the key it is for, opens nothing.
        fails(file("stolen.creds", &KeyPair::new_user()), "authorization violation").await;
    })
    .await;
}

#[tokio::test]
async fn a_user_may_be_known_by_a_key() {
    within(LIMIT, async {
        let (key, other) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
        let more = format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key());
        let options = NatsOptions { config: "single.conf".into(), refuses: true, more, ..NatsOptions::default() };
        let server = Server::start_with(options).await;
        let of = |key: &nkeys::KeyPair| NatsConfig {
            url: server.url_of_nobody(),
            nkey_seed: Secret::from(key.seed().expect("a pair has one")),
            ..NatsConfig::default()
        };
        works(&of(&key)).await;
        fails(of(&other), "authorization violation").await;
    })
    .await;
}
