//! What is known of one Game Master, and what follows from it for a session that wants to start: pure rules.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herald_protocol::{SessionId, record::ActionKind};
use serde::{Deserialize, Serialize};

use crate::config::GmConfig;

/// One Game Master, in the bucket `ALIASES` under a key formed from its URL. Times are ms since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct GameMasterRecord {
    /// Its own id for its game, once it told us.
    #[serde(rename = "G", default, skip_serializing_if = "Option::is_none")]
    pub(crate) g: Option<String>,
    /// Who plays on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<SessionId>,
    /// Whether that game is being started or played.
    #[serde(default)]
    pub(crate) state: State,
    /// The last start or action.
    #[serde(default)]
    pub(crate) since: u64,
    /// Stream sequence of the start's `_action`: what the log says of this game stands behind it.
    #[serde(default)]
    pub(crate) after: u64,
    /// Who played before, and has not yet been told that the game is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<Previous>,
    /// Stream sequence of the `_action` of its last choose, until somebody has noted its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) choose: Option<u64>,
    /// When an earlier choose was last cut: it runs on inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cut: Option<u64>,
    /// News from it belong to a choose of a game that is over, until the next choose.
    #[serde(default)]
    pub(crate) drop_news: bool,
}

/// How far a game on a Game Master is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nobody's.
    #[default]
    Free,
    /// Claimed; the start is under way.
    Starting,
    /// It plays.
    Playing,
}

/// A game that makes way for a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    /// Its session.
    pub(crate) session: SessionId,
    /// Stream sequence of its start's `_action`.
    pub(crate) after: u64,
}

/// What became of a Game Master's last choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choose {
    /// There was none, or it ended by itself.
    Over,
    /// It runs.
    Running,
    /// Another action cut it at that time, ms since 1970.
    Cut(u64),
}

/// How a Game Master stands towards a session that wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The session plays there already.
    Own,
    /// It may be taken.
    Free,
    /// Another session's start is under way, or was when its bridge died.
    Starting,
    /// A choose runs in it, or one that was cut still does.
    Choosing,
    /// Another session plays.
    Played {
        /// Its last start or action is old enough for a look whether anybody watches.
        rested: bool,
    },
}

impl GameMasterRecord {
    /// How this Game Master stands towards `session` at `now`, as far as the record tells.
    pub(crate) fn standing(&self, session: &SessionId, now: u64, choose: Choose, rules: &GmConfig) -> Standing {
        match &self.session {
            Some(player) if player == session => Standing::Own,
            Some(_) if self.state == State::Starting => Standing::Starting,
            Some(_) if passed(self.since, now, rules.idle.get()) => Standing::Free,
            _ if choose == Choose::Running || self.runs_on(now, choose, rules) => Standing::Choosing,
            Some(_) => Standing::Played { rested: passed(self.since, now, rules.unwatched.get()) },
            None => Standing::Free,
        }
    }

    /// The record with which `session` claims the Game Master at `now`.
    pub(crate) fn claimed(&self, session: &SessionId, now: u64, choose: Choose, rules: &GmConfig) -> Self {
        // The claim itself cuts one that runs.
        let choose = if choose == Choose::Running { Choose::Cut(now) } else { choose };
        let runs_on = self.runs_on(now, choose, rules);
        let previous = match (&self.session, self.state) {
            (Some(player), State::Playing) => Some(Previous { session: player.clone(), after: self.after }),
            (_, State::Starting | State::Free) => self.previous.clone(),
            (None, State::Playing) => None,
        };
        Self {
            g: self.g.clone(),
            session: Some(session.clone()),
            state: State::Starting,
            since: now,
            after: 0,
            previous: previous.filter(|previous| previous.session != *session),
            choose: None,
            cut: if runs_on { self.last_cut(choose) } else { None },
            drop_news: runs_on,
        }
    }

    /// The record once its session plays elsewhere: nobody's, but for a choose that runs on inside.
    pub(crate) fn left(&self, now: u64, choose: Choose) -> Self {
        let choose = if choose == Choose::Running { Choose::Cut(now) } else { choose };
        let cut = self.last_cut(choose);
        Self { session: None, state: State::Free, previous: None, choose: None, cut, ..self.clone() }
    }

    /// Notes that an action of the session that plays here is about to ask the Game Master something; `choose` is what
    /// became of the choose before.
    pub(crate) fn begin(&mut self, kind: ActionKind, action: u64, now: u64, choose: Choose) {
        // A runner of the same session that still runs has lost its action to this one.
        let choose = if choose == Choose::Running && self.choose != Some(action) { Choose::Cut(now) } else { choose };
        self.cut = self.last_cut(choose);
        self.choose = None;
        if kind == ActionKind::Choose {
            self.choose = Some(action);
            self.drop_news = false;
        }
        self.since = now;
    }

    /// Notes that the stream of an action is over: `by_itself`, or cut. True if that changed anything.
    pub(crate) fn finish(&mut self, action: u64, by_itself: bool, now: u64) -> bool {
        if self.choose != Some(action) {
            return false;
        }
        self.choose = None;
        if !by_itself {
            self.cut = Some(now);
        }
        true
    }

    /// Whether a choose that was cut still runs inside.
    fn runs_on(&self, now: u64, choose: Choose, rules: &GmConfig) -> bool {
        self.last_cut(choose).is_some_and(|at| !passed(at, now, rules.cut_choose.get()))
    }

    fn last_cut(&self, choose: Choose) -> Option<u64> {
        match choose {
            Choose::Cut(at) => self.cut.max(Some(at)),
            Choose::Over | Choose::Running => self.cut,
        }
    }
}

fn passed(since: u64, now: u64, time: Duration) -> bool {
    Duration::from_millis(now.saturating_sub(since)) > time
}

/// Now, in ms since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 10_000_000;

    fn id(text: &str) -> SessionId {
        SessionId::new(text).unwrap()
    }

    fn played() -> GameMasterRecord {
        GameMasterRecord { session: Some(id("a")), state: State::Playing, since: NOW, after: 7, ..Default::default() }
    }

    fn standing(record: &GameMasterRecord, later_s: u64, choose: Choose) -> Standing {
        record.standing(&id("b"), NOW + later_s * 1000, choose, &GmConfig::default())
    }

    fn claimed(record: &GameMasterRecord, by: &str, choose: Choose) -> GameMasterRecord {
        record.claimed(&id(by), NOW, choose, &GmConfig::default())
    }

    #[test]
    fn a_game_at_rest_may_be_looked_at_and_an_idle_one_taken() {
        let record = played();
        assert_eq!(standing(&GameMasterRecord::default(), 0, Choose::Over), Standing::Free);
        assert_eq!(standing(&record, 15, Choose::Over), Standing::Played { rested: false });
        assert_eq!(standing(&record, 16, Choose::Over), Standing::Played { rested: true });
        assert_eq!(standing(&record, 1800, Choose::Over), Standing::Played { rested: true });
        assert_eq!(standing(&record, 1801, Choose::Over), Standing::Free);
        assert_eq!(record.standing(&id("a"), NOW, Choose::Running, &GmConfig::default()), Standing::Own);
        let starting = claimed(&record, "c", Choose::Over);
        assert_eq!(standing(&starting, 5000, Choose::Over), Standing::Starting, "only a lapse ends a start");
    }

    #[test]
    fn a_running_choose_and_a_cut_one_for_130_s_keep_others_away() {
        let mut record = played();
        record.begin(ActionKind::Choose, 9, NOW, Choose::Over);
        assert_eq!(standing(&record, 900, Choose::Running), Standing::Choosing);
        assert_eq!(standing(&record, 16, Choose::Over), Standing::Played { rested: true });
        assert_eq!(standing(&record, 130, Choose::Cut(NOW)), Standing::Choosing);
        assert_eq!(standing(&record, 131, Choose::Cut(NOW)), Standing::Played { rested: true });
        record.begin(ActionKind::Propose, 10, NOW, Choose::Cut(NOW));
        assert_eq!(standing(&record, 130, Choose::Over), Standing::Choosing, "remembered over later actions");
        assert_eq!(record.standing(&id("a"), NOW, Choose::Over, &GmConfig::default()), Standing::Own);
        let nobodys = GameMasterRecord { session: None, state: State::Free, ..record };
        assert_eq!(standing(&nobodys, 130, Choose::Over), Standing::Choosing, "a start that failed frees nothing");
        assert_eq!(standing(&nobodys, 131, Choose::Over), Standing::Free);
    }

    #[test]
    fn only_the_end_of_the_last_choose_is_its_end() {
        let mut record = played();
        record.begin(ActionKind::Choose, 9, NOW, Choose::Over);
        assert!(!record.finish(8, false, NOW) && record.choose == Some(9));
        let mut cut = record.clone();
        assert!(record.finish(9, true, NOW) && record.choose.is_none() && record.cut.is_none());
        assert!(cut.finish(9, false, NOW) && cut.choose.is_none() && cut.cut == Some(NOW));
        assert!(!cut.finish(9, false, NOW + 1) && cut.cut == Some(NOW), "told twice");
    }

    #[test]
    fn news_after_a_start_on_a_cut_choose_are_dropped_until_the_next_choose() {
        let mut record = claimed(&played(), "b", Choose::Running);
        assert!(record.drop_news && record.cut == Some(NOW));
        record.begin(ActionKind::Propose, 10, NOW + 6, Choose::Over);
        assert!(record.drop_news);
        record.begin(ActionKind::Choose, 11, NOW + 7, Choose::Over);
        assert!(!record.drop_news);
        let later = claimed(&played(), "b", Choose::Cut(NOW - 130_001));
        assert!(!later.drop_news && later.cut.is_none());
    }

    #[test]
    fn a_game_master_that_was_left_is_free_but_for_a_cut_choose() {
        let mut record = played();
        assert_eq!(standing(&record.left(NOW, Choose::Over), 0, Choose::Over), Standing::Free);
        record.begin(ActionKind::Choose, 9, NOW, Choose::Over);
        let left = record.left(NOW, Choose::Running);
        assert_eq!((left.session.clone(), left.choose), (None, None));
        assert_eq!(standing(&left, 130, Choose::Over), Standing::Choosing);
        assert_eq!(standing(&left, 131, Choose::Over), Standing::Free);
    }

    #[test]
    fn a_start_that_died_hands_on_who_was_not_told() {
        let first = claimed(&played(), "b", Choose::Over);
        assert_eq!(first.previous, Some(Previous { session: id("a"), after: 7 }));
        let second = claimed(&first, "c", Choose::Over);
        assert_eq!(second.previous, first.previous);
        assert_eq!(claimed(&played(), "a", Choose::Over).previous, None, "nobody is told of his own start");
    }

    #[test]
    fn the_record_has_the_documented_shape() {
        let json = serde_json::to_value(GameMasterRecord { g: Some("G".to_owned()), ..played() }).unwrap();
        let expected = serde_json::json!({"G": "G", "session": "a", "state": "playing", "since": NOW, "after": 7, "drop_news": false});
        assert_eq!(json, expected);
    }
}
