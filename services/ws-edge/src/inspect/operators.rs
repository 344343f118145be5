//! The lists of sessions and connections at a listener that asks for tokens, for whose token says `operator`. They show what they
//! show at the operations port: of this edge, the names of connections included, by which engines speak to them over NATS.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::IntoResponse,
};
use http::{Uri, header::CACHE_CONTROL};
use serde::de::DeserializeOwned;

use super::{Inspector, connections, sessions};
use crate::answer::{Answer, NO_STORE};

/// One of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// Sessions that somebody is shown here.
    Sessions,
    /// Those who are shown them.
    Connections,
}

impl List {
    /// All of them, with their paths.
    pub(crate) const ALL: [(&'static str, Self); 2] =
        [("/operator/sessions", Self::Sessions), ("/operator/connections", Self::Connections)];

    /// The list of that path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == path).map(|(_, list)| *list)
    }

    /// A page of it, as the query of `uri` asks. Whoever asks was identified.
    pub(crate) async fn answer(self, inspector: &Arc<Inspector>, uri: &Uri) -> Answer {
        let who = State(inspector.clone());
        let mut answer = match self {
            Self::Sessions => sessions(who, asked(uri)).await.into_response(),
            Self::Connections => connections(who, asked(uri)).await.into_response(),
        };
        answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        answer
    }
}

fn asked<T: DeserializeOwned>(uri: &Uri) -> Result<Query<T>, QueryRejection> {
    Query::try_from_uri(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_path_and_no_other() {
        for (path, list) in List::ALL {
            assert_eq!(List::at(path), Some(list));
            for other in [format!("{path}/"), format!("/{path}"), path.to_uppercase(), format!("/app{path}")] {
                assert_eq!(List::at(&other), None, "{other}");
            }
        }
    }
}
