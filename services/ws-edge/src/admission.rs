//! Whether somebody may come in, where a route leaves that to an engine (`admit = "<service>"`).
//!
//! The engine is asked by a request on `admit.<service>`, before a socket or an event stream of that route is opened, and says
//! yes or no, and with a yes which session is shown to whom ([`Welcome`]). [`Gate`] has what a route asks, [`Admission`] asks one
//! engine and remembers what it said, [`Refusal`] says no to clients.
//!
//! Question and answer are JSON objects:
//!
//! | asked | |
//! |---|---|
//! | `door`, `listener`, `transport` | the route's `door`, the listener's name, `socket` or `sse` |
//! | `sid` | the session that is asked for; absent where none is |
//! | `claims` | of a verified token: `user`, `role`, `sessions` (a list, or `"*"`) as far as it says them, and those of `jwt.admission_claims`. Absent where nobody is asked for a token. The token itself is never sent |
//! | `origin`, `ip` | the page's origin, if it is a page; the client's address, behind trusted proxies |
//! | `resume` | whether it says where to go on (`after=`, `Last-Event-ID`) |
//! | further ones | those parameters of the query that the route's `admit_query` names |
//!
//! | answered | |
//! |---|---|
//! | `allow` | `true` or `false`; all else may be left out |
//! | `sid` | the session that is shown, in place of the one that was asked for |
//! | `user`, `role`, `display_name` | who it is, in place of what the token says |
//! | `code`, `reason` | of a no: 4401, 4403 (also where nothing is said), 4404 or another one from 4000 to 4999; at most 123 bytes |
//! | `reuse_s` | for how many seconds the answer counts for whoever asks the same; 0: this once. Never longer than `admission.reuse` |
//!
//! Invariants: no answer in time, none at all and one that breaks these rules are a no (1013, 503), which is remembered by nobody;
//! an answer is given again only for a question in which everything is the same. In one case one thing may differ: as long as an
//! engine does not answer, whoever it let in a moment ago may also come back to the place they had.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use herald_protocol::{Name, SessionId, subject};
use herald_runtime::{
    metrics::measured,
    questions::{Questions, Unanswered},
};
use metrics::{counter, gauge, histogram};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::{config::AdmissionConfig, history::Flights, identity::Claims};

mod answer;
mod gate;
mod kept;
mod question;
mod refusal;
#[cfg(test)]
mod tests;

pub(crate) use gate::parameter;
pub use gate::{BadParameter, Gate};
pub use question::Inquiry;
pub(crate) use question::{CLAIMS, FIELDS};
pub use refusal::{Refusal, Silence};

use answer::Said;
use kept::Kept;
use question::{Key, Question};

/// How often the log says at most that an engine gives no answers: whoever knocks must not be able to fill it.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// What was decided about somebody.
pub type Verdict = Result<Arc<Welcome>, Refusal>;

/// Somebody may come in. What is `None` the engine left as it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The session that is shown.
    pub session: Option<SessionId>,
    /// Who it is.
    pub user: Option<Arc<str>>,
    /// What they are.
    pub role: Option<Arc<str>>,
    /// What others call them.
    pub display_name: Option<Arc<str>>,
}

/// Sends a question, waits so long at most for what comes back.
type Ask = Box<dyn Fn(Bytes, Duration) -> BoxFuture<'static, Result<Bytes, Unanswered>> + Send + Sync>;

/// One engine that is asked.
pub struct Admission {
    service: Name,
    ask: Ask,
    config: AdmissionConfig,
    slots: Semaphore,
    kept: Mutex<Kept>,
    under_way: Flights<Key, Verdict>,
    complained: Mutex<Option<Instant>>,
}

impl Admission {
    /// Asks `service`.
    #[must_use]
    pub fn new(service: &Name, questions: &Questions, config: &AdmissionConfig) -> Arc<Self> {
        let (questions, subject) = (questions.clone(), subject::admission(service));
        let ask = move |question, limit| {
            let (questions, subject) = (questions.clone(), subject.clone());
            async move { questions.ask(subject, question, limit).await }.boxed()
        };
        Self::asking(service, config, Box::new(ask))
    }

    fn asking(service: &Name, config: &AdmissionConfig, ask: Ask) -> Arc<Self> {
        let admission = Arc::new(Self {
            service: service.clone(),
            ask,
            slots: Semaphore::new(config.max_questions),
            kept: Mutex::new(Kept::new(config.max_kept)),
            under_way: Flights::new("herald_admission_shared_total"),
            complained: Mutex::new(None),
            config: config.clone(),
        });
        let (asking, most) =
            (gauge!("herald_admission_questions_count", "service" => admission.label()), config.max_questions);
        measured(asking, &admission, move |it| most.saturating_sub(it.slots.available_permits()));
        for name in ["herald_admission_allowed_total", "herald_admission_asked_total", "herald_admission_reused_total"]
        {
            counter!(name, "service" => admission.label()).increment(0);
        }
        for reason in Refusal::REASONS {
            counter!("herald_admission_refused_total", "service" => admission.label(), "reason" => reason).increment(0);
        }
        let _shown = histogram!("herald_admission_seconds", "service" => admission.label());
        admission
    }

    /// Decides whether somebody with those claims may come in: by an answer that still counts, else by asking. Safe to cancel.
    ///
    /// # Errors
    /// Where they may not, or nobody says so in time.
    pub async fn decide(self: &Arc<Self>, inquiry: &Inquiry, claims: Option<&Claims>) -> Verdict {
        let verdict = self.verdict(inquiry.question(claims)).await;
        let names_none = |welcome: &Arc<Welcome>| welcome.session.is_none() && inquiry.session.is_none();
        let verdict = if verdict.as_ref().is_ok_and(names_none) { self.silent(Silence::NoSession) } else { verdict };
        match &verdict {
            Ok(_) => counter!("herald_admission_allowed_total", "service" => self.label()).increment(1),
            Err(refusal) => {
                let reason = refusal.reason();
                tracing::debug!(service = %self.service, reason, "not let in");
                counter!("herald_admission_refused_total", "service" => self.label(), "reason" => reason).increment(1);
            }
        }
        verdict
    }

    async fn verdict(self: &Arc<Self>, question: Question) -> Verdict {
        let key = question.key.clone();
        if let Some(known) = self.remembered(&key) {
            return known;
        }
        let verdict = self.under_way.join(key.clone(), || self.clone().put(question).boxed()).await;
        if !matches!(verdict, Err(Refusal::Unanswered(_))) {
            return verdict;
        }
        // Who was let in a moment ago and comes back is not to stay outside because the engine is being restarted.
        self.remembered(&key.otherwise()).filter(Result::is_ok).unwrap_or(verdict)
    }

    /// Asks, when it is its turn.
    async fn put(self: Arc<Self>, question: Question) -> Verdict {
        let (came, limit) = (Instant::now(), self.config.timeout.get());
        // What waits for longer would have no time left for its answer, and cost the engine all the same.
        let Ok(Ok(_turn)) = timeout_at(came + limit / 2, self.slots.acquire()).await else {
            return self.silent(Silence::TooMany);
        };
        let begun = Instant::now();
        counter!("herald_admission_asked_total", "service" => self.label()).increment(1);
        let answer = (self.ask)(question.payload, limit.saturating_sub(begun - came)).await;
        let now = Instant::now();
        histogram!("herald_admission_seconds", "service" => self.label()).record((now - begun).as_secs_f64());
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.silent(Silence::from(error)),
        };
        let Said { verdict, reuse } = match answer::read(&answer) {
            Ok(said) => said,
            Err(invalid) => {
                if self.may_complain() {
                    let error = &invalid as &dyn std::error::Error;
                    tracing::warn!(service = %self.service, error, "an answer of the engine that is none: nobody is let in");
                }
                return Err(Refusal::Unanswered(Silence::Invalid));
            }
        };
        let most = if verdict.is_ok() { self.config.reuse.get() } else { self.config.reuse_refusal.get() };
        let until = now + reuse.map_or(most, |reuse| reuse.min(most));
        let mut kept = self.kept();
        if verdict.is_err() {
            // The last word, also of whoever was let in before and comes back.
            kept.withdraw(&question.key.otherwise());
        }
        kept.put(question.key, &verdict, until, now);
        drop(kept);
        verdict
    }

    /// An answer that still counts.
    fn remembered(&self, key: &Key) -> Option<Verdict> {
        let known = self.kept().get(key, Instant::now())?;
        counter!("herald_admission_reused_total", "service" => self.label()).increment(1);
        Some(known)
    }

    fn silent(&self, silence: Silence) -> Verdict {
        if self.may_complain() {
            tracing::warn!(service = %self.service, reason = silence.reason(), "the engine does not say who may come in");
        }
        Err(Refusal::Unanswered(silence))
    }

    fn may_complain(&self) -> bool {
        let (mut last, now) = (lock(&self.complained), Instant::now());
        let may = last.is_none_or(|last| now - last >= COMPLAINTS);
        *last = if may { Some(now) } else { *last };
        may
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    fn label(&self) -> String {
        self.service.to_string()
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("service", &self.service).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
