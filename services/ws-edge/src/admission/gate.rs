//! A route that asks: whom, and what of a request it is about.

use std::{net::IpAddr, sync::Arc};

use herald_protocol::{Name, SessionId};
use http::{HeaderMap, header::ORIGIN};
use percent_encoding::percent_decode_str;

use super::question::{Inquiry, Place};
use crate::{
    config::{ListenerConfig, RouteConfig},
    path::Pattern,
};

/// Longest value of a parameter that is handed over, in bytes.
const LONGEST: usize = 256;

/// What makes a route ask before it lets somebody in.
#[derive(Debug)]
pub struct Gate {
    service: Name,
    place: Arc<Place>,
    /// The parameter that names the session, where the path does not.
    session: Option<String>,
    /// The parameters that are handed over.
    query: Vec<Arc<str>>,
}

/// A parameter of a query that can't be handed over; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameter {
    /// It is there twice.
    #[error("{0}: given twice")]
    Twice(String),
    /// It is no text.
    #[error("{0}: expected at most {LONGEST} bytes of text")]
    NoText(String),
}

impl Gate {
    /// That of a route; `None` where it asks nobody.
    #[must_use]
    pub fn of(config: &RouteConfig, listener: &ListenerConfig) -> Option<Self> {
        let place = Place { door: config.door.clone(), listener: listener.name.clone(), transport: config.transport };
        let in_path = config.path.parse::<Pattern>().is_ok_and(|pattern| pattern.has_session());
        Some(Self {
            service: config.admit.clone()?,
            place: Arc::new(place),
            session: (!in_path).then(|| config.session.clone()),
            query: config.admit_query.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    /// Who is asked.
    #[must_use]
    pub const fn service(&self) -> &Name {
        &self.service
    }

    /// The parameter that names the session, where the path does not.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// What is asked of a request. `resumes`: whether it says where to go on.
    ///
    /// # Errors
    /// Where a parameter is none that can be handed over.
    pub fn inquiry(
        &self,
        session: Option<SessionId>,
        query: &str,
        headers: &HeaderMap,
        address: IpAddr,
        resumes: bool,
    ) -> Result<Inquiry, BadParameter> {
        let mut handed = Vec::new();
        for name in &self.query {
            handed.extend(parameter(query, name)?.map(|value| (name.clone(), value)));
        }
        // Browsers send one. Of several nothing is left out: together they are no origin that anybody knows.
        let lines: Vec<_> =
            headers.get_all(ORIGIN).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        Ok(Inquiry {
            place: self.place.clone(),
            session,
            origin: (!lines.is_empty()).then(|| lines.join(", ")),
            address: address.to_canonical(),
            query: handed,
            resumes,
        })
    }
}

/// The value of a parameter, decoded.
///
/// # Errors
/// [`BadParameter`]
pub(crate) fn parameter(query: &str, name: &str) -> Result<Option<String>, BadParameter> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(key, _)| percent_decode_str(key).decode_utf8().is_ok_and(|key| key == name));
    let value = values.next();
    if values.next().is_some() {
        return Err(BadParameter::Twice(name.to_owned()));
    }
    let Some((_, value)) = value else { return Ok(None) };
    let text = percent_decode_str(value).decode_utf8().ok();
    let text = text.filter(|text| text.len() <= LONGEST && !text.chars().any(char::is_control));
    text.map_or_else(|| Err(BadParameter::NoText(name.to_owned())), |text| Ok(Some(text.into_owned())))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn gate(path: &str) -> Gate {
        let route = RouteConfig {
            path: path.into(),
            admit: Name::new("dice").ok(),
            admit_query: vec!["player_id".into()],
            ..RouteConfig::default()
        };
        Gate::of(&route, &ListenerConfig::default()).unwrap()
    }

    #[test]
    fn of_a_query_only_what_the_route_names_is_handed_over() {
        let gate = gate("/ws/{sid}");
        let asked = |query: &str, headers: &HeaderMap| {
            gate.inquiry(SessionId::new("t1").ok(), query, headers, "::ffff:192.0.2.1".parse().unwrap(), false)
        };
        let mut headers = HeaderMap::new();
        let inquiry = asked("after=5&player_id=p%20%C3%A91&secret=x&token=a.b.c", &headers).unwrap();
        assert_eq!(inquiry.query, [("player_id".into(), "p é1".to_owned())]);
        assert_eq!((inquiry.origin, inquiry.address), (None, IpAddr::from([192, 0, 2, 1])));
        assert!(asked("player=p", &headers).unwrap().query.is_empty());
        headers.append(ORIGIN, HeaderValue::from_static("https://a.example"));
        assert_eq!(asked("", &headers).unwrap().origin.as_deref(), Some("https://a.example"));
        headers.append(ORIGIN, HeaderValue::from_static("https://b.example"));
        assert_eq!(asked("", &headers).unwrap().origin.as_deref(), Some("https://a.example, https://b.example"));
        let long = "x".repeat(LONGEST + 1);
        for (query, bad) in [
            ("player_id=1&player_id=1", "player_id: given twice"),
            ("player_id=1&player%5Fid=2", "player_id: given twice"),
            ("player_id=%ff", "player_id: expected"),
            ("player_id=a%0Ab", "player_id: expected"),
            (&format!("player_id={long}"), "player_id: expected"),
        ] {
            assert!(asked(query, &HeaderMap::new()).unwrap_err().to_string().starts_with(bad), "{query}");
        }
    }

    #[test]
    fn a_path_without_a_session_has_it_in_its_query() {
        assert_eq!(gate("/ws/{sid}").session(), None);
        assert_eq!(gate("/ws/campaign/player").session(), Some("session_id"));
        assert!(Gate::of(&RouteConfig::default(), &ListenerConfig::default()).is_none(), "not unless it is asked for");
        assert_eq!(parameter("a=1&session_id=t%31", "session_id"), Ok(Some("t1".to_owned())));
        assert_eq!(parameter("session_id", "session_id"), Ok(Some(String::new())));
        assert_eq!(parameter("", "session_id"), Ok(None));
    }
}
