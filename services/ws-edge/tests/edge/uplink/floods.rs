//! Clients that send too much by one measure while they rest by another, and messages that never end.

use std::time::{Duration, Instant};

use herald_testkit::{Nats, eventually, http::Raw, within, ws};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use super::{BOUND, Ear, MINUTE, door, join, token};
use crate::{
    floods::{close_code, frame},
    limits::{ONE, ask, status, upgrade},
    support::Engine,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_from_one_limit_to_the_other_and_never_rests_is_closed() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let slow = "uplink = { messages = 10, burst = 10, patience = \"4s\" }";
        let edge = door(&nats, &[("/ws/{sid}", slow)])
            .set("limits.inbound_frames", 100)
            .set("limits.inbound_patience", "4s")
            .start()
            .await;
        let (raw, head) = ask(&edge, ONE, &upgrade(&format!("/ws/s1?token={}", token("ann", "")))).await;
        assert_eq!(status(&head), 101, "{head}");
        let (mut reader, mut writer) = raw.into_inner().into_split();
        let begun = Instant::now();
        // Each is 1.25 to 1.5 s more than may be read at once, and what is owed for it outlasts what the other one owes.
        let (pongs, texts) = (frame(0x8a, b"").repeat(225), frame(0x81, b"x").repeat(25));
        let writing = tokio::spawn(async move {
            let mut turns = interval(Duration::from_millis(1400));
            turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                for frames in [&pongs, &texts] {
                    turns.tick().await;
                    if writer.write_all(frames).await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut read = Vec::new();
        let _ended = timeout(BOUND, reader.read_to_end(&mut read)).await.expect("it is closed some time").unwrap();
        writing.abort();
        assert_eq!(close_code(&read), 1008);
        assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    })
    .await;
}

/// A socket on which a message of 1 MiB begins, and so much of it comes.
async fn begins(edge: &herald_testkit::Service, bytes: usize) -> Raw {
    let (mut raw, head) = ask(edge, ONE, &upgrade(&format!("/ws/s1?token={}", token("bob", "")))).await;
    assert_eq!(status(&head), 101, "{head}");
    let mut begun = vec![0x82, 0xff];
    begun.extend(1_048_576_u64.to_be_bytes());
    begun.extend([0; 4]);
    begun.extend(vec![7; bytes]);
    raw.write(begun).await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_have_arrived_in_part_take_so_much_together_and_no_more() {
    within(MINUTE, async {
        let nats = Nats::start().await;
        let _engine = Engine::start(&nats).await;
        let mut ear = Ear::on(&nats, "in.gm.*.text").await;
        let edge = door(&nats, &[("/ws/{sid}", "uplink = { max_message = \"1MiB\" }")])
            .set("uplink.unfinished", "2MiB")
            .set("limits.inbound_bytes", "0B")
            .start()
            .await;
        let taken = async || edge.metric("herald_uplink_unfinished_bytes", &[]).await as usize;
        // Each takes about 1 MiB by now, as its place grows by doubling.
        let mut held = Vec::new();
        for number in 1..3_usize {
            held.push(begins(&edge, 600 << 10).await);
            eventually("it is counted", BOUND, async || {
                let taken = taken().await;
                if (number * (900 << 10)..=number << 20).contains(&taken) { Ok(()) } else { Err(taken) }
            })
            .await;
        }
        let mut read = Vec::new();
        timeout(BOUND, begins(&edge, 600 << 10).await.into_inner().read_to_end(&mut read)).await.unwrap().unwrap();
        assert_eq!(close_code(&read), 1013);
        assert!(edge.metric("herald_uplink_refused_total", &["kind=\"binary\"", "reason=\"unfinished\""]).await >= 1.0);
        // Who sends little is in nobody's way.
        let ann = join(&edge.ws("/ws/s1"), "ann", "", ws::V1).await;
        ann.send_text("x".repeat(4000)).await;
        assert_eq!(ear.text().await.1.len(), 4000);
        // Whose message is whole, and who is gone, takes nothing.
        held.pop().unwrap().write(vec![7; (1 << 20) - (600 << 10)]).await;
        held.clear();
        eventually("there is room again", BOUND, async || {
            let taken = taken().await;
            if taken == 0 { Ok(()) } else { Err(taken) }
        })
        .await;
        ann.send(Message::text("x".repeat(1 << 20))).await;
        assert_eq!(ear.text().await.1.len(), 1 << 20);
    })
    .await;
}
