//! A session as it is stored, and what changes do to it: pure, so that all that is true of a change is said in one place.

use herald_protocol::SessionId;
use serde::{Deserialize, Serialize};

/// A session: the value of its key in the bucket of sessions, and the whole truth about who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The era it belongs to: in any other it does not exist.
    pub(crate) era: u64,
    pub(crate) id: SessionId,
    pub(crate) seed: String,
    pub(crate) size: u8,
    pub(crate) labyrinth_id: String,
    pub(crate) start_x: u8,
    pub(crate) start_y: u8,
    /// The rule that made the map.
    #[serde(rename = "gen")]
    pub(crate) rule: String,
    /// One hex digit for each cell: kept, so that a later rule never alters it.
    pub(crate) map: String,
    pub(crate) created_at: String,
    /// In the order in which they joined.
    pub(crate) players: Vec<Player>,
    /// It is gone; what is left of it is about to go, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) destroyed: bool,
}

/// Somebody who is in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Player {
    pub(crate) client_id: String,
    pub(crate) ready: bool,
    pub(crate) connected_at: String,
    /// Which joining this was: the binding of the client names the same.
    pub(crate) join: String,
}

/// Who is in a session and whether they are ready: what answers and sockets say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    players: Vec<Ready>,
    all_ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ready {
    client_id: String,
    ready: bool,
}

/// What is to be changed in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A client comes in, by that joining.
    Join { client: String, join: String },
    /// A client that came in by that joining goes.
    Leave { client: String, join: String },
    /// A member says whether it is ready.
    Ready { client: String, ready: bool },
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is so now, and was not before.
    Done,
    /// It was so already.
    Same,
    /// No such member.
    NotMember,
    /// No room for one more.
    Full,
}

impl Session {
    /// Whether it exists in that era.
    pub(crate) const fn exists_in(&self, era: u64) -> bool {
        self.era == era && !self.destroyed
    }

    /// Whether it exists no more, now that it is that era. One of a later era was made after that was read.
    pub(crate) const fn is_over(&self, era: u64) -> bool {
        self.era < era || self.destroyed
    }

    /// The member with that id.
    pub(crate) fn player(&self, client: &str) -> Option<&Player> {
        self.players.iter().find(|player| player.client_id == client)
    }

    /// Whether that client is in it by that joining.
    pub(crate) fn lists(&self, client: &str, join: &str) -> bool {
        self.player(client).is_some_and(|player| player.join == join)
    }

    /// How it is now.
    pub(crate) fn status(&self) -> Status {
        let ready = |player: &Player| Ready { client_id: player.client_id.clone(), ready: player.ready };
        Status {
            players: self.players.iter().map(ready).collect(),
            all_ready: !self.players.is_empty() && self.players.iter().all(|player| player.ready),
        }
    }

    /// Makes a change at the time `now`, where a session has room for `most`.
    pub(crate) fn apply(&mut self, change: &Change, now: &str, most: usize) -> Outcome {
        match change {
            Change::Join { client, join } => self.join(client, join, now, most),
            Change::Leave { client, join } => {
                let before = self.players.len();
                self.players.retain(|player| player.client_id != *client || player.join != *join);
                if self.players.len() < before { Outcome::Done } else { Outcome::NotMember }
            }
            Change::Ready { client, ready } => {
                match self.players.iter_mut().find(|player| player.client_id == *client) {
                    None => Outcome::NotMember,
                    Some(player) if player.ready == *ready => Outcome::Same,
                    Some(player) => {
                        player.ready = *ready;
                        Outcome::Done
                    }
                }
            }
        }
    }

    /// What is left of it when it is gone.
    pub(crate) fn destroy(&mut self) {
        self.players.clear();
        self.destroyed = true;
    }

    fn join(&mut self, client: &str, join: &str, now: &str, most: usize) -> Outcome {
        if self.lists(client, join) {
            return Outcome::Same;
        }
        // By another joining it is what a crash has left: only one binding counts, and that is this one's.
        let left = self.players.iter().position(|player| player.client_id == client);
        if left.is_none() && self.players.len() >= most {
            return Outcome::Full;
        }
        if let Some(left) = left {
            self.players.remove(left);
        }
        self.players.push(Player {
            client_id: client.to_owned(),
            ready: false,
            connected_at: now.to_owned(),
            join: join.to_owned(),
        });
        Outcome::Done
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn session() -> Session {
        Session {
            era: 1,
            id: SessionId::new("5e551040-0000-4000-8000-000000000001").unwrap(),
            seed: "abc".to_owned(),
            size: 4,
            labyrinth_id: "1ab".to_owned(),
            start_x: 2,
            start_y: 0,
            rule: "dfs1".to_owned(),
            map: "682c7aa952ac3aa9".to_owned(),
            created_at: "2026-11-22T12:00:00.000000Z".to_owned(),
            players: Vec::new(),
            destroyed: false,
        }
    }

    fn join(client: &str) -> Change {
        Change::Join { client: client.to_owned(), join: format!("{client}-1") }
    }

    fn leave(client: &str) -> Change {
        Change::Leave { client: client.to_owned(), join: format!("{client}-1") }
    }

    fn ready(client: &str, ready: bool) -> Change {
        Change::Ready { client: client.to_owned(), ready }
    }

    fn all_ready(session: &Session) -> bool {
        session.status().all_ready
    }

    #[test]
    fn all_are_ready_as_soon_as_the_last_one_who_is_not_has_left_and_until_somebody_comes() {
        let mut session = session();
        let mut apply = |change| (session.apply(&change, "now", 256), all_ready(&session));
        assert_eq!(apply(join("a")), (Outcome::Done, false), "a member, not ready");
        assert_eq!(apply(join("b")), (Outcome::Done, false));
        assert_eq!(apply(ready("a", true)), (Outcome::Done, false));
        assert_eq!(apply(ready("a", true)), (Outcome::Same, false));
        assert_eq!(apply(leave("b")), (Outcome::Done, true), "the last unready one has left");
        assert_eq!(apply(join("c")), (Outcome::Done, false), "somebody new");
        assert_eq!(apply(leave("c")), (Outcome::Done, true));
        assert_eq!(apply(leave("c")), (Outcome::NotMember, true));
        assert_eq!(apply(ready("c", true)), (Outcome::NotMember, true));
        assert_eq!(apply(leave("a")), (Outcome::Done, false), "nobody is not all");
    }

    #[test]
    fn who_leaves_and_joins_again_is_last_and_not_ready() {
        let mut session = session();
        for change in [join("a"), join("b"), ready("a", true), leave("a"), join("a")] {
            assert_eq!(session.apply(&change, "now", 256), Outcome::Done);
        }
        let order: Vec<_> = session.players.iter().map(|player| (player.client_id.as_str(), player.ready)).collect();
        assert_eq!(order, [("b", false), ("a", false)]);
    }

    #[test]
    fn a_joining_is_taken_back_only_by_its_own_name() {
        let mut session = session();
        session.apply(&join("a"), "now", 256);
        let again = Change::Join { client: "a".to_owned(), join: "a-2".to_owned() };
        assert_eq!(session.apply(&again, "later", 256), Outcome::Done);
        assert_eq!(session.players.len(), 1, "a client is there once");
        assert_eq!(session.apply(&leave("a"), "later", 256), Outcome::NotMember, "that joining is no more");
        assert!(session.lists("a", "a-2"));
    }

    #[test]
    fn a_full_session_takes_nobody_but_who_is_there() {
        let mut session = session();
        assert_eq!(session.apply(&join("a"), "now", 1), Outcome::Done);
        assert_eq!(session.apply(&join("b"), "now", 1), Outcome::Full);
        assert_eq!(session.apply(&join("a"), "now", 1), Outcome::Same);
    }

    #[test]
    fn a_status_is_what_the_contract_shows() {
        let mut session = session();
        session.apply(&join("a"), "now", 256);
        session.apply(&ready("a", true), "now", 256);
        let text = |status: &Status| serde_json::to_string(status).unwrap();
        assert_eq!(text(&session.status()), r#"{"players":[{"client_id":"a","ready":true}],"all_ready":true}"#);
        assert_eq!(text(&Status::default()), r#"{"players":[],"all_ready":false}"#);
        session.destroy();
        assert!(!session.exists_in(session.era));
        assert_eq!(session.status(), Status::default());
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_stored(client in "\\PC{1,40}", seed in "\\PC{1,40}") {
            let mut session = session();
            session.seed = seed;
            session.apply(&join(&client), "now", 256);
            let text = serde_json::to_vec(&session).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Session>(&text).unwrap(), session);
        }
    }
}
