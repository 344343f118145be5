//! What an engine is asked.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use herald_protocol::{Grant, Name, SessionId};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde_json::{Map, Value};

use crate::{config::Transport, identity::Claims};

/// What a question always has, and no parameter of a query can take the place of.
pub(crate) const FIELDS: [&str; 8] = ["claims", "door", "ip", "listener", "origin", "resume", "sid", "transport"];
/// What is always said of a token, and no further claim can take the place of.
pub(crate) const CLAIMS: [&str; 3] = ["role", "sessions", "user"];

/// Where somebody comes in.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) door: Name,
    pub(super) listener: Name,
    pub(super) transport: Transport,
}

/// What an engine is asked, but for who asks: that is in a token, which may be renewed.
#[derive(Debug, Clone)]
pub struct Inquiry {
    pub(super) place: Arc<Place>,
    pub(super) session: Option<SessionId>,
    pub(super) origin: Option<String>,
    pub(super) address: IpAddr,
    /// Parameters of the query, those that the route names.
    pub(super) query: Vec<(Arc<str>, String)>,
    pub(super) resumes: bool,
}

/// A question as it is sent.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) payload: Bytes,
}

/// What was asked, in so few bytes that many can be remembered. Nobody can make two questions that have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Of everything but this:
    digest: [u8; SHA256_OUTPUT_LEN],
    resumes: bool,
}

impl Inquiry {
    /// The session that is asked for, if one is.
    #[must_use]
    pub const fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// The question, for somebody with those claims.
    pub(super) fn question(&self, claims: Option<&Claims>) -> Question {
        let mut asked = Map::new();
        let mut say = |name: &str, value: Option<Value>| asked.extend(value.map(|value| (name.to_owned(), value)));
        for (name, value) in &self.query {
            say(name, Some(value.as_str().into()));
        }
        // After them, and so in their place.
        say("door", Some(self.place.door.as_str().into()));
        say("listener", Some(self.place.listener.as_str().into()));
        let transport = match self.place.transport {
            Transport::Socket => "socket",
            Transport::Sse => "sse",
            Transport::Events => "events",
            Transport::Session => "session",
        };
        say("transport", Some(transport.into()));
        say("sid", self.session.as_ref().map(|session| session.as_str().into()));
        say("claims", claims.map(told));
        say("origin", self.origin.as_deref().map(Value::from));
        say("ip", Some(self.address.to_string().into()));
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, Value::Object(asked.clone()).to_string().as_bytes()).as_ref());
        asked.insert("resume".to_owned(), self.resumes.into());
        let key = Key { digest: hash, resumes: self.resumes };
        Question { key, payload: Value::Object(asked).to_string().into() }
    }
}

impl Key {
    /// The same question, but for whether somebody comes back.
    pub(super) fn otherwise(&self) -> Self {
        Self { resumes: !self.resumes, ..*self }
    }

    #[cfg(test)]
    pub(super) const fn of_test(number: u8) -> Self {
        Self { digest: [number; SHA256_OUTPUT_LEN], resumes: false }
    }
}

/// What is said of a token. Not when it expires: with a fresh one of the same claims somebody is still the same.
fn told(claims: &Claims) -> Value {
    let mut told = claims.further.clone();
    let caller = &claims.caller;
    told.insert("user".to_owned(), caller.user().into());
    told.extend(caller.role().map(|role| ("role".to_owned(), role.into())));
    let sessions: Value = match caller.sessions() {
        Grant::All => "*".into(),
        Grant::Sessions(sessions) => sessions.iter().map(SessionId::as_str).collect(),
    };
    told.extend(claims.names_sessions.then(|| ("sessions".to_owned(), sessions)));
    Value::Object(told)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use herald_runtime::http_over_nats::Caller;
    use serde_json::json;

    use super::*;

    pub(in crate::admission) fn inquiry(change: impl FnOnce(&mut Inquiry)) -> Inquiry {
        let name = |text| Name::new(text).unwrap();
        let place = Place { door: name("player"), listener: name("public"), transport: Transport::Socket };
        let mut inquiry = Inquiry {
            place: Arc::new(place),
            session: SessionId::new("t1").ok(),
            origin: None,
            address: [192, 0, 2, 1].into(),
            query: Vec::new(),
            resumes: false,
        };
        change(&mut inquiry);
        inquiry
    }

    pub(in crate::admission) fn claims(user: &str, role: Option<&str>, sessions: Option<&str>) -> Claims {
        let grant = sessions.unwrap_or_default().parse().unwrap();
        let caller = Caller::new(user, role, grant).unwrap();
        let (further, expires) = (Map::new(), SystemTime::UNIX_EPOCH);
        Claims { caller, expires, names_sessions: sessions.is_some(), further }
    }

    fn asked(inquiry: &Inquiry, claims: Option<&Claims>) -> Value {
        serde_json::from_slice(&inquiry.question(claims).payload).unwrap()
    }

    #[test]
    fn an_engine_is_told_who_wants_what_and_from_where() {
        let plain = json!({
            "door": "player", "listener": "public", "transport": "socket", "sid": "t1", "ip": "192.0.2.1", "resume": false,
        });
        assert_eq!(asked(&inquiry(|_| {}), None), plain);
        let everything = inquiry(|it| {
            it.origin = Some("https://play.example".into());
            it.query = vec![("player_id".into(), "p\"1".into()), ("sid".into(), "t2".into())];
            it.resumes = true;
        });
        let mut ann = claims("ann", Some("dm"), Some("t1,t2"));
        ann.further = json!({"email": "ann@example.com", "user": "eve"}).as_object().unwrap().clone();
        let told = asked(&everything, Some(&ann));
        assert_eq!(
            told["claims"],
            json!({"user": "ann", "role": "dm", "sessions": ["t1", "t2"], "email": "ann@example.com"})
        );
        assert_eq!((&told["player_id"], &told["sid"]), (&json!("p\"1"), &json!("t1")), "a query is no word of ours");
        assert_eq!((&told["origin"], &told["resume"]), (&json!("https://play.example"), &json!(true)));
        assert_eq!(asked(&everything, Some(&claims("bob", None, None)))["claims"], json!({"user": "bob"}));
        assert_eq!(asked(&everything, Some(&claims("bob", None, Some("*"))))["claims"]["sessions"], "*");
        assert_eq!(asked(&inquiry(|it| it.session = None), None).get("sid"), None);
        assert!(told.as_object().unwrap().keys().all(|key| FIELDS.contains(&key.as_str()) || key == "player_id"));
    }

    #[test]
    fn whatever_is_asked_is_part_of_the_question() {
        let key = |inquiry: &Inquiry, claims: Option<&Claims>| inquiry.question(claims).key;
        let first = inquiry(|_| {});
        let ann = claims("ann", None, Some("t1"));
        let mut mail = claims("ann", None, Some("t1"));
        mail.further.insert("email".to_owned(), "x".into());
        let name = |text| Name::new(text).unwrap();
        let place = |door, listener, transport| {
            inquiry(|it| it.place = Arc::new(Place { door: name(door), listener: name(listener), transport }))
        };
        let keys = [
            key(&first, None),
            key(&first, Some(&ann)),
            key(&first, Some(&mail)),
            key(&first, Some(&claims("bob", None, Some("t1")))),
            key(&first, Some(&claims("ann", Some("dm"), Some("t1")))),
            key(&first, Some(&claims("ann", None, Some("t1,t2")))),
            key(&first, Some(&claims("ann", None, None))),
            key(&inquiry(|it| it.session = SessionId::new("t2").ok()), None),
            key(&inquiry(|it| it.session = None), None),
            key(&inquiry(|it| it.origin = Some("https://a.example".into())), None),
            key(&inquiry(|it| it.address = [192, 0, 2, 2].into()), None),
            key(&inquiry(|it| it.query = vec![("p".into(), "1".into())]), None),
            key(&inquiry(|it| it.query = vec![("p".into(), String::new())]), None),
            key(&inquiry(|it| it.resumes = true), None),
            key(&place("dm", "public", Transport::Socket), None),
            key(&place("player", "inner", Transport::Socket), None),
            key(&place("player", "public", Transport::Sse), None),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[..at].iter().all(|other| other != one), "{at}");
        }
        let fresh = Claims { expires: SystemTime::now(), ..ann.clone() };
        assert_eq!(key(&first, Some(&fresh)), key(&first, Some(&ann)), "a fresh token of the same claims");
        assert_eq!(key(&inquiry(|it| it.resumes = true), None).otherwise(), key(&first, None));
    }
}
