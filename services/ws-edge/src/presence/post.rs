//! What is said and heard: to and from other edges over NATS, and to the clients here.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use herald_protocol::{
    frame::Control,
    presence::Said,
    subject::{self, PRESENCE_ALL},
};
use herald_runtime::nats::{Nats, NatsState};
use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Presence, RoomId, Told};
use crate::{
    config::PresenceMode,
    guests::{Guest, Guests, Word},
    view::View,
};

/// How long to wait before a lost subscription is made again.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether something is due that nobody has said anything about.
const LOOK: Duration = Duration::from_secs(1);
/// How long a message may wait to be sent. Who does not get it notices.
const SENDING: Duration = Duration::from_secs(1);

impl Presence {
    /// Says and hears who is there, tells `guests`, and answers engines, until `stop`.
    pub async fn run(self: Arc<Self>, nats: Nats, guests: Arc<Guests>, stop: CancellationToken) {
        let endless = async {
            tokio::join!(self.converse(&nats, &guests), self.answer_engines(&nats));
        };
        stop.run_until_cancelled(endless).await;
    }

    /// Says and hears who is there, for as long as it can; then it hears anew.
    async fn converse(&self, nats: &Nats, guests: &Guests) {
        loop {
            let client = nats.client();
            match timeout(SENDING, client.subscribe(PRESENCE_ALL)).await {
                Ok(Ok(heard)) => {
                    self.exchange(nats, guests, heard).await;
                    self.book().cut();
                    tracing::warn!("other edges are no longer heard, trying again");
                }
                Ok(Err(error)) => tracing::warn!(%error, "other edges are not heard, trying again"),
                Err(_) => tracing::warn!("other edges are not heard: nothing is sent, trying again"),
            }
            sleep(RETRY).await;
            // What is due here is due all the same, and nothing gathers.
            let now = Instant::now();
            let (told, _) = {
                let mut book = self.book();
                book.tick(now, false);
                book.told(now)
            };
            told.into_iter().for_each(|(room_id, told)| tell(guests, &room_id, told));
        }
    }

    /// Says that this edge ends.
    pub async fn farewell(&self, nats: &Nats) {
        let said = self.book().end();
        self.say(nats, said).await;
    }

    /// Until nothing is heard any more.
    async fn exchange(&self, nats: &Nats, guests: &Guests, mut heard: Subscriber) {
        let mut state = nats.state();
        let mut connected = nats.connected();
        self.book().back(Instant::now());
        // Whether something has changed since the last look; then it waits for what comes right behind it.
        let (mut changed, mut looked) = (true, Instant::now());
        loop {
            let next = if changed { looked } else { self.book().due().min(looked + LOOK) };
            tokio::select! {
                message = heard.next() => {
                    let Some(message) = message else { return };
                    self.hear(&message);
                    changed = true;
                    continue;
                }
                news = state.changed() => {
                    if news.is_err() {
                        return;
                    }
                    connected = matches!(*state.borrow_and_update(), NatsState::Connected { .. });
                    let mut book = self.book();
                    if connected { book.back(Instant::now()) } else { book.cut() }
                    continue;
                }
                () = self.changed.notified(), if !changed => {
                    changed = true;
                    continue;
                }
                () = sleep_until(next.max(looked + self.config.batch.get())) => {}
            }
            looked = Instant::now();
            let (said, (told, waits)) = {
                let mut book = self.book();
                (book.tick(looked, connected), book.told(looked))
            };
            changed = waits;
            self.say(nats, said).await;
            for (room_id, told) in told {
                tell(guests, &room_id, told);
                // A large session is many frames: others are not to wait for all of them.
                tokio::task::yield_now().await;
            }
        }
    }

    fn hear(&self, message: &Message) {
        let life = subject::parse_presence(&message.subject);
        match life.zip(serde_json::from_slice::<Said>(&message.payload).ok()) {
            Some((life, said)) => self.book().hear(&life, said, Instant::now()),
            None => counter!("herald_presence_refused_total", "reason" => "malformed").increment(1),
        }
    }

    async fn say(&self, nats: &Nats, all: Vec<Said>) {
        for said in all {
            let Ok(bytes) = serde_json::to_vec(&said) else { continue };
            let client = nats.client();
            let sending = client.publish(subject::presence(&self.life), bytes.into());
            match timeout(SENDING, sending).await {
                Ok(Ok(())) => counter!("herald_presence_said_total").increment(1),
                Ok(Err(error)) => tracing::warn!(%error, "other edges can't be told who is there"),
                Err(_) => tracing::warn!("other edges can't be told who is there: nothing is sent"),
            }
        }
    }
}

/// Whether a guest is told who is there: it must know such frames, and its route must want them.
pub(super) fn is_told(guest: &Guest) -> bool {
    guest.entrance.presence != PresenceMode::Off && guest.view.has_control()
}

/// Tells one guest something about who is there.
pub(super) fn say(guest: &Guest, control: &Control) {
    if is_told(guest)
        && let Some(frame) = guest.view.control(control, None)
    {
        hand_over(guest, frame, control.name());
    }
}

fn hand_over(guest: &Guest, frame: Bytes, name: &'static str) {
    match guest.say(Word::Ready(frame)) {
        Ok(()) => counter!("herald_presence_frames_total", "event" => name).increment(1),
        Err(_) => counter!("herald_presence_untold_frames_total").increment(1),
    }
}

/// Tells the clients of a session what has changed.
fn tell(guests: &Guests, room_id: &RoomId, told: Told) {
    let (count, changes) = match told {
        Told::Each(changes) => (changes.last().map_or(0, |change| change.count), changes),
        Told::Count { count, left_out } => {
            counter!("herald_presence_coalesced_total").increment(left_out);
            (count, Vec::new())
        }
    };
    let number = [Control::Presence { count }];
    let each: Vec<_> = changes
        .into_iter()
        .map(|change| {
            let (person, count) = (change.person, change.count);
            if change.joined { Control::Join { person, count } } else { Control::Leave { person, count } }
        })
        .collect();
    let by_name = if each.is_empty() { &number[..] } else { &each[..] };
    let mut encoded: Vec<Encoded> = Vec::new();
    for guest in guests.of_session(&room_id.root, &room_id.session) {
        if !is_told(&guest) {
            continue;
        }
        let mode = guest.entrance.presence;
        let known = encoded.iter().position(|it| it.mode == mode && Arc::ptr_eq(&it.view, &guest.view));
        let known = known.unwrap_or_else(|| {
            let controls = if mode == PresenceMode::List { by_name } else { &number };
            let frames = controls.iter().filter_map(|it| Some((guest.view.control(it, None)?, it.name())));
            encoded.push(Encoded { view: guest.view.clone(), mode, frames: frames.collect() });
            encoded.len() - 1
        });
        for (frame, name) in &encoded[known].frames {
            hand_over(&guest, frame.clone(), name);
        }
    }
}

/// What is told to all guests of one kind. There are a handful of kinds.
struct Encoded {
    view: Arc<View>,
    mode: PresenceMode,
    frames: Vec<(Bytes, &'static str)>,
}

#[cfg(test)]
mod tests {
    use herald_protocol::{InstanceId, SessionId};
    use serde_json::Value;

    use super::*;
    use crate::{
        config::PresenceConfig,
        guests::{
            Stay,
            tests::{entrance, guest},
        },
    };

    /// All that was said to a guest, without the headers of its frames.
    fn heard(stay: &Stay) -> Vec<Value> {
        let words = std::iter::from_fn(|| stay.guest().next_word());
        words
            .map(|word| match word {
                Word::Ready(frame) => {
                    let from = frame.iter().position(|byte| *byte == b'{').unwrap();
                    serde_json::from_slice(&frame[from..]).unwrap()
                }
                Word::Close(close) => panic!("{close:?}"),
            })
            .collect()
    }

    fn tells(presence: &Presence, guests: &Guests) {
        let (told, waits) = presence.book().told(Instant::now());
        assert!(!waits);
        told.into_iter().for_each(|(room_id, told)| tell(guests, &room_id, told));
    }

    #[test]
    fn the_last_number_that_somebody_is_told_is_the_one_that_is_so() {
        let edge = InstanceId::new("edge-1").unwrap();
        let session = SessionId::new("s").unwrap();
        let mut by = entrance("dice");
        by.presence = PresenceMode::Count;
        let by = Arc::new(by);
        for round in 0..2000 {
            let presence = Presence::new(&edge, [Arc::from("dice")], &PresenceConfig::default());
            let guests = Guests::new(&edge, vec![Box::new(presence.clone())]);
            // They come, and are told, all at the same time.
            let all_here = std::sync::Barrier::new(3);
            let comes = |user: &'static str| {
                all_here.wait();
                let mut stay = guests.admit(guest(&by, Some(user), None));
                stay.show(Some(&session));
                stay
            };
            let stays = std::thread::scope(|threads| {
                let stays = ["ann", "bob"].map(|user| threads.spawn(move || comes(user)));
                all_here.wait();
                (0..20).for_each(|_| tells(&presence, &guests));
                stays.map(|stay| stay.join().unwrap())
            });
            tells(&presence, &guests);
            for stay in &stays {
                let last = heard(stay).pop().unwrap();
                assert_eq!(last["data"]["count"], 2, "round {round}: {last}");
            }
        }
    }

    #[tokio::test]
    async fn guests_are_told_as_much_as_their_route_says() {
        let edge = InstanceId::new("edge-1").unwrap();
        let presence = Presence::new(&edge, [Arc::from("dice")], &PresenceConfig::default());
        let guests = Guests::new(&edge, vec![Box::new(presence.clone())]);
        let session = SessionId::new("s").unwrap();
        let by = |mode| {
            let mut by = entrance("dice");
            by.presence = mode;
            Arc::new(by)
        };
        let comes = |mode, user| {
            let mut stay = guests.admit(guest(&by(mode), Some(user), None));
            stay.show(Some(&session));
            stay
        };
        let (lists, counts) = (comes(PresenceMode::List, "ann"), comes(PresenceMode::Count, "bob"));
        let silent = comes(PresenceMode::Off, "cid");
        assert_eq!(heard(&lists)[0]["data"]["count"], 1);
        assert_eq!(heard(&counts)[0]["data"]["count"], 2);
        tells(&presence, &guests);
        let events = |stay| heard(stay).into_iter().map(|it| (it["event"].clone(), it["data"]["count"].clone()));
        let joins = [("herald.join".into(), 1.into()), ("herald.join".into(), 2.into())];
        assert_eq!(events(&lists).collect::<Vec<_>>(), joins);
        assert_eq!(events(&counts).collect::<Vec<_>>(), [("herald.presence".into(), 2.into())]);
        tells(&presence, &guests);
        drop(counts);
        presence.book().tick(Instant::now() + Duration::from_secs(6), true);
        tells(&presence, &guests);
        let left = heard(&lists);
        assert_eq!((&left[0]["event"], &left[0]["data"]["user"]), (&"herald.leave".into(), &"bob".into()));
        assert_eq!(
            (left.len(), heard(&silent).len()),
            (1, 0),
            "who is at no such route counts nowhere and is told nothing"
        );
    }
}
