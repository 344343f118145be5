//! Where to connect, and as whom.

use std::{io, path::Path, sync::Arc};

use async_nats::{Client, ConnectOptions, ServerAddr};
use herald_protocol::subject;
use tokio::sync::Notify;

use super::{
    note,
    refusals::Refusals,
    servers::{delay, elsewhere},
};
use crate::{
    config::{Fault, NatsConfig, NatsTls},
    health::Condition,
};

/// Where to connect and as whom: credentials are taken out of the URLs, because the library logs and returns those.
pub(super) struct Endpoint {
    servers: Vec<ServerAddr>,
    credentials: Credentials,
    inbox_prefix: String,
}

/// The keys that say who connects, and what each says.
#[derive(Clone, PartialEq, Eq)]
enum Credentials {
    None,
    User {
        user: String,
        password: String,
    },
    Token(String),
    /// What a `.creds` file holds: a JWT and the seed of its key.
    File(String),
    NkeySeed(String),
}

/// Everything about one connection that does not change.
pub(super) struct Purpose {
    pub(super) config: NatsConfig,
    pub(super) name: String,
    pub(super) condition: Condition,
    pub(super) refusals: Arc<Refusals>,
    pub(super) wake: Arc<Notify>,
}

impl Endpoint {
    /// Reads the configuration, and the file of credentials if there is one. `service` names the inboxes.
    pub(super) fn from_config(config: &NatsConfig, service: &str) -> Result<Self, Fault> {
        let fault = |message: &str| Fault::new("nats.url", message);
        let mut credentials = Credentials::from_config(config)?;
        let mut servers = Vec::new();
        for text in config.url.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            // The parser's own words may quote the address, and with it a password.
            let address: ServerAddr =
                text.parse().map_err(|_| fault("not a list of server addresses like nats://host:4222"))?;
            if !matches!(address.scheme(), "nats" | "tls") || address.host().is_empty() {
                return Err(fault("a server address begins with nats:// or tls:// and has a host"));
            }
            if let Some(user) = address.username() {
                let user = decoded(user);
                let own = match address.password() {
                    Some(password) => Credentials::User { user, password: decoded(password) },
                    None => Credentials::Token(user),
                };
                if credentials != Credentials::None && credentials != own {
                    return Err(fault("all servers are reached with the same credentials"));
                }
                credentials = own;
            }
            let mut url = address.into_inner();
            let stripped = url.set_password(None).and_then(|()| url.set_username(""));
            stripped.map_err(|()| fault("a server address has a host"))?;
            servers
                .push(ServerAddr::from_url(url).map_err(|_| fault("a server address begins with nats:// or tls://"))?);
        }
        if servers.is_empty() {
            return Err(fault("no server address given"));
        }
        let own = || {
            let user = credentials.user().filter(|user| is_token(user));
            format!("_INBOX.{}", user.unwrap_or(service))
        };
        let inbox_prefix = config.inbox_prefix.clone().unwrap_or_else(own);
        // Who is asked answers nowhere else.
        if !inbox_prefix.split('.').all(is_token) || !subject::is_inbox(&inbox_prefix) {
            let wanted = "_INBOX, then letters, digits, _, - and $, in tokens joined by '.'";
            return Err(Fault::new("nats.inbox_prefix", wanted));
        }
        Ok(Self { servers, credentials, inbox_prefix })
    }

    /// Tries until a server answers. Each failure is logged and shown in the condition.
    pub(super) async fn connect_first(&self, purpose: &Purpose) -> Client {
        use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation};

        let Purpose { config, condition, .. } = purpose;
        let mut attempt = 1;
        loop {
            let error = match self.options(purpose) {
                Ok(options) => match options.connect(self.servers.as_slice()).await {
                    Ok(client) => return client,
                    Err(error) => error,
                },
                Err(error) => async_nats::ConnectError::with_source(Authentication, error),
            };
            let servers: Vec<_> = self.servers.iter().map(ServerAddr::as_url_str).collect();
            let refused = matches!(error.kind(), Authentication | AuthorizationViolation);
            let error = anyhow::Error::new(error);
            let text = format!("{error:#}");
            if refused {
                tracing::warn!(
                    ?servers,
                    attempt,
                    error = text,
                    "NATS does not let us in, trying again: see nats.user, nats.password and the other keys of who we are"
                );
            } else {
                tracing::warn!(?servers, attempt, error = text, "NATS not reached, trying again");
            }
            condition.fail(format!("not connected: {}", error.root_cause()));
            tokio::time::sleep(delay(attempt, config.reconnect_min.get(), config.reconnect_max.get())).await;
            attempt += 1;
        }
    }

    fn options(&self, purpose: &Purpose) -> io::Result<ConnectOptions> {
        let Purpose { config, name, refusals, wake, .. } = purpose;
        let (min, max) = (config.reconnect_min.get(), config.reconnect_max.get());
        let (refusals, wake) = (Arc::clone(refusals), Arc::clone(wake));
        let mut options = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(&self.inbox_prefix)
            .connection_timeout(config.connect_timeout.get())
            .request_timeout(Some(config.request_timeout.get()))
            .ping_interval(config.ping_interval.get())
            .subscription_capacity(config.subscription_capacity)
            .client_capacity(config.send_capacity)
            .max_reconnects(None)
            .reconnect_delay_callback(move |attempt| delay(attempt, min, max))
            .reconnect_to_server_callback(elsewhere())
            .event_callback(move |event| {
                if !refusals.note(&event) {
                    note(&event);
                }
                wake.notify_one();
                std::future::ready(())
            });
        options = match config.tls {
            NatsTls::Auto => options,
            NatsTls::Required => options.require_tls(true),
            NatsTls::First => options.tls_first(),
        };
        if let Some(path) = &config.root_certificates {
            options = options.add_root_certificates(path.clone());
        }
        if let (Some(certificate), Some(key)) = (&config.client_certificate, &config.client_key) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(match &self.credentials {
            Credentials::None => options,
            Credentials::User { user, password } => options.user_and_password(user.clone(), password.clone()),
            Credentials::Token(token) => options.token(token.clone()),
            Credentials::File(text) => options.credentials(text)?,
            Credentials::NkeySeed(seed) => options.nkey(seed.clone()),
        })
    }
}

impl Credentials {
    /// Of all keys that say who connects, the one that is set.
    fn from_config(config: &NatsConfig) -> Result<Self, Fault> {
        if config.user.is_none() && !config.password.is_empty() {
            return Err(Fault::new("nats.password", "a password needs nats.user beside it"));
        }
        let user = config
            .user
            .as_ref()
            .map(|user| Self::User { user: user.clone(), password: config.password.expose().to_owned() });
        let token = (!config.token.is_empty()).then(|| Self::Token(config.token.expose().to_owned()));
        let seed = (!config.nkey_seed.is_empty()).then(|| Self::NkeySeed(config.nkey_seed.expose().to_owned()));
        let file = config.credentials_file.as_deref().map(Self::read).transpose()?.map(Self::File);
        if seed.is_some() && !is_user_seed(config.nkey_seed.expose()) {
            return Err(Fault::new("nats.nkey_seed", "no seed of a user's NKey: SU and 56 more of A-Z and 2-7"));
        }
        let mut set = Self::None;
        for (key, given) in
            [("nats.user", user), ("nats.token", token), ("nats.nkey_seed", seed), ("nats.credentials_file", file)]
        {
            let Some(given) = given else { continue };
            if set != Self::None {
                return Err(Fault::new(key, "give one of a user, a token, an NKey and a file of credentials"));
            }
            set = given;
        }
        Ok(set)
    }

    fn user(&self) -> Option<&str> {
        if let Self::User { user, .. } = self { Some(user) } else { None }
    }

    /// What a `.creds` file holds, if the library understands it.
    fn read(path: &Path) -> Result<String, Fault> {
        let fault = |message: String| Fault::new("nats.credentials_file", message);
        let text = std::fs::read_to_string(path).map_err(|error| fault(format!("can't be read: {}", error.kind())))?;
        // Its own words may quote the file.
        let parsed = ConnectOptions::with_credentials(&text);
        parsed
            .map_err(|_| fault("not a file of credentials as `nsc` writes it: a JWT and the seed of its key".into()))?;
        Ok(text)
    }
}

/// Whether it can stand in a subject as one token.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte))
}

/// Whether it looks like the secret half of a user's NKey.
fn is_user_seed(seed: &str) -> bool {
    let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    seed.len() == 58 && seed.starts_with("SU") && seed.bytes().all(base32)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What is wrong with the connection's configuration, without opening it.
pub(crate) fn faults(config: &NatsConfig) -> Vec<Fault> {
    // The service's own name is one that can stand in a subject.
    let mut faults: Vec<_> = Endpoint::from_config(config, "service").err().into_iter().collect();
    let files = [
        ("nats.root_certificates", &config.root_certificates),
        ("nats.client_certificate", &config.client_certificate),
        ("nats.client_key", &config.client_key),
    ];
    for (key, path) in files {
        let unreadable = path.as_ref().and_then(|path| std::fs::File::open(path).err());
        faults.extend(unreadable.map(|error| Fault::new(key, format!("can't be read: {}", error.kind()))));
    }
    match (&config.client_certificate, &config.client_key) {
        (Some(_), None) => faults.push(Fault::new("nats.client_certificate", "needs nats.client_key beside it")),
        (None, Some(_)) => faults.push(Fault::new("nats.client_key", "needs nats.client_certificate beside it")),
        _ => {}
    }
    let positive = [
        ("nats.connect_timeout", config.connect_timeout),
        ("nats.reconnect_min", config.reconnect_min),
        ("nats.reconnect_max", config.reconnect_max),
        ("nats.request_timeout", config.request_timeout),
        ("nats.ping_interval", config.ping_interval),
    ];
    let zero = positive.into_iter().filter(|(_, duration)| duration.get().is_zero());
    faults.extend(zero.map(|(key, _)| Fault::new(key, "must be longer than zero")));
    if config.reconnect_min > config.reconnect_max {
        faults.push(Fault::new("nats.reconnect_min", "must not be longer than nats.reconnect_max"));
    }
    for (key, capacity) in
        [("nats.subscription_capacity", config.subscription_capacity), ("nats.send_capacity", config.send_capacity)]
    {
        if capacity == 0 {
            faults.push(Fault::new(key, "must be at least 1"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;
    use crate::config::Secret;

    fn config(url: &str) -> NatsConfig {
        NatsConfig { url: url.to_owned(), ..NatsConfig::default() }
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    /// What looks like one.
    const SEED: &str = "SUAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn credentials_leave_the_url() {
        let of = |url| Endpoint::from_config(&config(url), "s").expect("valid");
        let endpoint = of("nats://bob:p%40ss@a:1, nats://bob:p%40ss@b:2");
        let servers: Vec<_> = endpoint.servers.iter().map(ServerAddr::as_url_str).collect();
        assert_eq!(servers, ["nats://a:1", "nats://b:2"]);
        assert!(endpoint.credentials == Credentials::User { user: "bob".to_owned(), password: "p@ss".to_owned() });
        assert!(of("tls://t0ken@a").credentials == Credentials::Token("t0ken".to_owned()));
    }

    #[test]
    fn inboxes_are_the_user_s_own() {
        let of = |config: &NatsConfig| Endpoint::from_config(config, "ws-edge").expect("valid").inbox_prefix;
        assert_eq!(of(&config("nats://door:p@a:1")), "_INBOX.door");
        assert_eq!(of(&config("a:1")), "_INBOX.ws-edge", "nobody in particular");
        assert_eq!(of(&config("nats://a%2Eb%3E:p@a:1")), "_INBOX.ws-edge", "no token");
        let told = NatsConfig { inbox_prefix: Some("_INBOX.door.1".to_owned()), ..config("a:1") };
        assert_eq!(of(&told), "_INBOX.door.1");
    }

    #[test]
    fn each_bad_setting_is_named_and_no_secret_quoted() {
        let both = NatsConfig { user: Some("bob".to_owned()), token: secret("t"), ..config("a:1") };
        let alone = NatsConfig { password: secret("hunter2"), ..config("a:1") };
        let missing = || Some(PathBuf::from("/nowhere/hunter2.pem"));
        let mut garbage = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut garbage, b"hunter2").expect("written");
        let garbage = Some(garbage.path().to_owned());
        let pair = NatsConfig { client_certificate: garbage.clone(), ..config("a:1") };
        let prefix = |prefix: &str| NatsConfig { inbox_prefix: Some(prefix.to_owned()), ..config("a:1") };
        for (config, key) in [
            (config(""), "nats.url"),
            (config("http://a:1"), "nats.url"),
            (config("nats://bob:hunter2@a:99999"), "nats.url"),
            (config("nats://bob:hunter2@a:1,nats://eve:hunter2@b:1"), "nats.url"),
            (NatsConfig { nkey_seed: secret(SEED), ..config("nats://bob:hunter2@a:1") }, "nats.url"),
            (both, "nats.token"),
            (alone, "nats.password"),
            (NatsConfig { nkey_seed: secret("SUhunter2"), ..config("a:1") }, "nats.nkey_seed"),
            (NatsConfig { nkey_seed: secret(SEED), token: secret("t"), ..config("a:1") }, "nats.nkey_seed"),
            (NatsConfig { credentials_file: missing(), ..config("a:1") }, "nats.credentials_file"),
            (NatsConfig { credentials_file: garbage, ..config("a:1") }, "nats.credentials_file"),
            (NatsConfig { root_certificates: missing(), ..config("a:1") }, "nats.root_certificates"),
            (pair, "nats.client_certificate"),
            (prefix(""), "nats.inbox_prefix"),
            (prefix("_INBOX.>"), "nats.inbox_prefix"),
            (prefix("_INBOX.a..b"), "nats.inbox_prefix"),
            (prefix("gm.s1"), "nats.inbox_prefix"),
            (NatsConfig { ping_interval: Duration::ZERO.into(), ..config("a:1") }, "nats.ping_interval"),
            (NatsConfig { reconnect_min: Duration::from_secs(9).into(), ..config("a:1") }, "nats.reconnect_min"),
            (NatsConfig { send_capacity: 0, ..config("a:1") }, "nats.send_capacity"),
        ] {
            let faults = faults(&config);
            assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), [key]);
            assert!(!faults[0].to_string().contains("hunter2"), "{}", faults[0]);
        }
        assert!(faults(&NatsConfig::default()).is_empty());
        assert!(faults(&NatsConfig { nkey_seed: secret(SEED), ..config("a:1") }).is_empty());
    }
}
