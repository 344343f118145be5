//! A stream that is not the one it was, a bucket that is gone: nothing of one life is told as another's.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use futures_util::future::join_all;
use herald_runtime::jetstream::{BucketSpec, ensure_bucket};
use herald_testkit::{Edge, Nats, eventually, within, ws};

use crate::{
    support::Engine,
    watch::{BOUND, KINDS, Kind, Watch},
};

const MINUTES: Duration = Duration::from_secs(120);

/// The lives of the events that came under each epoch: by the last greeting of a socket, by the id of an event stream.
fn lives(watch: &Watch) -> BTreeSet<(String, u64)> {
    match watch {
        Watch::Socket(client) => {
            let (mut epoch, mut lives) = (String::new(), BTreeSet::new());
            for frame in client.frames() {
                match frame.event() {
                    "herald.hello" => frame.data()["epoch"].as_str().unwrap().clone_into(&mut epoch),
                    // Until the next greeting its client stands in no life.
                    "herald.gap" if frame.data()["reason"] == "epoch" => epoch.clear(),
                    name if name.starts_with("herald.") => {}
                    _ => drop(lives.insert((epoch.clone(), frame.data()["life"].as_u64().unwrap()))),
                }
            }
            lives
        }
        Watch::Stream(client) => {
            let events = client.events().into_iter().filter(|event| !event.event.starts_with("herald."));
            let epoch = |id: Option<String>| id.unwrap().split_once('-').unwrap().0.to_owned();
            events.map(|event| (epoch(event.id.clone()), event.json()["data"]["life"].as_u64().unwrap())).collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_stream_made_anew_are_never_shown_under_its_former_epoch() {
    const LIVES: u64 = 4;
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        // Hardly anything in memory: what a client misses is read back, in the moment nobody knows of the new life.
        let edge = Edge::new(&nats).set("ring.frames", 2).set("ring.linger", "0s").start().await;
        let js = engine.nats.jetstream();
        let mut watches: Vec<(Kind, Watch)> = Vec::new();
        for kind in [Kind::V1, Kind::Sse, Kind::V1, Kind::Sse] {
            watches.push((kind, Watch::open(edge.address(), kind, Some("0")).await.unwrap()));
        }
        let (mut epochs, mut last) = (Vec::new(), 0);
        for life in 1..=LIVES {
            for number in 0..30 {
                last = engine.publish("gm.S.phase", format!("{{\"life\":{life},\"n\":{number}}}")).await;
            }
            let v1 = ws::Client::connect(&edge.ws("/ws/S?after=0"), ws::V1).await;
            v1.wait_for("this life", BOUND, |frame| frame.data()["life"] == life && frame.seq() == Some(last)).await;
            for (_, watch) in &watches {
                wait_life(watch, life, last).await;
            }
            let epoch = v1.cursor().unwrap().split_once('-').unwrap().0.to_owned();
            assert!(!epochs.contains(&epoch), "each life has a name of its own");
            epochs.push(epoch.clone());
            if life == LIVES {
                break;
            }
            // Deleted and created again within the same second, its metadata and so its epoch included, and filled beyond
            // the place of everybody; then they come back with cursors of the former life.
            let config = js.get_stream("EVENTS").await.unwrap().get_info().await.unwrap().config;
            js.delete_stream("EVENTS").await.unwrap();
            js.create_stream(config).await.unwrap();
            for number in 0..40 {
                engine.publish("gm.S.phase", format!("{{\"life\":{},\"n\":{number}}}", life + 1)).await;
            }
            for kind in [Kind::V1, Kind::Sse, Kind::V1] {
                let cursor = format!("{epoch}-{}", last - 20);
                watches.push((kind, Watch::open(edge.address(), kind, Some(&cursor)).await.unwrap()));
            }
            let (_, plain) = (0, Watch::open(edge.address(), Kind::Plain, Some(&format!("{epoch}-3"))).await.unwrap());
            plain.wait_gap().await;
            let Watch::Socket(plain) = plain else { unreachable!() };
            assert!(plain.events().iter().all(|frame| frame.data()["life"] == life), "{plain:?}");
        }
        for (kind, watch) in &watches {
            for (epoch, life) in lives(watch) {
                assert_eq!(epochs[life as usize - 1], epoch, "{kind:?}: an event of life {life}");
            }
            assert!(watch.gaps().len() < LIVES as usize);
        }
    })
    .await;
}

async fn wait_life(watch: &Watch, life: u64, last: u64) {
    match watch {
        Watch::Socket(client) => {
            let is = |frame: &ws::Frame| frame.data()["life"] == life && frame.seq() == Some(last);
            client.wait_for("this life", BOUND, is).await;
        }
        Watch::Stream(client) => {
            client
                .wait_for("this life", BOUND, |event| {
                    let json = event.json();
                    json["data"]["life"] == life && json["seq"] == last
                })
                .await;
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_rolled_back_to_a_backup_is_another_life_for_everybody() {
    within(MINUTES, async {
        let mut nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let publish = async |life: u64, count: u64| {
            let mut last = 0;
            for number in 0..count {
                let text = format!("{{\"life\":{life},\"n\":{number}}}");
                let stored = eventually("an event is stored", BOUND, async || {
                    let sent = engine.nats.jetstream().publish("gm.S.phase", text.clone().into()).await;
                    let sent = sent.map_err(|error| error.to_string())?;
                    sent.await.map(|ack| ack.sequence).map_err(|error| error.to_string())
                });
                last = stored.await;
            }
            last
        };
        let common = publish(1, 10).await;
        nats.stop().await;
        let folder = tempfile::tempdir().unwrap();
        copy(&nats.store(), &folder.path().join("store"));
        nats.resume().await;
        let old = publish(1, 20).await;
        let watches = join_all([Kind::V1, Kind::Sse].map(|kind| Watch::open(edge.address(), kind, Some("0")))).await;
        let plain = Watch::open(edge.address(), Kind::Plain, Some("0")).await.unwrap();
        for watch in watches.iter().flatten().chain([&plain]) {
            watch.wait_seq(old).await;
        }
        let Some(Watch::Socket(v1)) = &watches[0] else { unreachable!() };
        let former = v1.cursor().unwrap();
        nats.kill().await;
        fs::remove_dir_all(nats.store()).unwrap();
        copy(&folder.path().join("store"), &nats.store());
        nats.resume().await;
        // The same sequences a second time, and more than before.
        let new = publish(2, 40).await;
        assert_eq!(new, common + 40);
        plain.wait_gap().await;
        let told = plain.told().await.cursor.unwrap();
        for watch in watches.iter().flatten() {
            wait_life(watch, 2, new).await;
            assert_eq!(watch.gaps().len(), 1);
            let (one, two): (BTreeSet<_>, BTreeSet<_>) = lives(watch).into_iter().partition(|(_, life)| *life == 1);
            let epoch = two.first().unwrap().0.clone();
            // What both have in common may be shown again, under the new name; never the other way round.
            assert!(two.iter().all(|(of, _)| *of == epoch) && !former.starts_with(&epoch), "{two:?} {former}");
            assert!(told.starts_with(&epoch) && one.iter().any(|(of, _)| former.starts_with(of)), "{told} {one:?}");
        }
        for kind in KINDS {
            let watch = Watch::open(edge.address(), kind, Some(&former)).await.unwrap();
            watch.wait_gap().await;
        }
        let back = Watch::open(edge.address(), Kind::Plain, Some(&told)).await.unwrap();
        back.wait_seq(new).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_stream_costs_who_is_up_to_date_nothing_and_the_others_are_told() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let edge = Edge::new(&nats).start().await;
        let other = Edge::new(&nats).start().await;
        let mut seqs = Vec::new();
        for number in 0..10 {
            seqs.push(engine.publish("gm.S.phase", number.to_string()).await);
        }
        let live = join_all(KINDS.map(|kind| Watch::open(edge.address(), kind, Some("0")))).await;
        for watch in live.iter().flatten() {
            watch.wait_seq(seqs[9]).await;
        }
        let Some(Watch::Socket(v1)) = &live[1] else { unreachable!() };
        let epoch = v1.cursor().unwrap().split_once('-').unwrap().0.to_owned();
        engine.nats.jetstream().get_stream("EVENTS").await.unwrap().purge().await.unwrap();
        let next = engine.publish("gm.S.phase", "\"next\"").await;
        for watch in live.iter().flatten() {
            watch.wait_seq(next).await;
            assert_eq!(watch.gaps(), [], "it has everything");
        }
        for kind in KINDS {
            // Here the ring has it, there nobody.
            let cursor = format!("{epoch}-{}", seqs[4]);
            let here = Watch::open(edge.address(), kind, Some(&cursor)).await.unwrap();
            here.wait_seq(next).await;
            assert_eq!((here.seqs(), here.gaps()), ([&seqs[5..], &[next]].concat(), vec![]));
            let there = Watch::open(other.address(), kind, Some(&cursor)).await.unwrap();
            let gap = there.wait_gap().await;
            if kind == Kind::Plain {
                assert_eq!(there.told().await.cursor, Some(format!("{epoch}-{}", seqs[9])));
            } else {
                assert_eq!(gap, Some((seqs[4] + 1, seqs[9])));
                there.wait_seq(next).await;
                assert_eq!(there.seqs(), [next]);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_of_aliases_is_said_and_costs_the_other_routes_nothing() {
    within(MINUTES, async {
        let nats = Nats::start().await;
        let engine = Engine::start(&nats).await;
        let mut edge = Edge::new(&nats).start().await;
        engine.alias("G", "one", 0).await;
        let gm = ws::Client::connect(&edge.ws("/gm/ws/G"), ws::PLAIN).await;
        let player = ws::Client::connect(&edge.ws("/ws/one"), ws::V1).await;
        let round = |number: u64| move |frame: &ws::Frame| frame.data()["round"] == number;
        engine.publish("arena.one.round.start", "{\"round\":1}").await;
        gm.wait_for("followed", BOUND, round(1)).await;
        engine.nats.jetstream().delete_stream("KV_ALIASES").await.unwrap();
        let said = |_: u16, body: &serde_json::Value| body.to_string().contains("bucket ALIASES");
        edge.wait_readyz("says what is missing", BOUND, |status, body| status == 503 && said(status, body)).await;
        // What was known stays true until something better is known.
        engine.publish("arena.one.round.start", "{\"round\":2}").await;
        gm.wait_for("still followed", BOUND, round(2)).await;
        player.wait_for("nothing to do with it", BOUND, round(2)).await;
        let waiting = ws::Client::connect(&edge.ws("/gm/ws/H"), ws::PLAIN).await;
        ensure_bucket(&engine.nats, &BucketSpec::new("ALIASES")).await.unwrap();
        engine.alias("G", "two", 0).await;
        engine.alias("H", "two", 0).await;
        edge.wait_ready(BOUND).await;
        engine.publish("arena.two.round.start", "{\"round\":3}").await;
        for client in [&gm, &waiting] {
            client.wait_for("followed again", BOUND, round(3)).await;
            assert_eq!(client.ended(), None);
        }
        player.check_order();
    })
    .await;
}
