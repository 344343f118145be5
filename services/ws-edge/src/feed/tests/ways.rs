//! Single ways of a cursor, each with what it must lead to.

use super::*;

/// Steps until there is nothing more to do; sequence and `prev` of the events that were sent.
fn sent(feed: &mut Feed, stream: &Stream) -> Vec<(u64, Option<u64>)> {
    let mut events = Vec::new();
    for token in 1..1000 {
        match feed.step(token) {
            Step::Listen | Step::Idle | Step::Rest => return events,
            Step::Ask(question) => feed.answer(Ok(stream.answer(&question, 2))),
            Step::Close(close) => panic!("closed: {close:?}"),
            Step::Send(outs) => {
                for out in outs {
                    let text = &out.bytes[if out.bytes[1] < 126 { 2 } else { 4 }..];
                    let frame: serde_json::Value = serde_json::from_slice(text).unwrap();
                    events.extend(frame["seq"].as_u64().map(|seq| (seq, frame["prev"].as_u64())));
                }
            }
        }
    }
    panic!("it never comes to rest");
}

fn follower(world: &World, encoding: Encoding) -> (Arc<Socket>, Feed) {
    let socket = Arc::new(Socket::default());
    let weak: Weak<Socket> = Arc::downgrade(&socket);
    let target = Target::Alias(tokio::sync::watch::Sender::new(None).subscribe());
    let view = VIEWS.intern(view(encoding));
    (socket, Feed::new(world.sessions.clone(), view, &target, Start::Live, None, limits(u64::MAX), weak))
}

fn target(after: u64) -> Option<AliasTarget> {
    Some(AliasTarget { session: SESSION.parse().unwrap(), after })
}

#[test]
fn who_follows_an_alias_moves_exactly_there() {
    let mut world = World::new(RingLimits { frames: 2, bytes: 1 << 20 });
    let publish = |world: &mut World, count: usize| {
        for _ in 0..count {
            world.stream.publish("gm.s.state");
            world.hear(1);
        }
    };
    publish(&mut world, 4);
    let (_socket, mut feed) = follower(&world, Encoding::V1);
    assert!(matches!(feed.step(1), Step::Idle), "no session yet");
    assert!(feed.follow(target(2)));
    assert_eq!(sent(&mut feed, &world.stream), [(3, Some(2)), (4, Some(3))]);
    assert_eq!(world.sessions.count(SESSION), 0, "it does not count as watching");
    publish(&mut world, 2);
    assert_eq!(sent(&mut feed, &world.stream), [(5, Some(4)), (6, Some(5))]);
    assert!(!feed.follow(target(1)), "the same session once more shows nothing twice");
    assert_eq!(sent(&mut feed, &world.stream), []);
    publish(&mut world, 5);
    assert!(feed.follow(target(9)), "ahead in the same session: what lies between is not shown");
    assert_eq!(sent(&mut feed, &world.stream), [(10, Some(9)), (11, Some(10))]);

    assert!(feed.follow(Some(AliasTarget { session: "other".parse().unwrap(), after: 0 })));
    assert_eq!(sent(&mut feed, &world.stream), []);
    assert!(feed.follow(target(6)));
    let back = sent(&mut feed, &world.stream);
    assert_eq!(back.first(), Some(&(7, Some(6))), "what came before belongs to this session");
    assert!(feed.follow(None));
    publish(&mut world, 1);
    assert!(matches!(feed.step(99), Step::Idle), "an alias without a value shows nothing");
}

fn question(feed: &mut Feed) -> Question {
    loop {
        if let Step::Ask(question) = feed.step(1) {
            return question;
        }
    }
}

#[test]
fn an_alias_that_is_gone_shows_nothing_of_what_was_read_for_it() {
    let mut world = World::new(RingLimits { frames: 2, bytes: 1 << 20 });
    for _ in 0..6 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    let (_socket, mut feed) = follower(&world, Encoding::V1);
    feed.follow(target(1));
    let question = question(&mut feed);
    feed.answer(Ok(world.stream.answer(&question, 9)));
    assert!(feed.follow(None));
    assert!(matches!(feed.step(2), Step::Idle));
}

#[test]
fn what_is_trimmed_while_it_is_read_leaves_no_hole_in_a_replay() {
    let mut world = World::new(RingLimits { frames: 1, bytes: 1 << 20 });
    for _ in 0..9 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    let mut client = Client::new(&world.sessions, Encoding::V1, Start::After(Position::Seq(0)), limits(u64::MAX));
    question(&mut client.feed);
    // Two were read, then five trimmed, then the others read.
    let events = [1, 2, 6, 7, 8].map(|seq| world.stream.events[seq - 1].clone()).to_vec();
    let extent = Extent { first: 6, last: 9, holes: Holes::None };
    let found = Found::Page { page: Arc::new(Page { events, through: 8 }), prev: 0 };
    let proof = Arc::new(Proof { extent, epoch: Some(Epoch::new(1)) });
    client.feed.answer(Ok(Answer { found, proof }));
    world.stream.first = 6;
    let seen: Vec<_> = sent(&mut client.feed, &world.stream).into_iter().take(2).collect();
    assert_eq!(seen, [(6, Some(0)), (7, Some(6))]);
}

#[test]
fn who_asks_for_what_there_is_is_told_of_a_trimmed_past_before_frames_speak_of_it() {
    let mut world = World::new(RingLimits { frames: 9, bytes: 1 << 20 });
    world.stream.publish("gm.s.state");
    world.hear(1);
    // Somebody else keeps the ring, which knows of the first event.
    let mut other = Client::new(&world.sessions, Encoding::V1, Start::Live, limits(u64::MAX));
    while other.step(&world.stream, 9, false) {}
    world.stream.first = 2;
    let mut client = Client::new(&world.sessions, Encoding::V1, Start::After(Position::Seq(0)), limits(u64::MAX));
    while client.step(&world.stream, 9, false) {}
    assert_eq!((client.at, client.gaps), (Some(1), 1));
    world.stream.publish("gm.s.state");
    world.hear(1);
    client.read(&world.stream);
    assert_eq!((client.at, client.gaps), (Some(2), 1));
}

#[test]
fn what_was_known_of_the_former_life_is_not_told_of_this_one() {
    let mut world = World::new(RingLimits { frames: 9, bytes: 1 << 20 });
    for _ in 0..6 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    let mut client = Client::new(&world.sessions, Encoding::V1, Start::After(Position::Seq(0)), limits(u64::MAX));
    // It has four, and asks for what comes behind the fourth.
    while client.pending.as_ref().is_none_or(|(asked, _)| !matches!(asked.ask, Ask::Page { after: 4, .. })) {
        assert!(client.step(&world.stream, 4, false));
    }
    // Before that is read the stream begins anew, and the fourth event is one that is not shown.
    world.happens(Deed::Anew(0), &mut client, 4);
    for subject in ["gm.s.state", "gm.s.state", "gm.s.state", "gm.s._action", "gm.s.state", "gm.s.state"] {
        world.stream.publish(subject);
    }
    world.happens(Deed::Notice, &mut client, 4);
    world.stream.publish("gm.s.state");
    // Its `prev` is held against the stream.
    world.settle(&mut client, 4);
    assert_eq!(client.at, Some(7));
}

#[test]
fn an_excuse_that_a_blocked_client_lets_go_is_told_again() {
    let mut world = World::new(RingLimits { frames: 9, bytes: 1 << 20 });
    world.stream.publish("gm.s.state");
    world.hear(1);
    let mut other = Client::new(&world.sessions, Encoding::V1, Start::Live, limits(u64::MAX));
    while other.step(&world.stream, 9, false) {}
    world.stream.first = 2;
    let mut feed = Client::new(&world.sessions, Encoding::V1, Start::After(Position::Seq(0)), limits(u64::MAX)).feed;
    let mut told = || {
        let mut queue = VecDeque::new();
        for token in 1..100 {
            match feed.step(token) {
                Step::Send(outs) => queue.extend(outs),
                Step::Ask(question) => feed.answer(Ok(world.stream.answer(&question, 9))),
                _ => break,
            }
        }
        let gap = queue.iter().find(|out: &&Out| out.bytes.windows(10).any(|part| part == b"herald.gap"));
        let place = gap.expect("the excuse").place;
        feed.let_go(&mut queue, false, place);
        queue.len()
    };
    assert_eq!((told(), told()), (0, 0), "all of it is let go, and told again");
}

#[test]
fn a_plain_follower_is_not_closed_because_of_a_gap() {
    let mut world = World::new(RingLimits { frames: 9, bytes: 1 << 20 });
    for _ in 0..6 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    world.stream.first = 4;
    let (_socket, mut feed) = follower(&world, Encoding::Plain);
    feed.follow(target(1));
    assert_eq!(sent(&mut feed, &world.stream).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [4, 5, 6]);
    world.sessions.reset(StreamLife { epoch: Epoch::new(2), head: 0 });
    world.stream = Stream { epoch: 2, first: 1, ..Stream::default() };
    world.heard = 0;
    assert_eq!(sent(&mut feed, &world.stream), []);
    world.stream.publish("gm.s.state");
    world.hear(1);
    assert_eq!(sent(&mut feed, &world.stream), [(1, None)]);
}

#[tokio::test(start_paused = true)]
async fn history_that_stays_away_ends_the_patience() {
    let mut world = World::new(RingLimits { frames: 2, bytes: 1 << 20 });
    for _ in 0..6 {
        world.stream.publish("gm.s.state");
        world.hear(1);
    }
    let mut client = Client::new(&world.sessions, Encoding::V1, Start::After(Position::Seq(1)), limits(9));
    let (begun, mut asked) = (Instant::now(), 0);
    let close = loop {
        match client.feed.step(1) {
            Step::Ask(question) => {
                asked += 1;
                tokio::time::advance(question.delay).await;
                client.feed.answer(Err(HistoryError::Timeout));
            }
            Step::Close(close) => break close,
            Step::Send(_) => {}
            Step::Listen | Step::Idle | Step::Rest => panic!("it has something to do"),
        }
    };
    assert_eq!(close, Close::TryLater("history is not available"));
    let waited = begun.elapsed();
    assert!((60..70).contains(&waited.as_secs()) && (10..60).contains(&asked), "{asked} times in {waited:?}");
}
