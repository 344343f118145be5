//! `sim check`: proof that nothing is lost, doubled, out of order, foreign or silently missing, whatever dies meanwhile.
//!
//! Sessions of a limited life are played side by side, each in its slot, one after the other (`session`). Two sources
//! fill them with numbered events (`numbered`): the checker itself, as an arena engine (`arena`), and commands through the
//! public door (`commands`), which make a bridge ask a Game Master (`sim gm --numbered`). Clients of all kinds and habits
//! (`clients`, `client`, `place`) watch over whatever carries them (`link`, `events`) and write down what they see
//! (`notes`).
//!
//! The truth is the log: it is read here without Herald's help (`truth`), and every client and source is judged against it
//! (`judge`, `source`). Who breaks things meanwhile says so (`marks`), and learns how long that was felt (`pauses`). What
//! comes of it all is one table and a verdict (`report`).
//!
//! Everything drawn by lot comes from the seed, but for the ids of sessions and what the machine does with time.

pub mod arena;
pub mod client;
pub mod clients;
pub mod clock;
pub mod commands;
pub mod doors;
pub mod events;
pub mod findings;
pub mod judge;
pub mod link;
pub mod marks;
pub mod notes;
pub mod numbered;
pub mod pauses;
pub mod place;
pub mod played;
mod pulse;
pub mod report;
mod rhythm;
pub mod session;
pub mod source;
pub mod truth;

use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use herald_runtime::{
    Context,
    nats::{self, ConnectError},
};
use tokio::{
    io::BufReader,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    clients::{Shared, Tally},
    commands::Commands,
    doors::Door,
    marks::Timeline,
    notes::Notes,
    report::Report,
    session::{Over, Present, Stage},
    source::Calls,
    truth::{SessionLog, Truth},
};
use crate::{cli::CheckOptions, dice::Dice};

/// Handshakes at once: more only wait in the doors' accept queues.
const HANDSHAKES: usize = 128;
/// How often something is said on the way.
const EVERY: Duration = Duration::from_secs(10);
/// A session lives between this share and twice of what is left of it, of `--life`.
const SHORTEST: f64 = 0.6;
/// How long the log may keep the checker waiting at the start.
const LOG_READY: Duration = Duration::from_secs(60);

/// Plays, judges, prints; exit code 0 if everything came as it should, else 1.
///
/// # Errors
/// If a URL can't be used, NATS has no log, or the report can't be written.
pub async fn run(options: CheckOptions, context: Context) -> Result<ExitCode> {
    let doors: Arc<[Door]> = options.url.iter().map(|url| Door::new(url)).collect::<Result<_>>()?;
    ensure!(options.gm_sessions <= options.sessions, "--gm-sessions: there are only {} sessions", options.sessions);
    let seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
    let Some(stage) = stage(&options, doors, seed, &context).await? else { return Ok(ExitCode::FAILURE) };
    let run = Arc::new(Run {
        stage,
        faults: Timeline::default(),
        calls: Mutex::default(),
        report: Mutex::new(Report::new(seed)),
        past: Mutex::default(),
        numbers: AtomicU64::new(0),
        options,
    });
    let began = Instant::now();
    let stop = context.shutdown.token();
    let watching = tokio::spawn(run.clone().say_how_it_goes(began));
    run.play(&stop).await;
    watching.abort();
    let mut report = std::mem::take(&mut *run.report());
    report.set_faults(&run.faults.faults());
    report.lasted_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if let Some(file) = &run.options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        tokio::fs::write(file, json).await.with_context(|| format!("{}", file.display()))?;
    }
    say(&mut std::io::stdout(), &format!("{}\n{report}", answers(&run.stage.commands)));
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For whoever looks into it by hand: what a client saw, and what the log holds, in lines.
fn write_notes(folder: &Path, number: usize, notes: &Notes, log: &SessionLog) {
    let seen = notes.notes.iter().map(|note| format!("{note:?}"));
    let held = log.lives.iter().flat_map(|life| {
        let shown = life.shown.iter().map(|event| format!("{event:?}"));
        std::iter::once(format!("log of life {}, due {}", life.epoch, log.due)).chain(shown)
    });
    let text = seen
        .chain(held)
        .fold(format!("{:?}, staying: {}\n", notes.kind, notes.staying), |text, line| text + &line + "\n");
    let file = folder.join(format!("{}-{number}.txt", notes.session));
    if let Err(error) = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, text)) {
        tracing::warn!(%error, file = %file.display(), "notes not written");
    }
}

/// Everything that is needed before the first session. `None` where the shutdown came first.
async fn stage(options: &CheckOptions, doors: Arc<[Door]>, seed: u64, context: &Context) -> Result<Option<Stage>> {
    // An engine of its own, so that what waits in its connection hinders nobody who reads.
    let connect = async |name| nats::connect(&context.common.nats, name, context).await;
    let (arena, log) = match futures_util::try_join!(connect("arena"), connect("log")) {
        Ok(connections) => connections,
        Err(ConnectError::ShuttingDown) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let truth = Truth::spawn(&log, "EVENTS");
    let stop = context.shutdown.token();
    match stop.run_until_cancelled(tokio::time::timeout(LOG_READY, truth.ready())).await {
        None => return Ok(None),
        Some(ready) => ready.context("the stream EVENTS can't be read: is a gm-bridge running?")?,
    };
    Ok(Some(Stage {
        clients: Shared {
            crowd: options.crowd,
            doors: doors.clone(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
        },
        commands: Commands::new(doors)?,
        arena,
        truth,
        seed,
        per_session: options.clients as usize,
        rate: options.rate,
        settle: options.settle.get(),
        present: Present::default(),
    }))
}

struct Run {
    stage: Stage,
    faults: Timeline,
    calls: Mutex<Calls>,
    report: Mutex<Report>,
    /// What the clients of earlier sessions did.
    past: Mutex<Tally>,
    /// Counts the sessions.
    numbers: AtomicU64,
    options: CheckOptions,
}

impl Run {
    /// All slots side by side, until it is over.
    async fn play(self: &Arc<Self>, shutdown: &CancellationToken) {
        let stop = shutdown.child_token();
        let mut slots = JoinSet::new();
        for slot in 0..self.options.sessions {
            let (run, stop) = (self.clone(), stop.clone());
            slots.spawn(async move { run.play_one(slot, &stop).await });
        }
        shutdown.run_until_cancelled(self.until_over()).await;
        stop.cancel();
        slots.join_all().await;
    }

    /// Until no more faults come, or the time is up.
    async fn until_over(&self) {
        // Standard input is read by a thread that nobody can end: the process does not wait for it.
        let marks = async {
            if let Err(error) = self.faults.read(BufReader::new(tokio::io::stdin())).await {
                tracing::error!(%error, "standard input can't be read");
            }
        };
        let seconds = |seconds: u64| sleep(Duration::from_secs(seconds));
        match (self.options.marks, self.options.seconds) {
            (false, limit) => seconds(limit.unwrap_or(CheckOptions::SECONDS)).await,
            (true, None) => marks.await,
            (true, Some(limit)) => {
                tokio::select! {
                    () = marks => {}
                    () = seconds(limit) => {}
                }
            }
        }
    }

    /// One session after the other. The first of a slot lives for any part of the time, so that they don't all end at once.
    async fn play_one(&self, slot: u32, stop: &CancellationToken) {
        let mut dice = Dice::new(self.stage.seed, &format!("slot {slot}"));
        let whole = self.options.life.get();
        let mut life = whole.mul_f64(0.25 + dice.fraction());
        while !stop.is_cancelled() {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            if let Some(over) = self.stage.play(number, slot < self.options.gm_sessions, life, stop).await {
                self.judge(over);
            }
            life = whole.mul_f64(SHORTEST + dice.fraction() * 2.0 * (1.0 - SHORTEST));
        }
    }

    fn judge(&self, over: Over) {
        let Over { played, log, tally } = over;
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        *past = *past + Tally { clients: 0, open: 0, ..tally };
        drop(past);
        let faults = self.faults.faults();
        let mut report = self.report();
        report.sessions += 1;
        if tally.refused > 0 {
            report.problem(format!("{}: {} connections were refused for good", played.session, tally.refused));
        }
        let Some(mut log) = log else {
            return report.problem(format!("{}: the log was not read to its end in time", played.session));
        };
        match played.end {
            Some(end) => log.due = end,
            None => report.problem(format!("{}: its last event was not stored in time", played.session)),
        }
        // The last one comes when everything is over.
        let steady = played.published.split_last().map_or(&[][..], |(_, steady)| steady);
        let steady = (steady.first().copied().unwrap_or(0), steady.last().copied().unwrap_or(0));
        for (number, notes) in played.clients.iter().enumerate() {
            let judgement = judge::client(&log, notes);
            if let Some(folder) = self.options.notes.as_ref().filter(|_| !judgement.found.is_clean()) {
                write_notes(folder, number, notes, &log);
            }
            report.add_client(notes, judgement, steady, &faults);
        }
        report.add_arena(source::arena(&log, &played), &faults);
        report.add_game(source::game(&log, &played));
        report.found.merge(self.calls.lock().unwrap_or_else(PoisonError::into_inner).add(&log));
    }

    /// A line every ten seconds.
    async fn say_how_it_goes(self: Arc<Self>, began: Instant) {
        let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = 0;
        loop {
            ticks.tick().await;
            let (sessions, now) = self.stage.present.tally();
            let all = now + *self.past.lock().unwrap_or_else(PoisonError::into_inner);
            let (judged, wrong) = {
                let report = self.report();
                (report.sessions, report.found.counts.total() + report.problem_count)
            };
            let line = format!(
                "check {:>5} s: {sessions} sessions, {} of {} clients connected, {} deliveries ({}/s), {} connections, \
                 {} faults, {judged} sessions judged, {wrong} wrong",
                began.elapsed().as_secs(),
                now.open,
                now.clients,
                all.deliveries,
                all.deliveries.saturating_sub(before) / EVERY.as_secs(),
                all.connections,
                self.faults.faults().all.len(),
            );
            before = all.deliveries;
            say(&mut std::io::stderr(), &line);
        }
    }

    /// Held for moments, never across a wait.
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How commands were answered, for people: which answers are legal depends on what is broken meanwhile.
fn answers(commands: &Commands) -> String {
    let answers = commands.answers();
    let status = |status: Option<u16>| status.map_or("no answer".to_owned(), |status| status.to_string());
    let one =
        |((command, answer), count): (&(&str, Option<u16>), &u64)| format!("{command} {}: {count}", status(*answer));
    let all: Vec<_> = answers.iter().map(one).collect();
    format!("commands and their answers: {}", if all.is_empty() { "none".to_owned() } else { all.join(", ") })
}

/// A closed pipe is nobody to tell.
fn say(to: &mut impl Write, text: &str) {
    let _ = writeln!(to, "{text}");
}
