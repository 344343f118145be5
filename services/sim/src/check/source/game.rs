//! The Game Master's path: the story that the log tells of a session's actions.

use std::collections::{BTreeMap, BTreeSet};

use herald_protocol::record::ActionKind;

use crate::check::{
    findings::{Class, Findings},
    played::Played,
    truth::{Call, GameEntry, Life, SessionLog, Step, Why},
};

const WHO: &str = "Game Master's path";
/// The status of a command that was taken.
const ACCEPTED: u16 = 202;

/// What became of a session's commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GameJudgement {
    /// Events of the Game Masters in the log.
    pub stored: u64,
    /// Actions in the log.
    pub actions: u64,
    /// Calls to Game Masters of which the log has something.
    pub calls: u64,
    /// Calls that came to their end.
    pub whole: u64,
    /// Actions that ended because their bridge was gone.
    pub bridge_lost: u64,
    /// What is wrong.
    pub found: Findings,
}

/// Judges the Game Master's path of a session that is quiet: no action is left running.
#[must_use]
pub fn game(log: &SessionLog, played: &Played) -> GameJudgement {
    let mut judgement = GameJudgement::default();
    let last = log.lives.len() - 1;
    let mut earlier = BTreeSet::new();
    for (number, life) in log.lives.iter().enumerate() {
        let (actions, calls) = (Vec::new(), BTreeMap::new());
        let mut story = Story { log, earlier: &earlier, life: number, judgement: &mut judgement, actions, calls };
        story.tell(life);
        story.end(number == last);
        earlier.extend(life.game.iter().filter_map(|entry| entry.call).map(|call| call.id));
    }
    // In a stream that began anew, actions are gone with it.
    if log.lives.len() == 1 {
        commands(log, played, &mut judgement);
    }
    judgement
}

/// Whether the log has as many actions as there were commands.
fn commands(log: &SessionLog, played: &Played, judgement: &mut GameJudgement) {
    for wanted in [ActionKind::Propose, ActionKind::Choose] {
        let asked = played.asked.iter().filter(|asked| asked.kind == wanted);
        let accepted = asked.clone().filter(|asked| asked.status == Some(ACCEPTED)).count();
        let asked = asked.count();
        let of_kind = |entry: &&GameEntry| matches!(entry.step, Step::Action { kind, .. } if kind == wanted);
        let actions: Vec<u64> = log.life().game.iter().filter(of_kind).map(|entry| entry.seq).collect();
        let at = actions.last().copied().unwrap_or(0);
        let kind = wanted.as_str();
        if actions.len() < accepted {
            let what = || format!("{accepted} accepted commands of kind {kind}, {} actions", actions.len());
            judgement.found.add(Class::Lost, &log.session, WHO, at, what);
        }
        if actions.len() > asked {
            let what = || format!("{asked} commands of kind {kind}, {} actions", actions.len());
            judgement.found.add(Class::Doubled, &log.session, WHO, at, what);
        }
    }
}

/// An action, as far as the story has come.
struct Action {
    n: u64,
    seq: u64,
    kind: ActionKind,
    /// Its own events so far, the word about the action before not among them.
    said: bool,
    ended: bool,
    /// It ended with an error, or by another action's word.
    failed: bool,
    call: Option<u32>,
}

impl Action {
    /// Whether it does nothing but end others.
    fn ends_only(&self) -> bool {
        matches!(self.kind, ActionKind::Cancel | ActionKind::Lost)
    }
}

/// A call, as far as the story has come.
struct Told {
    /// Place of its action.
    action: usize,
    of: u32,
    next: u32,
    missing: BTreeSet<u32>,
}

struct Story<'a> {
    log: &'a SessionLog,
    life: usize,
    /// Calls that began in an earlier life of the stream: what they said there is not missing here.
    earlier: &'a BTreeSet<u32>,
    judgement: &'a mut GameJudgement,
    actions: Vec<Action>,
    calls: BTreeMap<u32, Told>,
}

impl Story<'_> {
    fn tell(&mut self, life: &Life) {
        for entry in &life.game {
            let seq = entry.seq;
            if let Step::Action { n, kind } = entry.step {
                self.open(n, kind, seq);
                continue;
            }
            if self.actions.is_empty() {
                // Another life may begin in the middle of an action.
                if self.life == 0 {
                    self.wrong(Class::Foreign, seq, || "an event outside of any action".into());
                }
                continue;
            }
            self.judgement.stored += u64::from(entry.call.is_some());
            match entry.step {
                Step::Error { ends: Some(ends), why } => self.ending(seq, ends, why),
                step => self.own(seq, step, entry.call),
            }
        }
    }

    fn open(&mut self, n: u64, kind: ActionKind, seq: u64) {
        self.judgement.actions += 1;
        if let Some(before) = self.actions.last().map(|action| action.n)
            && n <= before
        {
            self.wrong(Class::Reordered, seq, || format!("action {n} behind action {before}"));
        }
        self.actions.push(Action { n, seq, kind, said: false, ended: false, failed: false, call: None });
    }

    /// An error that a bridge formed: the end of an action before, as one of the first words of this one, or of this one.
    fn ending(&mut self, seq: u64, ends: u64, why: Why) {
        let last = self.actions.len() - 1;
        let (n, said, ended) = {
            let action = &self.actions[last];
            (action.n, action.said, action.ended)
        };
        self.judgement.bridge_lost += u64::from(why == Why::Lost);
        let first_word = !said && !ended;
        // Who has nothing else to do ends itself and the one before with one word.
        let ends_only = self.actions[last].ends_only();
        if ends == n {
            if ended {
                self.wrong(Class::Doubled, seq, || format!("action {n} ended twice"));
            } else if ends_only && first_word && !self.end_before(last) && why != Why::TakenOver {
                self.wrong(Class::Doubled, seq, || format!("action {n} ended one that had ended already"));
            }
            self.before_it(last, seq);
            let action = &mut self.actions[last];
            (action.said, action.ended, action.failed) = (true, true, true);
        } else if let Some(place) = self.actions[..last].iter().rposition(|action| first_word && action.n == ends) {
            let own = &mut self.actions[place];
            let again = std::mem::replace(&mut own.ended, true);
            own.failed = true;
            // What was open before that one ended with it.
            if !self.end_before(place) && again {
                self.wrong(Class::Doubled, seq, || format!("action {ends} ended twice"));
            }
        } else {
            self.wrong(Class::Reordered, seq, || format!("the end of action {ends} within action {n}"));
        }
    }

    /// Marks every action as ended that was open before that one. False where there was none.
    fn end_before(&mut self, last: usize) -> bool {
        let mut some = false;
        for action in self.actions[..last].iter_mut().rev().take_while(|action| !action.ended) {
            (action.ended, action.failed, some) = (true, true, true);
        }
        some
    }

    /// Before an action speaks for itself, those before must have ended. One that was only to end others and died before it
    /// spoke has nothing to be told.
    fn before_it(&mut self, last: usize, seq: u64) {
        let mut open = self.actions[..last].iter().rev().take_while(|action| !action.ended);
        let Some(n) = open.find(|action| !action.ends_only()).map(|action| action.n) else { return };
        self.wrong(Class::Lost, seq, || format!("action {n} was never told to have ended"));
        self.end_before(last);
    }

    fn own(&mut self, seq: u64, step: Step, call: Option<Call>) {
        let last = self.actions.len() - 1;
        self.before_it(last, seq);
        let n = self.actions[last].n;
        if self.actions[last].ended {
            let class = if step == Step::Done { Class::Doubled } else { Class::Reordered };
            self.wrong(class, seq, || format!("action {n} goes on behind its end"));
        }
        if let Some(call) = call {
            self.call(seq, call, last);
        }
        let action = &mut self.actions[last];
        action.said = true;
        action.ended |= !matches!(step, Step::Word);
        action.failed |= matches!(step, Step::Error { .. });
    }

    fn call(&mut self, seq: u64, call: Call, last: usize) {
        let log = self.log;
        let name = log.calls.get(call.id as usize).map_or("?", |name| &*name.call);
        let n = self.actions[last].n;
        if !call.sound || call.k >= call.of {
            self.wrong(Class::Foreign, seq, || format!("event {} of call {name} is not what was said", call.k));
        }
        let Some(told) = self.calls.get_mut(&call.id) else {
            let (of_action, kind) = (self.actions[last].call, self.actions[last].kind);
            if of_action.is_some() {
                self.wrong(Class::Doubled, seq, || format!("call {name} is the second one of action {n}"));
            } else if !matches!(kind, ActionKind::Propose | ActionKind::Choose) {
                self.wrong(Class::Reordered, seq, || format!("call {name} within action {n}, which makes none"));
            }
            self.actions[last].call.get_or_insert(call.id);
            let first = if self.earlier.contains(&call.id) { call.k } else { 0 };
            let told = Told { action: last, of: call.of, next: call.k + 1, missing: (first..call.k).collect() };
            self.calls.insert(call.id, told);
            return;
        };
        let (action, of) = (told.action, told.of);
        let doubled = call.k < told.next && !told.missing.remove(&call.k);
        let late = call.k + 1 < told.next && !doubled;
        told.missing.extend(told.next..call.k);
        told.next = told.next.max(call.k + 1);
        if action != last {
            let of_action = self.actions[action].n;
            self.wrong(Class::Reordered, seq, || {
                format!("event {} of action {of_action} (call {name}) behind the beginning of action {n}", call.k)
            });
        }
        if of != call.of {
            self.wrong(Class::Foreign, seq, || format!("call {name} has {of} events, and now {}", call.of));
        }
        if doubled {
            self.wrong(Class::Doubled, seq, || format!("event {} of call {name} is stored twice", call.k));
        } else if late {
            self.wrong(Class::Reordered, seq, || format!("event {} of call {name} behind later ones", call.k));
        }
    }

    /// What is missing at the end. In the stream's present life nothing may be left open.
    fn end(mut self, present: bool) {
        let last = self.actions.len().saturating_sub(1);
        let owed = |(place, action): &(usize, &Action)| !action.ended && (*place == last || !action.ends_only());
        let open = self.actions.iter().enumerate().filter(owed);
        let open: Vec<(u64, u64)> = open.map(|(_, action)| (action.n, action.seq)).collect();
        // An ending is owed once for all that are open together.
        if let Some((n, seq)) = open.first().copied().filter(|_| present) {
            self.wrong(Class::Lost, seq, || format!("action {n} has not ended"));
        }
        for (id, told) in std::mem::take(&mut self.calls) {
            let (seq, failed, ended) = {
                let action = &self.actions[told.action];
                (action.seq, action.failed, action.ended)
            };
            let log = self.log;
            let name = log.calls.get(id as usize).map_or("?", |name| &*name.call);
            self.judgement.calls += u64::from(!self.earlier.contains(&id));
            for k in &told.missing {
                self.wrong(Class::Lost, seq, || format!("event {k} of call {name} is not in the log"));
            }
            if told.next >= told.of {
                self.judgement.whole += u64::from(told.missing.is_empty());
            } else if ended && !failed {
                for k in told.next..told.of {
                    self.wrong(Class::Lost, seq, || {
                        format!("event {k} of {} of call {name} is not in the log", told.of)
                    });
                }
            }
        }
    }

    fn wrong(&mut self, class: Class, seq: u64, what: impl FnOnce() -> String) {
        self.judgement.found.add(class, &self.log.session, WHO, seq, what);
    }
}

#[cfg(test)]
mod tests;
