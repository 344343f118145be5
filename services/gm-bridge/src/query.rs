//! What requests bring: parameters and JSON bodies, read to the letter. Whatever is wrong is named.

use axum::{
    body::Bytes,
    extract::{FromRequestParts, Query, rejection::BytesRejection},
};
use herald_protocol::{
    Grant, Position, SessionId,
    record::{Lang, NewsKind},
};
use herald_runtime::http_over_nats::Caller;
use http::{StatusCode, request::Parts};
use serde_json::{Map, Value};

use crate::{arena::QueryParams, refusal::Refusal};

/// The role of those who look after all sessions.
const OPERATOR: &str = "operator";

/// The parameters of a request's query, decoded, and who sent it, where its door knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
    caller: Option<Caller>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|_| Refusal::bad("the query is malformed"))?;
        Ok(Self { pairs, caller: parts.extensions.get().cloned() })
    }
}

impl Parameters {
    fn get(&self, name: &'static str) -> Result<Option<&str>, Refusal> {
        let mut found = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(Refusal::bad(format!("{name} is given twice"))),
            (value, None) => Ok(value),
        }
    }

    /// `session_id`, if it is there; one that whoever asks may open.
    pub(crate) fn session(&self) -> Result<Option<SessionId>, Refusal> {
        let session = self.get("session_id")?.map(session_id).transpose()?;
        session.map(|session| self.allowed(session)).transpose()
    }

    /// The session, if whoever asks may open it.
    pub(crate) fn allowed(&self, session: SessionId) -> Result<SessionId, Refusal> {
        if self.caller.as_ref().is_none_or(|caller| caller.may_open(&session)) {
            Ok(session)
        } else {
            Err(Refusal::not_theirs())
        }
    }

    /// The session, if whoever asks may open it, or looks after all of them.
    pub(crate) fn managed(&self, session: SessionId) -> Result<SessionId, Refusal> {
        match &self.caller {
            Some(caller) if caller.role() == Some(OPERATOR) => Ok(session),
            _ => self.allowed(session),
        }
    }

    /// Fine, if whoever asks may open every session: what they ask for may be of any.
    pub(crate) fn all_allowed(&self) -> Result<(), Refusal> {
        let all = self.caller.as_ref().is_none_or(|caller| *caller.sessions() == Grant::All);
        if all { Ok(()) } else { Err(Refusal::not_theirs()) }
    }

    /// `session_id`, which must be there.
    pub(crate) fn required_session(&self) -> Result<SessionId, Refusal> {
        self.session()?.ok_or_else(|| Refusal::bad("session_id is missing"))
    }

    /// `lang`, if it is there.
    pub(crate) fn lang(&self) -> Result<Option<Lang>, Refusal> {
        let read = |text: &str| Lang::parse(text).ok_or_else(|| Refusal::bad("invalid lang: expected fr or en"));
        self.get("lang")?.map(read).transpose()
    }

    /// `at`, a cursor or a sequence; without it: as far as the log goes.
    pub(crate) fn at(&self) -> Result<Option<Position>, Refusal> {
        let read = |text: &str| text.parse().map_err(|_| Refusal::bad("at: expected a cursor or a sequence"));
        self.get("at")?.map(read).transpose()
    }

    /// `kind`, which must be there.
    pub(crate) fn kind(&self) -> Result<NewsKind, Refusal> {
        let text = self.get("kind")?.ok_or_else(|| Refusal::bad("kind is missing"))?;
        NewsKind::parse(text).ok_or_else(|| Refusal::bad("invalid kind: expected real, fake or satirical"))
    }

    /// All of them; of one that is given twice the last.
    pub(crate) fn into_query_params(self) -> QueryParams {
        self.pairs.into_iter().collect()
    }
}

/// The JSON object in a request's body.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body that is to have `fields`.
    pub(crate) fn read(body: Result<Bytes, BytesRejection>, fields: &str) -> Result<Self, Refusal> {
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than the limit")
            }
            _ => Refusal::bad("the body could not be read"),
        })?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) | Err(_) => Err(Refusal::bad(format!("the body is no JSON object with {fields}"))),
        }
    }

    /// A field that must be there and be a string.
    pub(crate) fn text(&self, name: &'static str) -> Result<&str, Refusal> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Refusal::bad(format!("{name} is no string"))),
            None => Err(Refusal::bad(format!("{name} is missing"))),
        }
    }
}

/// Reads a `session_id`.
pub(crate) fn session_id(text: &str) -> Result<SessionId, Refusal> {
    SessionId::new(text).map_err(|error| Refusal::bad(format!("session_id: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        let uri = format!("http://h/?{query}").parse().unwrap();
        Parameters { pairs: Query::try_from_uri(&uri).unwrap().0, caller: None }
    }

    #[test]
    fn who_is_known_asks_for_their_own_sessions_alone() {
        let of = |sessions: &str, query| {
            let caller = Caller::new("ann", None, sessions.parse().unwrap()).unwrap();
            Parameters { caller: Some(caller), ..parameters(query) }
        };
        assert!(of("a,b", "session_id=b").required_session().is_ok() && of("*", "session_id=c").session().is_ok());
        for foreign in [of("a,b", "session_id=c").session(), of("", "session_id=a").session()] {
            assert_eq!(foreign.unwrap_err().status, StatusCode::FORBIDDEN);
        }
        let foreign = |role| {
            let caller = Caller::new("ann", role, "a".parse().unwrap()).unwrap();
            Parameters { caller: Some(caller), ..parameters("") }.managed("b".parse().unwrap())
        };
        assert!(foreign(Some("operator")).is_ok() && foreign(Some("player")).is_err() && foreign(None).is_err());
        assert_eq!(of("a", "").session().unwrap(), None);
        assert!(of("a", "").all_allowed().is_err() && of("*", "").all_allowed().is_ok());
        assert!(parameters("").all_allowed().is_ok(), "behind a door that asks nobody");
    }

    #[test]
    fn parameters_are_read_to_the_letter() {
        let good = parameters("session_id=a-1&lang=en&kind=fake&x=%C3%A9+y&x=2");
        assert_eq!(good.required_session().unwrap().as_str(), "a-1");
        assert_eq!((good.lang().unwrap(), good.kind().unwrap()), (Some(Lang::En), NewsKind::Fake));
        assert_eq!(good.into_query_params()["x"], "2");
        assert_eq!((parameters("").session().unwrap(), parameters("").lang().unwrap()), (None, None));
        for id in ["", "a.b", "*", "%3E", "abc%0A", "%00", "%F0%9F%8E%B2", "%FF", &"x".repeat(65)] {
            let refusal = parameters(&format!("session_id={id}")).session().unwrap_err();
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{id}");
            assert!(refusal.text.contains("session_id"));
        }
        assert_eq!(parameters("").required_session().unwrap_err().text, "session_id is missing");
        assert_eq!(parameters("lang=FR").lang().unwrap_err().text, "invalid lang: expected fr or en");
        assert_eq!(parameters("lang=").lang().unwrap_err().text, "invalid lang: expected fr or en");
        assert_eq!(parameters("session_id=a&session_id=b").session().unwrap_err().text, "session_id is given twice");
        assert_eq!(
            parameters("kind=banana").kind().unwrap_err().text,
            "invalid kind: expected real, fake or satirical"
        );
    }

    #[test]
    fn bodies_are_objects_whose_fields_are_strings() {
        let read = |body: &'static str| Fields::read(Ok(Bytes::from_static(body.as_bytes())), "session_id");
        for odd in ["", "x", "[]", "null", "\"x\"", "{", "{\"a\":1} x"] {
            assert_eq!(read(odd).unwrap_err().text, "the body is no JSON object with session_id", "{odd}");
        }
        assert_eq!(read("{}").unwrap().text("session_id").unwrap_err().text, "session_id is missing");
        assert_eq!(read("{\"session_id\":5}").unwrap().text("session_id").unwrap_err().text, "session_id is no string");
        assert_eq!(read("{\"session_id\":\"\u{e9}\"}").unwrap().text("session_id").unwrap(), "\u{e9}");
    }
}
