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
