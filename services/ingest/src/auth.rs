//! Who publishes, and where they may.
//!
//! A door that asks for tokens says who sent a request ([`Caller`]): then the token decides, by its role and its sessions. A
//! door that asks nobody passes on what the request itself brings: an API key, where keys are asked for.

use std::{fmt::Write as _, str::FromStr, sync::Arc};

use anyhow::Context as _;
use herald_protocol::SessionId;
use herald_runtime::http_over_nats::Caller;
use http::{HeaderMap, header};
use ring::{hmac, rand::SystemRandom};

use crate::{
    config::{Config, KeyConfig},
    refusal::Refusal,
};

/// Bytes of a key at least: a shorter one can be found by trying.
pub(crate) const SHORTEST_SECRET: usize = 16;

/// Who publishes: keys of requests that are sent again are told apart by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Publisher {
    /// Whoever it is: nothing is asked of them.
    Anybody,
    /// The bearer of the API key of that name.
    Key(Arc<str>),
    /// A user whose token the door has verified.
    User(Arc<str>),
}

/// Lets in who may publish.
pub(crate) struct Gate {
    closed: bool,
    roles: Vec<String>,
    keys: Vec<Key>,
    /// Made at the start and known to nobody: what is compared are its tags, so that how long a comparison takes says nothing
    /// about a key, nor does the memory of this process hold any.
    mac: hmac::Key,
}

struct Key {
    name: Arc<str>,
    tag: hmac::Tag,
    scopes: Vec<Scope>,
}

impl Gate {
    /// The gate that `config` describes.
    ///
    /// # Errors
    /// Where the file of a key can't be read, or holds too short a one.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let mac = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let mac = mac.map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        let keys = config.keys.iter().map(|key| Key::new(key, &mac)).collect::<Result<_, _>>()?;
        Ok(Self { closed: config.needs_key(), roles: config.publish_roles.clone(), keys, mac })
    }

    /// Whether requests without a token need a key.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Who sent a request, if they may publish in `session`.
    pub(crate) fn admit(
        &self,
        caller: Option<&Caller>,
        headers: &HeaderMap,
        session: &SessionId,
    ) -> Result<Publisher, Refusal> {
        if let Some(caller) = caller {
            if !caller.role().is_some_and(|role| self.roles.iter().any(|wanted| wanted == role)) {
                return Err(Refusal::forbidden("Your role may not publish"));
            }
            if !caller.may_open(session) {
                return Err(Refusal::forbidden("This session is not yours"));
            }
            return Ok(Publisher::User(caller.user().into()));
        }
        // Where nothing is asked and there is nothing to compare with, a key is as good as none.
        if !self.closed && (self.keys.is_empty() || !headers.contains_key(header::AUTHORIZATION)) {
            return Ok(Publisher::Anybody);
        }
        let key = self.key(bearer(headers)?).ok_or_else(|| Refusal::unknown("The API key is not known"))?;
        if !key.scopes.iter().any(|scope| scope.allows(session)) {
            return Err(Refusal::forbidden("The API key is not for this session"));
        }
        Ok(Publisher::Key(key.name.clone()))
    }

    /// The key that was presented. All are compared, whichever it is.
    fn key(&self, presented: &str) -> Option<&Key> {
        self.keys.iter().fold(None, |found, key| {
            let same = hmac::verify(&self.mac, presented.as_bytes(), key.tag.as_ref()).is_ok();
            if same { Some(key) } else { found }
        })
    }
}

impl Key {
    fn new(config: &KeyConfig, mac: &hmac::Key) -> anyhow::Result<Self> {
        let KeyConfig { name, secret, secret_file, sessions } = config;
        let of_file;
        let secret = match secret_file {
            None => secret.expose(),
            Some(path) => {
                of_file = std::fs::read_to_string(path)
                    .with_context(|| format!("the file of the key {name} can't be read"))?;
                of_file.trim()
            }
        };
        anyhow::ensure!(secret.len() >= SHORTEST_SECRET, "the key {name} must have {SHORTEST_SECRET} bytes at least");
        let scopes = sessions.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self { name: name.as_str().into(), tag: hmac::sign(mac, secret.as_bytes()), scopes })
    }
}

impl Publisher {
    /// As text, another one for each.
    pub(crate) fn text(&self) -> String {
        let (kind, name) = match self {
            Self::Anybody => ("anybody", ""),
            Self::Key(name) => ("key", &**name),
            Self::User(name) => ("user", &**name),
        };
        let mut text = String::with_capacity(kind.len() + 1 + name.len());
        let _infallible = write!(text, "{kind}:{name}");
        text
    }
}

/// The key of `Authorization: Bearer KEY`.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let text = match (all.next(), all.next()) {
        (None, _) => return Err(Refusal::unknown("An API key is needed: Authorization: Bearer KEY")),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let key = text.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    key.map(|(_, key)| key.trim()).ok_or_else(|| Refusal::unknown("Expected one header Authorization: Bearer KEY"))
}

/// Sessions that a key may publish in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// This one.
    One(SessionId),
    /// Those whose id begins so; nothing: all.
    Beginning(Box<str>),
}

/// A text that names no sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a session id, the beginning of one and *, or *")]
pub(crate) struct InvalidScope;

impl Scope {
    pub(crate) fn allows(&self, session: &SessionId) -> bool {
        match self {
            Self::One(one) => one == session,
            Self::Beginning(text) => session.as_str().starts_with(&**text),
        }
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        match text.strip_suffix('*') {
            None => SessionId::new(text).map(Self::One).map_err(|_| InvalidScope),
            // What some session id begins with.
            Some(beginning) if beginning.is_empty() || SessionId::new(beginning).is_ok() => {
                Ok(Self::Beginning(beginning.into()))
            }
            Some(_) => Err(InvalidScope),
        }
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::Grant;
    use herald_runtime::config::Secret;
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::config::Auth;

    const QUIZ: &str = "quiz-secret-0123";
    const ALL: &str = "all-secret-456789";

    fn key(name: &str, secret: &str, sessions: &str) -> KeyConfig {
        let sessions = sessions.split(',').map(str::to_owned).collect();
        KeyConfig { name: name.to_owned(), secret: Secret::from(secret.to_owned()), secret_file: None, sessions }
    }

    fn gate(auth: Option<Auth>, keys: Vec<KeyConfig>) -> Gate {
        Gate::new(&Config { auth, keys, ..Config::default() }).unwrap()
    }

    fn keys() -> Vec<KeyConfig> {
        vec![key("quiz", QUIZ, "quiz-*,s1"), key("all", ALL, "*")]
    }

    fn session(id: &str) -> SessionId {
        SessionId::new(id).unwrap()
    }

    fn authorization(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_publishes_in_its_sessions_and_no_other() {
        let gate = gate(None, keys());
        assert!(gate.is_closed());
        let admit = |secret: &str, id| gate.admit(None, &authorization(&[&format!("Bearer {secret}")]), &session(id));
        for id in ["quiz-7", "quiz-", "s1"] {
            assert_eq!(admit(QUIZ, id), Ok(Publisher::Key("quiz".into())), "{id}");
        }
        for id in ["quiz", "s10", "S1", "other"] {
            assert_eq!(admit(QUIZ, id).unwrap_err().status, StatusCode::FORBIDDEN, "{id}");
            assert_eq!(admit(ALL, id), Ok(Publisher::Key("all".into())), "{id}");
        }
    }

    #[test]
    fn who_has_no_good_key_is_not_known() {
        let gate = gate(None, keys());
        let wrong = ["Bearer quiz-secret-0124", "Bearer quiz-secret-012", "Bearer ", "Basic cXVpejp4", "Bearer", QUIZ];
        for value in wrong {
            let refusal = gate.admit(None, &authorization(&[value]), &session("s1")).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UNAUTHORIZED, "{value}");
            assert!(!refusal.text.contains("quiz"), "{refusal:?}");
        }
        let good = format!("bearer {QUIZ}");
        assert!(gate.admit(None, &authorization(&[&good]), &session("s1")).is_ok(), "whichever the case of the scheme");
        for values in [&[][..], &[good.as_str(), good.as_str()]] {
            assert_eq!(
                gate.admit(None, &authorization(values), &session("s1")).unwrap_err().status,
                StatusCode::UNAUTHORIZED
            );
        }
    }

    #[test]
    fn nothing_is_asked_where_there_is_nothing_to_ask_for() {
        let none = HeaderMap::new();
        let open = gate(None, Vec::new());
        assert_eq!(open.admit(None, &none, &session("s1")), Ok(Publisher::Anybody));
        assert_eq!(open.admit(None, &authorization(&["Bearer x"]), &session("s1")), Ok(Publisher::Anybody));
        let ajar = gate(Some(Auth::Off), keys());
        assert_eq!(ajar.admit(None, &none, &session("s1")), Ok(Publisher::Anybody));
        assert!(ajar.admit(None, &authorization(&["Bearer x"]), &session("s1")).is_err(), "a wrong key is a mistake");
        assert!(gate(Some(Auth::Required), Vec::new()).admit(None, &none, &session("s1")).is_err());
    }

    #[test]
    fn a_token_decides_by_role_and_sessions_whatever_else_is_sent() {
        let caller = |role, sessions: &str| Caller::new("ann", role, sessions.parse::<Grant>().unwrap()).unwrap();
        for gate in [gate(None, Vec::new()), gate(None, keys())] {
            let admit = |caller: &Caller| {
                let headers = authorization(&[&format!("Bearer {ALL}")]);
                gate.admit(Some(caller), &headers, &session("s1"))
            };
            for good in [caller(Some("operator"), "*"), caller(Some("engine"), "s0,s1")] {
                assert_eq!(admit(&good), Ok(Publisher::User("ann".into())));
            }
            for bad in [
                caller(None, "*"),
                caller(Some("player"), "*"),
                caller(Some("Operator"), "s1"),
                caller(Some("engine"), "s2"),
                caller(Some("engine"), ""),
            ] {
                assert_eq!(admit(&bad).unwrap_err().status, StatusCode::FORBIDDEN, "{bad:?}");
            }
        }
    }

    #[test]
    fn publishers_are_told_apart() {
        let [anybody, key, user] =
            [Publisher::Anybody, Publisher::Key("x".into()), Publisher::User("x".into())].map(|who| who.text());
        assert!(anybody != key && key != user && user != anybody);
    }

    #[test]
    fn scopes_are_ids_beginnings_or_all() {
        for good in ["s1", "quiz-*", "*"] {
            assert!(good.parse::<Scope>().is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a*b", "**", "-*", "_*", "a b", ">"] {
            assert_eq!(bad.parse::<Scope>(), Err(InvalidScope), "{bad}");
        }
    }
}
