//! Health: named conditions, readable as one answer.
//!
//! Ready means: the service has said that it is up ([`Health::started`]), every condition holds, and no shutdown has
//! begun. Alive means only that the process answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

/// The condition that [`Health::started`] fulfils.
const STARTED: &str = "started";
/// The condition that fails once the shutdown begins.
const RUNNING: &str = "running";

/// The named conditions of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    conditions: Mutex<BTreeMap<Arc<str>, Result<(), String>>>,
    ready: watch::Sender<bool>,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether every condition holds.
    pub ready: bool,
    /// `"ok"` or the reason, by name.
    pub conditions: BTreeMap<String, String>,
}

/// One named condition, failing ("not yet known") until it is first set. Clones set the same one.
#[derive(Clone, Debug)]
pub struct Condition {
    name: Arc<str>,
    health: Health,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// Not ready: nothing has started yet.
    #[must_use]
    pub fn new() -> Self {
        let conditions =
            BTreeMap::from([(Arc::from(STARTED), Err("starting".to_owned())), (Arc::from(RUNNING), Ok(()))]);
        Self { inner: Arc::new(Inner { conditions: Mutex::new(conditions), ready: watch::Sender::new(false) }) }
    }

    /// The condition of that name; it is created, failing, at the first call.
    #[must_use]
    pub fn condition(&self, name: &str) -> Condition {
        let name: Arc<str> = name.into();
        self.lock().entry(Arc::clone(&name)).or_insert_with(|| Err("not yet known".to_owned()));
        self.publish();
        Condition { name, health: self.clone() }
    }

    /// Says that the service is up: its listeners are bound, its subscriptions made. Call it once, at the end of `start`'s
    /// opening part; without it the process never becomes ready.
    pub fn started(&self) {
        self.set(STARTED, Ok(()));
    }

    /// Whether [`Health::started`] was called.
    pub(crate) fn has_started(&self) -> bool {
        self.lock().get(STARTED).is_some_and(Result::is_ok)
    }

    /// Says that the shutdown has begun: not ready from now on.
    pub(crate) fn stopping(&self) {
        self.set(RUNNING, Err("shutting down".to_owned()));
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.lock().values().all(Result::is_ok)
    }

    /// Follows [`Health::ready`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// All conditions with their reasons.
    #[must_use]
    pub fn report(&self) -> Report {
        let conditions = self.lock();
        Report {
            ready: conditions.values().all(Result::is_ok),
            conditions: conditions
                .iter()
                .map(|(name, state)| {
                    (name.to_string(), state.as_ref().err().cloned().unwrap_or_else(|| "ok".to_owned()))
                })
                .collect(),
        }
    }

    fn set(&self, name: &str, state: Result<(), String>) {
        let changed = {
            let mut conditions = self.lock();
            match conditions.get_mut(name) {
                Some(old) if *old == state => false,
                Some(old) => {
                    // A new reason for the same failure is news for `/readyz`, but not for the log.
                    let turned = old.is_ok() != state.is_ok();
                    old.clone_from(&state);
                    turned
                }
                None => {
                    conditions.insert(name.into(), state.clone());
                    true
                }
            }
        };
        if changed {
            match &state {
                Ok(()) => tracing::info!(condition = name, "condition holds"),
                Err(reason) => tracing::warn!(condition = name, reason, "condition fails"),
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.inner.ready.send_if_modified(|ready| {
            let now = self.ready();
            std::mem::replace(ready, now) != now
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Result<(), String>>> {
        // No code that can panic runs under the lock, and a half-made change is impossible.
        self.inner.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition holds.
    pub fn ok(&self) {
        self.health.set(&self.name, Ok(()));
    }

    /// The condition fails for that reason (short, lowercase, without addresses or secrets: `/readyz` shows it).
    pub fn fail(&self, reason: impl Into<String>) {
        self.health.set(&self.name, Err(reason.into()));
    }

    /// [`Condition::ok`] or [`Condition::fail`].
    pub fn set(&self, state: Result<(), String>) {
        self.health.set(&self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_only_when_started_and_every_condition_holds() {
        let health = Health::new();
        assert!(!health.ready(), "not before it has started");
        let nats = health.condition("nats");
        health.started();
        assert!(!health.ready(), "a condition that was never set fails");
        nats.ok();
        assert!(health.ready());
        nats.fail("disconnected");
        assert!(!health.ready());
        nats.set(Ok(()));
        assert!(health.ready());
        health.stopping();
        assert!(!health.ready(), "not while shutting down");
    }

    #[test]
    fn the_report_names_each_condition_with_its_reason() {
        let health = Health::new();
        health.condition("nats").fail("connection refused");
        health.condition("streams").ok();
        let report = serde_json::to_value(health.report()).expect("json");
        assert_eq!(
            report,
            serde_json::json!({"ready": false, "conditions": {
                "nats": "connection refused", "running": "ok", "started": "starting", "streams": "ok"}})
        );
    }

    #[test]
    fn asking_for_a_condition_again_does_not_reset_it() {
        let health = Health::new();
        health.started();
        health.condition("nats").ok();
        let again = health.condition("nats");
        assert!(health.ready());
        again.fail("gone");
        assert_eq!(health.report().conditions["nats"], "gone");
    }

    #[tokio::test]
    async fn watchers_see_readiness_turn() {
        let health = Health::new();
        let mut ready = health.watch();
        assert!(!*ready.borrow_and_update());
        health.started();
        ready.changed().await.expect("sender lives");
        assert!(*ready.borrow_and_update());
        health.condition("nats").fail("gone");
        ready.changed().await.expect("sender lives");
        assert!(!*ready.borrow_and_update());
    }
}
