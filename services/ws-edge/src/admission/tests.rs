//! What an engine said counts for so long, and what it does not say lets nobody in.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{advance, timeout},
};

use super::{
    question::tests::{claims, inquiry},
    *,
};

const SECOND: Duration = Duration::from_secs(1);

/// An engine that says what it is told to, as soon as it is told.
#[derive(Clone)]
struct Engine {
    asked: Arc<Mutex<Vec<Value>>>,
    says: watch::Sender<Says>,
}

#[derive(Clone)]
enum Says {
    Nothing,
    This(String),
    /// It is not there.
    Gone,
}

impl Engine {
    fn saying(answer: &Value) -> Self {
        Self { asked: Arc::default(), says: watch::Sender::new(Says::This(answer.to_string())) }
    }

    fn says(&self, says: Says) {
        self.says.send_replace(says);
    }

    fn admission(&self, change: impl FnOnce(&mut AdmissionConfig)) -> Arc<Admission> {
        let mut config = AdmissionConfig::default();
        change(&mut config);
        let engine = self.clone();
        let ask = move |question: Bytes, limit| {
            lock(&engine.asked).push(serde_json::from_slice(&question).unwrap());
            let mut says = engine.says.subscribe();
            async move {
                let said = says.wait_for(|says| !matches!(says, Says::Nothing));
                match timeout(limit, said).await.map(|said| said.unwrap().clone()) {
                    Ok(Says::This(answer)) => Ok(answer.into()),
                    Ok(_) => Err(Unanswered::NoResponders),
                    Err(_) => Err(Unanswered::Timeout),
                }
            }
            .boxed()
        };
        Admission::asking(&Name::new("dice").unwrap(), &config, Box::new(ask))
    }

    fn asked(&self) -> usize {
        lock(&self.asked).len()
    }
}

fn yes() -> Value {
    json!({"allow": true})
}

fn reason(verdict: &Verdict) -> &'static str {
    verdict.as_ref().map_or_else(Refusal::reason, |_| "let in")
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_its_time_and_for_the_same_question_alone() {
    let (engine, first) = (Engine::saying(&yes()), inquiry(|_| {}));
    let admission = engine.admission(|_| {});
    for _ in 0..3 {
        assert!(admission.decide(&first, None).await.is_ok());
    }
    assert_eq!(engine.asked(), 1);
    assert!(admission.decide(&inquiry(|it| it.address = [192, 0, 2, 9].into()), None).await.is_ok());
    assert!(admission.decide(&first, Some(&claims("ann", None, None))).await.is_ok());
    assert!(admission.decide(&inquiry(|it| it.resumes = true), None).await.is_ok());
    assert_eq!(engine.asked(), 4, "another one's, or another question");
    advance(60 * SECOND).await;
    assert!(admission.decide(&first, None).await.is_ok());
    assert_eq!(engine.asked(), 5);

    engine.says(Says::This(json!({"allow": false, "code": 4404}).to_string()));
    assert!(admission.decide(&first, None).await.is_ok(), "still counts");
    advance(60 * SECOND).await;
    assert_eq!(reason(&admission.decide(&first, None).await), "no_session");
    engine.says(Says::This(yes().to_string()));
    assert_eq!(reason(&admission.decide(&first, None).await), "no_session", "a no counts, too");
    advance(5 * SECOND).await;
    assert!(admission.decide(&first, None).await.is_ok(), "but not for long");
    assert_eq!(engine.asked(), 7);
}

#[tokio::test(start_paused = true)]
async fn who_is_kept_out_stays_out_however_they_come() {
    let engine = Engine::saying(&json!({"allow": false}));
    let (admission, comes_back) = (engine.admission(|_| {}), inquiry(|it| it.resumes = true));
    for _ in 0..3 {
        for comes in [&inquiry(|_| {}), &comes_back] {
            assert_eq!(reason(&admission.decide(comes, None).await), "not_allowed");
        }
    }
    assert_eq!(engine.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_engine_and_an_operator_may_shorten_it() {
    let first = inquiry(|_| {});
    let asks_again_after = async |answer: Value, reuse: u64, wait: Duration| {
        let engine = Engine::saying(&answer);
        let admission = engine.admission(|config| {
            (config.reuse, config.reuse_refusal) = (SECOND.mul_f64(reuse as f64).into(), SECOND.into());
        });
        let _first = admission.decide(&first, None).await;
        advance(wait).await;
        let _second = admission.decide(&first, None).await;
        engine.asked() == 2
    };
    let (ms, yes_for) = (Duration::from_millis(1), |reuse: f64| json!({"allow": true, "reuse_s": reuse}));
    assert!(asks_again_after(yes_for(0.0), 60, Duration::ZERO).await);
    assert!(!asks_again_after(yes_for(2.0), 60, 2 * SECOND - ms).await);
    assert!(asks_again_after(yes_for(2.0), 60, 2 * SECOND).await);
    assert!(asks_again_after(yes_for(1e300), 60, 60 * SECOND).await, "never longer than configured");
    assert!(asks_again_after(yes(), 0, Duration::ZERO).await);
    assert!(asks_again_after(json!({"allow": false, "reuse_s": 60}), 60, SECOND).await);
    assert!(asks_again_after(json!({"allow": false, "reuse_s": 0}), 60, Duration::ZERO).await);
}

#[tokio::test(start_paused = true)]
async fn equal_questions_at_once_are_one() {
    let (engine, first) = (Engine::saying(&yes()), inquiry(|_| {}));
    engine.says(Says::Nothing);
    let admission = engine.admission(|_| {});
    let asks = || {
        let (admission, first) = (admission.clone(), first.clone());
        async move { admission.decide(&first, None).await }.boxed()
    };
    let (mut one, mut two, mut leaves) = (asks(), asks(), asks());
    assert!(futures_util::poll!(&mut leaves).is_pending());
    assert!(futures_util::poll!(&mut one).is_pending() && futures_util::poll!(&mut two).is_pending());
    drop(leaves);
    engine.says(Says::This(yes().to_string()));
    assert!(one.await.is_ok() && two.await.is_ok());
    assert_eq!(engine.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_asked_at_a_time_and_nobody_waits_for_ever() {
    let engine = Engine::saying(&yes());
    engine.says(Says::Nothing);
    let admission = engine.admission(|config| config.max_questions = 1);
    let asks = |last: u8| {
        let (admission, inquiry) = (admission.clone(), inquiry(|it| it.address = [192, 0, 2, last].into()));
        tokio::spawn(async move { admission.decide(&inquiry, None).await })
    };
    let begun = Instant::now();
    let (one, two) = (asks(1), asks(2));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    let mut reasons = [reason(&one), reason(&two)];
    reasons.sort_unstable();
    assert_eq!((reasons, begun.elapsed()), (["timeout", "too_many"], 2 * SECOND));
    assert_eq!(engine.asked(), 1);
    // Nothing of it stays: neither a place nor an answer.
    engine.says(Says::This(yes().to_string()));
    assert!(asks(1).await.unwrap().is_ok() && asks(2).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_lets_nobody_in_and_is_not_remembered() {
    let (engine, first) = (Engine::saying(&json!({"allow": "yes"})), inquiry(|_| {}));
    let admission = engine.admission(|_| {});
    assert_eq!(reason(&admission.decide(&first, None).await), "invalid");
    engine.says(Says::Gone);
    assert_eq!(reason(&admission.decide(&first, None).await), "no_responders");
    engine.says(Says::Nothing);
    assert_eq!(reason(&admission.decide(&first, None).await), "timeout");
    engine.says(Says::This(yes().to_string()));
    assert_eq!(reason(&admission.decide(&first, None).await), "let in");
    assert_eq!(engine.asked(), 4);
    // Who asks for no session and is told none would be shown nothing, for ever.
    let any = inquiry(|it| it.session = None);
    assert_eq!(reason(&admission.decide(&any, None).await), "no_session_named");
    engine.says(Says::This(json!({"allow": true, "sid": "t9"}).to_string()));
    let named = admission.decide(&inquiry(|it| (it.session, it.resumes) = (None, true)), None).await.unwrap();
    assert_eq!(named.session, SessionId::new("t9").ok());
}

#[tokio::test(start_paused = true)]
async fn who_was_let_in_comes_back_while_the_engine_is_away() {
    let engine = Engine::saying(&yes());
    let admission = engine.admission(|_| {});
    let (ann, bob) = (claims("ann", None, None), claims("bob", None, None));
    let (comes, comes_back) = (inquiry(|_| {}), inquiry(|it| it.resumes = true));
    let no = || Says::This(json!({"allow": false, "reuse_s": 0}).to_string());
    assert!(admission.decide(&comes, Some(&ann)).await.is_ok());
    engine.says(no());
    assert_eq!(reason(&admission.decide(&comes, Some(&bob)).await), "not_allowed");
    engine.says(Says::Gone);
    assert!(admission.decide(&comes_back, Some(&ann)).await.is_ok());
    for somebody in [Some(&bob), Some(&claims("ann", Some("dm"), None)), None] {
        assert_eq!(reason(&admission.decide(&comes_back, somebody).await), "no_responders", "{somebody:?}");
    }
    advance(60 * SECOND).await;
    assert_eq!(reason(&admission.decide(&comes_back, Some(&ann)).await), "no_responders", "not for ever");

    engine.says(Says::This(yes().to_string()));
    assert!(admission.decide(&comes, Some(&ann)).await.is_ok());
    engine.says(no());
    assert_eq!(
        reason(&admission.decide(&comes_back, Some(&ann)).await),
        "not_allowed",
        "the engine's word, as long as it is there"
    );
    engine.says(Says::Gone);
    assert_eq!(reason(&admission.decide(&comes_back, Some(&ann)).await), "no_responders", "and its last one");
}
