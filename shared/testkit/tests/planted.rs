//! A checker that can't fail proves nothing: bugs are planted, and found.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::time::Duration;

use herald_testkit::{Launch, service::printed_config, within};

/// What a configuration that makes no sense ends with.
const BAD_CONFIGURATION: i32 = 64;

#[tokio::test]
async fn only_the_programs_for_this_test_know_of_bugs() {
    within(Duration::from_secs(30), async {
        for (service, bug) in [("ws-edge", "prev-wrong"), ("gm-bridge", "fence-left-out")] {
            let planted = format!("{service}-planted");
            for (program, bug, fault) in [
                (service, bug, "planted_bug (flag --set planted_bug): unknown key"),
                (&planted, "prev-wrongly", "unknown variant `prev-wrongly`"),
            ] {
                let mut refused = Launch::new(program).set("planted_bug", bug).spawn();
                let status = refused.process().wait(Duration::from_secs(10)).await;
                assert_eq!(status.code(), Some(BAD_CONFIGURATION), "{program}");
                assert!(refused.log().contains(fault), "{}", refused.log());
            }
            assert!(!printed_config(service).contains("planted") && printed_config(&planted).contains("planted_bug"));
        }
    })
    .await;
}
