//! A server, a stream and its owner, and somebody who writes down what the intake says.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use async_nats::HeaderMap;
use futures_util::{StreamExt, stream};
use herald_protocol::Epoch;
use herald_runtime::{
    Context,
    config::Common,
    jetstream::{
        Expect, StreamSpec,
        epoch::{EpochOwner, EpochWatcher, StreamLife},
        publish,
    },
    nats::{self, Nats},
};
use herald_testkit::{Nats as Server, eventually, users};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use ws_edge::{
    config::{Config, IntakeConfig},
    event::Event,
    intake::{Intake, Life, Rings},
};

/// A whole test.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// One step of it.
pub(crate) const SOON: Duration = Duration::from_secs(40);
pub(crate) const STREAM: &str = "EVENTS";

pub(crate) fn context(url: &str, change: impl FnOnce(&mut Common)) -> Context {
    let mut common = Common::with_operations_port(0);
    common.nats.url = url.to_owned();
    change(&mut common);
    Context::new("ws-edge", common)
}

pub(crate) async fn connect(url: &str) -> Nats {
    let context = context(url, |_| {});
    nats::connect(&context.common.nats, "nats", &context).await.unwrap()
}

pub(crate) fn own(nats: &Nats) -> EpochOwner {
    EpochOwner::spawn(nats, StreamSpec::new(STREAM, ["gm.>", "arena.>"]), vec![])
}

/// A server with a stream, its owner, and a connection to publish by.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) nats: Nats,
    pub(crate) owner: EpochOwner,
    pub(crate) epoch: Epoch,
}

impl World {
    pub(crate) async fn start() -> Self {
        let server = Server::start().await;
        let nats = connect(&server.url()).await;
        let owner = own(&nats);
        let epoch = owner.ready().await;
        Self { server, nats, owner, epoch }
    }

    pub(crate) async fn put(&self, subject: &str, count: usize) -> Vec<u64> {
        put(&self.nats, subject, count).await
    }

    /// An intake over a connection of its own.
    pub(crate) async fn intake(&self) -> Taking {
        Taking::start(&self.server.url(), Config::default().intake, |_| {}).await
    }

    /// Waits until the owner has another life than those.
    pub(crate) async fn renewed(&self, former: &[Epoch]) -> Epoch {
        alive_again(&self.owner.life(), former).await
    }
}

pub(crate) async fn alive_again(life: &watch::Receiver<StreamLife>, former: &[Epoch]) -> Epoch {
    eventually("a new life", SOON, async || {
        let now = *life.borrow();
        now.epoch().filter(|epoch| !former.contains(epoch)).ok_or(now)
    })
    .await
}

/// Publishes events and returns their sequences once they are stored; repeats while the server is away.
pub(crate) async fn put(nats: &Nats, subject: &str, count: usize) -> Vec<u64> {
    let stored = (0..count).map(|_| async {
        let stored = eventually("an event is stored", SOON, async || {
            publish(nats, subject, HeaderMap::new(), r#"{"x":1}"#.into(), Expect::default()).await
        });
        stored.await.seq
    });
    let mut stored: Vec<u64> = stream::iter(stored).buffer_unordered(256).collect().await;
    stored.sort_unstable();
    stored
}

/// An intake and what it has said.
pub(crate) struct Taking {
    pub(crate) record: Arc<Record>,
    pub(crate) context: Context,
    pub(crate) intake: Option<Intake>,
}

impl Taking {
    pub(crate) async fn start(url: &str, config: IntakeConfig, change: impl FnOnce(&mut Common)) -> Self {
        let context = context(url, change);
        let nats = nats::connect(&context.common.nats, "nats", &context).await.unwrap();
        let record = Arc::new(Record::default());
        let watcher = Arc::new(EpochWatcher::spawn(&nats, STREAM));
        let intake = Some(Intake::spawn(&nats, STREAM, &watcher, &config, Arc::clone(&record), &context));
        context.health.started();
        Self { record, context, intake }
    }

    /// Waits until it takes in.
    pub(crate) async fn ready(&self) {
        eventually("the intake is ready", SOON, async || {
            if self.context.health.ready() { Ok(()) } else { Err(self.context.health.report().conditions) }
        })
        .await;
    }

    /// Waits until the last life has reached that sequence.
    pub(crate) async fn reaches(&self, seq: u64) {
        eventually("the intake gets there", SOON, async || {
            let position = self.record.position();
            if position >= seq { Ok(()) } else { Err(position) }
        })
        .await;
    }

    /// Waits for a life that was not among those.
    pub(crate) async fn enters(&self, former: &[Epoch]) -> Life {
        eventually("the intake takes up the new life", SOON, async || {
            let lives = self.record.lives();
            let life = lives.last().map(|told| told.life);
            life.filter(|life| !former.contains(&life.epoch)).ok_or(life)
        })
        .await
    }
}

/// What an intake has said, in order.
#[derive(Default)]
pub(crate) struct Record {
    said: Mutex<Vec<Said>>,
    /// Whether the next event is not taken yet.
    busy: Mutex<bool>,
    free: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Event { seq: u64, ts_ms: u64 },
    Advanced(u64),
    Life(Life),
    Broken(u64),
    Suspended,
    Resumed,
}

/// What was said of one life.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) life: Life,
    pub(crate) events: Vec<u64>,
    pub(crate) times: Vec<u64>,
    pub(crate) position: u64,
    pub(crate) broken: Vec<u64>,
    pub(crate) suspended: usize,
    pub(crate) resumed: usize,
}

impl Record {
    fn say(&self, said: Said) {
        self.said.lock().unwrap().push(said);
    }

    /// Makes the intake wait at its next event, as on a machine with no time for it.
    pub(crate) fn block(&self) {
        *self.busy.lock().unwrap() = true;
    }

    /// Lets it go on.
    pub(crate) fn unblock(&self) {
        *self.busy.lock().unwrap() = false;
        self.free.notify_all();
    }

    /// Everything, by lives. Checks that nothing is told twice, out of order, or while it is in doubt.
    pub(crate) fn lives(&self) -> Vec<Told> {
        let mut lives: Vec<Told> = vec![];
        let mut held = true;
        for said in self.said.lock().unwrap().iter().copied() {
            if let Said::Life(life) = said {
                held = false;
                let told = Told {
                    life,
                    events: vec![],
                    times: vec![],
                    position: life.head,
                    broken: vec![],
                    suspended: 0,
                    resumed: 0,
                };
                lives.push(told);
                continue;
            }
            let told = lives.last_mut().expect("first of all a life");
            let seq = match said {
                Said::Event { seq, .. } | Said::Advanced(seq) | Said::Broken(seq) => seq,
                Said::Suspended => {
                    assert!(!std::mem::replace(&mut held, true), "suspended twice");
                    told.suspended += 1;
                    continue;
                }
                Said::Resumed => {
                    assert!(std::mem::replace(&mut held, false), "resumed without need");
                    told.resumed += 1;
                    continue;
                }
                Said::Life(_) => continue,
            };
            assert!(!held, "{said:?} in doubt");
            assert!(seq > told.position, "{said:?} behind {}", told.position);
            told.position = seq;
            match said {
                Said::Event { ts_ms, .. } => {
                    told.events.push(seq);
                    told.times.push(ts_ms);
                }
                Said::Broken(_) => told.broken.push(seq),
                _ => {}
            }
        }
        lives
    }

    /// The only life there was.
    pub(crate) fn only_life(&self) -> Told {
        let mut lives = self.lives();
        assert_eq!(lives.len(), 1, "one life: {:?}", lives.iter().map(|told| told.life).collect::<Vec<_>>());
        lives.remove(0)
    }

    pub(crate) fn position(&self) -> u64 {
        let said = self.said.lock().unwrap();
        let place = said.iter().rev().find_map(|said| match *said {
            Said::Event { seq, .. } | Said::Advanced(seq) | Said::Broken(seq) => Some(seq),
            Said::Life(life) => Some(life.head),
            Said::Suspended | Said::Resumed => None,
        });
        place.unwrap_or(0)
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.said.lock().unwrap().last(), Some(Said::Suspended))
    }
}

impl Rings for Record {
    fn append(&self, event: &Event) {
        let busy = self.busy.lock().unwrap();
        if *busy {
            // With word to the runtime: else whatever this thread had to do next would stand still, too.
            tokio::task::block_in_place(|| drop(self.free.wait_while(busy, |busy| *busy).unwrap()));
        }
        self.say(Said::Event { seq: event.seq, ts_ms: event.ts_ms });
    }
    fn flush(&self) {}
    fn advance(&self, seq: u64) {
        self.say(Said::Advanced(seq));
    }
    fn purged(&self, _: u64, _: &herald_protocol::record::Purged) {}
    fn reset(&self, life: Life) {
        self.say(Said::Life(life));
    }
    fn mark_broken(&self, head: u64) {
        self.say(Said::Broken(head));
    }
    fn suspend(&self) {
        self.say(Said::Suspended);
    }
    fn resume(&self) {
        self.say(Said::Resumed);
    }
}

/// A way to a server that can be cut: connections end, and new ones are ended at once, until it is open again.
pub(crate) struct Way {
    url: String,
    open: watch::Sender<bool>,
    /// What of it has been done.
    is_open: watch::Receiver<bool>,
    _tasks: JoinSet<()>,
}

impl Way {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = users::url_as(users::OPERATOR, &format!("nats://{}", listener.local_addr().unwrap()));
        let (open, done) = (watch::Sender::new(true), watch::Sender::new(true));
        let is_open = done.subscribe();
        let mut tasks = JoinSet::new();
        tasks.spawn(lead(listener, server.address(), open.subscribe(), done));
        Self { url, open, is_open, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) async fn cut(&mut self) {
        self.open.send_replace(false);
        self.is_open.wait_for(|open| !*open).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn lead(listener: TcpListener, target: SocketAddr, mut open: watch::Receiver<bool>, done: watch::Sender<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((mut near, _)) = listener.accept() => {
                if *done.borrow() {
                    connections.spawn(async move {
                        if let Ok(mut far) = TcpStream::connect(target).await {
                            let _end = copy_bidirectional(&mut near, &mut far).await;
                        }
                    });
                }
            }
            Ok(()) = open.changed() => {
                let open = *open.borrow_and_update();
                if !open {
                    connections.shutdown().await;
                }
                done.send_replace(open);
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Stops the server, keeps a copy of its store, starts it again.
pub(crate) async fn backup(server: &mut Server) -> (tempfile::TempDir, PathBuf) {
    server.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("store");
    copy(&server.store(), &kept);
    server.resume().await;
    (folder, kept)
}

/// As a power cut or an operator does it.
pub(crate) async fn roll_back(server: &mut Server, kept: &Path) {
    server.kill().await;
    fs::remove_dir_all(server.store()).unwrap();
    copy(kept, &server.store());
    server.resume().await;
}
