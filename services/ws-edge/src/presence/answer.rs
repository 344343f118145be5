//! What is answered to whoever asks who is there: by HTTP, and over NATS.

use std::{sync::Arc, time::Duration};

use async_nats::Message;
use futures_util::{StreamExt as _, future::join_all};
use herald_protocol::{SessionId, presence::PersonId, subject};
use herald_runtime::nats::Nats;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::{Presence, RoomId};
use crate::{
    admission::{BadParameter, parameter},
    answer::{self, Answer},
    config::PresenceMode,
};

/// People in an answer where nobody says how many.
const PAGE: usize = 100;
/// How long to wait before a lost subscription is made again.
const RETRY: Duration = Duration::from_millis(500);
/// Of all edges one answers.
const GROUP: &str = "edge";

/// Which of those who are there are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Those behind this one.
    after: Option<PersonId>,
    limit: usize,
}

/// What an engine asks, as JSON; nothing is the first page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    next: Option<PersonId>,
}

/// A question that can't be answered; the text says why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unasked {
    /// A parameter is there twice, or is no text.
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    /// No number of people.
    #[error("limit: expected a number from 1 to {most}")]
    Limit {
        /// The largest.
        most: usize,
    },
    /// Nothing that was answered as `next`.
    #[error("next: expected what was answered as such")]
    Next,
}

impl Presence {
    /// Reads which of those who are there a query asks for.
    ///
    /// # Errors
    /// `Unasked`
    pub fn wanted(&self, query: &str) -> Result<Wanted, Unasked> {
        let most = self.config.page;
        let limit = parameter(query, "limit")?.map(|text| {
            let number = text.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or(Unasked::Limit { most })
        });
        let after = parameter(query, "next")?.map(|text| text.parse().map_err(|_| Unasked::Next));
        Ok(Wanted { after: after.transpose()?, limit: limit.transpose()?.unwrap_or(PAGE.min(most)) })
    }

    /// Answers who is there, as far as `mode` lets it.
    #[must_use]
    pub fn answer(&self, root: &Arc<str>, session: &SessionId, mode: PresenceMode, wanted: Wanted) -> Answer {
        answer::json(StatusCode::OK, self.state(root, session, mode, wanted).to_string())
    }

    /// Answers engines, for ever: those whose sessions are shown here. Another edge may show others.
    pub(super) async fn answer_engines(&self, nats: &Nats) {
        join_all(self.roots.iter().map(|root| self.answer_engine(nats, subject::present_all(root)))).await;
    }

    async fn answer_engine(&self, nats: &Nats, subject: String) {
        loop {
            let client = nats.client();
            match client.queue_subscribe(subject.clone(), GROUP.to_owned()).await {
                Ok(mut questions) => {
                    while let Some(question) = questions.next().await {
                        self.answer_question(nats, question).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "engines can't be told who is there, trying again"),
            }
            sleep(RETRY).await;
        }
    }

    async fn answer_question(&self, nats: &Nats, question: Message) {
        let Some(reply) = question.reply.filter(|reply| subject::is_inbox(reply)) else { return };
        let said = self.told(&question.subject, &question.payload);
        let client = nats.client();
        if let Err(error) = client.publish(reply, said.to_string().into()).await {
            tracing::warn!(%error, "an engine can't be told who is there");
        }
    }

    /// What an engine is answered. It may know everything of its own sessions: which those are is NATS' to say.
    fn told(&self, asked: &str, question: &[u8]) -> Value {
        let Some((root, session)) = subject::parse_present(asked) else { return json!({ "error": "No such session" }) };
        let question = if question.is_empty() { Ok(Question::default()) } else { serde_json::from_slice(question) };
        let question = match question {
            Ok(question) => question,
            Err(error) => return json!({ "error": error.to_string() }),
        };
        let limit = question.limit.unwrap_or(PAGE).clamp(1, self.config.page);
        let wanted = Wanted { after: question.next, limit };
        self.state(&root.as_str().into(), &session, PresenceMode::List, wanted)
    }

    fn state(&self, root: &Arc<str>, session: &SessionId, mode: PresenceMode, wanted: Wanted) -> Value {
        let room_id = RoomId { root: root.clone(), session: session.clone() };
        let limit = if mode == PresenceMode::List { wanted.limit } else { 0 };
        let (page, complete) = {
            let book = self.book();
            (book.page(&room_id, wanted.after, limit), book.is_complete(Instant::now()))
        };
        let mut said = Map::new();
        said.insert("session".into(), session.as_str().into());
        said.insert("count".into(), page.count.into());
        said.insert("complete".into(), complete.into());
        if mode == PresenceMode::List {
            // Numbers and strings: that can't fail.
            said.insert("persons".into(), serde_json::to_value(&page.persons).unwrap_or_default());
            if page.unlisted > 0 {
                said.insert("unlisted".into(), page.unlisted.into());
            }
            said.extend(page.next.map(|next| ("next".to_owned(), next.to_string().into())));
        }
        Value::Object(said)
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::InstanceId;

    use super::*;
    use crate::{
        config::PresenceConfig,
        presence::{of_user, person},
    };

    fn presence() -> Arc<Presence> {
        let config = PresenceConfig { page: 50, ..PresenceConfig::default() };
        Presence::new(&InstanceId::new("edge-1").unwrap(), [Arc::from("gm")], &config)
    }

    #[test]
    fn a_query_asks_for_a_page_or_for_nothing() {
        let presence = presence();
        let next = PersonId::new(7);
        let wanted = |after, limit| Ok(Wanted { after, limit });
        assert_eq!(presence.wanted(""), wanted(None, 50));
        assert_eq!(presence.wanted("limit=5&token=x"), wanted(None, 5));
        assert_eq!(presence.wanted(&format!("next={next}&limit=50")), wanted(Some(next), 50));
        for (query, text) in [
            ("limit=0", "limit: expected a number from 1 to 50"),
            ("limit=51", "limit: expected a number from 1 to 50"),
            ("limit=-1", "limit: expected a number from 1 to 50"),
            ("limit=x", "limit: expected a number from 1 to 50"),
            ("limit=5&limit=5", "limit: given twice"),
            ("next=", "next: expected what was answered as such"),
            ("next=..%2f", "next: expected what was answered as such"),
        ] {
            assert_eq!(presence.wanted(query).unwrap_err().to_string(), text, "{query}");
        }
    }

    #[tokio::test]
    async fn who_is_there_is_answered_as_far_as_the_route_lets_it() {
        let (presence, root, session) = (presence(), Arc::from("gm"), SessionId::new("s").unwrap());
        let room_id = RoomId { root: Arc::clone(&root), session: session.clone() };
        for name in ["ann", "bob", "cid"] {
            let person = person("c", Some(&name.into()), Some(&"player".into()), None, 5);
            presence.book().enter(&room_id, person, false);
        }
        let answered = async |mode, query: &str| -> Value {
            let answer = presence.answer(&root, &session, mode, presence.wanted(query).unwrap());
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            serde_json::from_slice(&body).unwrap()
        };
        let number = serde_json::json!({ "session": "s", "count": 3, "complete": false });
        assert_eq!(answered(PresenceMode::Count, "").await, number, "no names");
        let all = answered(PresenceMode::List, "").await;
        let mut ids = ["ann", "bob", "cid"].map(|name| of_user(name, Some("player")).to_string());
        ids.sort();
        let listed: Vec<_> = all["persons"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
        assert_eq!((listed, &all["next"]), (ids.iter().map(String::as_str).collect(), &Value::Null));
        assert_eq!((&all["persons"][0]["role"], &all["persons"][0]["since"]), (&"player".into(), &5.into()));
        // An engine asks otherwise, and is answered the same.
        assert_eq!(presence.told("edge.present.gm.s", b""), all);
        let next = format!(r#"{{"limit":1,"next":"{}"}}"#, ids[0]);
        assert_eq!(presence.told("edge.present.gm.s", next.as_bytes())["persons"][0]["id"], ids[1].as_str());
        assert_eq!(presence.told("edge.present.lobby.s", b"{}")["count"], 0);
        assert!(presence.told("edge.present.gm.s", b"{\"x\":1}")["error"].is_string());
        assert!(presence.told("edge.present.GM.s", b"")["error"].is_string());
        let first = answered(PresenceMode::List, "limit=2").await;
        assert_eq!(first["next"], ids[1].as_str());
        let rest = answered(PresenceMode::List, &format!("limit=2&next={}", ids[1])).await;
        assert_eq!((rest["persons"].as_array().unwrap().len(), &rest["count"]), (1, &3.into()));
        assert_eq!(rest["persons"][0]["id"], ids[2].as_str());
    }
}
