//! The course of a run.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use mio::{Poll, Waker};

use super::{
    gauges::Board,
    hearing::Findings,
    link::{Door, Ground, Link},
    options::{LoadOptions, Protocol},
    payload::{Clock, Payloads},
    process::{Cpu, Processes},
    progress::Progress,
    publisher::{Pace, Publisher},
    reader::{ORDERS, Opening, Order, Reader},
    report::{Faults, Report},
};

/// How long connecting, or hearing the first probe, may go without any progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the course looks whether something is done.
const LOOK: Duration = Duration::from_millis(2);
/// How often probes are published until each client heard one.
const PROBES: Duration = Duration::from_millis(100);
/// Orders that a thread may be behind.
const ORDERS_WAITING: usize = 8;

/// Measures one load.
///
/// # Errors
/// Where a client can't connect, NATS can't be reached, or a process is not there.
pub(super) fn measure(options: &LoadOptions) -> Result<Report> {
    let run = Run::start(options)?;
    let mut report = Report {
        work: options.work(),
        sessions: options.sessions,
        clients: options.clients,
        connections: options.connections(),
        size: options.size,
        ..Report::default()
    };
    run.connect(&mut report)?;
    if options.idle || options.connect_rate {
        run.hold(&mut report)?;
    } else {
        run.stream(&mut report)?;
    }
    Ok(report)
}

struct Run<'a> {
    options: &'a LoadOptions,
    ground: Arc<Ground>,
    payloads: Payloads,
    board: Arc<Board>,
    server: Processes,
    readers: Vec<(SyncSender<Order>, Waker, JoinHandle<std::io::Result<Findings>>)>,
}

/// What is read at the start and at the end of what is measured.
struct Reading {
    at: u64,
    cpu: Cpu,
    own: Cpu,
    delivered: u64,
    published: u64,
}

impl<'a> Run<'a> {
    fn start(options: &'a LoadOptions) -> Result<Self> {
        let door = |url: &String| resolve(url.strip_prefix("ws://").context("--url: expected ws://IP:PORT")?);
        let addresses = options.url.iter().map(door).collect::<Result<_>>()?;
        // Another one for each run: sessions of before are not met again.
        let payloads = Payloads::new(rand::random(), options.size as usize);
        let door = Door {
            addresses,
            protocol: options.protocol,
            v1: options.v1,
            receive_buffer: options.receive_buffer,
            sources: options.sources,
        };
        let ground = Arc::new(Ground {
            door,
            names: (0..options.watched()).map(|index| payloads.session(index)).collect(),
            marks: (0..options.watched()).map(|index| payloads.mark(index)).collect(),
            size: payloads.size(),
            clock: Clock::start(),
            measured_from: AtomicU64::new(u64::MAX),
        });
        let windowed = options.window.map_or(0, |_| options.watched());
        let board = Arc::new(Board::new(options.threads, windowed, options.window.unwrap_or(0)));
        let mut run =
            Self { options, ground, payloads, board, server: Processes::new(&options.pid), readers: Vec::new() };
        for number in 0..options.threads as usize {
            run.reader(number)?;
        }
        Ok(run)
    }

    /// Starts a thread with its share of the clients: neighbours are of different sessions.
    fn reader(&mut self, number: usize) -> Result<()> {
        let (watched, threads) = (u64::from(self.options.watched()), self.options.threads as usize);
        let mine = (0..self.options.connections()).skip(number).step_by(threads);
        // Evenly among all: where the share of all that came before makes a step.
        let (all, stalled) = (self.options.connections(), u64::from(self.options.stalled));
        let slow = |client: u64| (client + 1) * stalled / all > client * stalled / all;
        // Those of a session are spread over all doors, and so are the first clients of all sessions.
        let doors = &self.ground.door.addresses;
        let door = |client: u64| doors[((client % watched + client / watched) % doors.len() as u64) as usize];
        // Fewer than a million sessions.
        let links: Vec<_> =
            mine.map(|client| Link::new((client % watched) as u32, door(client), slow(client))).collect();
        let progress = self.options.window.map(|window| {
            let mut clients = vec![0; watched as usize];
            links.iter().for_each(|link| clients[link.hearing.session as usize] += 1);
            Progress::new(&clients, window, &self.board.readers[number])
        });
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), ORDERS)?;
        let (sender, orders) = sync_channel(ORDERS_WAITING);
        let reader = Reader {
            poll,
            number,
            ground: self.ground.clone(),
            board: self.board.clone(),
            orders,
            links,
            progress,
            findings: Findings::new()?,
            opening: Opening::new((self.options.handshakes as usize).div_ceil(threads)),
            buffer: Reader::buffer(),
        };
        let thread = thread::Builder::new().name(format!("reader {number}")).spawn(move || reader.run())?;
        self.readers.push((sender, waker, thread));
        Ok(())
    }

    fn order(&self, order: &Order) -> Result<()> {
        for (orders, waker, _) in &self.readers {
            orders.send(order.clone()).map_err(|_| anyhow!("a reading thread failed"))?;
            waker.wake()?;
        }
        Ok(())
    }

    fn connect(&self, report: &mut Report) -> Result<()> {
        report.rss_kib_empty = self.rss()?;
        let (start, cpu) = (self.ground.clock.now(), self.cpu()?);
        self.order(&Order::Open(Duration::ZERO))?;
        let all = self.options.connections();
        let opened = || self.board.sum(|gauges| &gauges.open);
        self.until("connected", all, opened, PATIENCE, || Ok(()))?;
        let seconds = (self.ground.clock.now() - start) as f64 / 1e9;
        report.connect_per_s = Some(all as f64 / seconds);
        if !self.server.is_empty() {
            report.connect_cpu_us = Some(self.cpu()?.since(&cpu) as f64 / 1e3 / all as f64);
        }
        self.server.forget_peak();
        report.rss_kib_before = self.rss()?;
        let (empty, before) = (report.rss_kib_empty, report.rss_kib_before);
        report.rss_kib_per_connection =
            empty.zip(before).map(|(empty, before)| (before as f64 - empty as f64) / all as f64);
        Ok(())
    }

    /// Nothing happens, for the time asked for.
    fn hold(mut self, report: &mut Report) -> Result<()> {
        let before = self.reading(0)?;
        if self.options.idle {
            self.sleep(Duration::from_secs_f64(self.options.seconds))?;
        }
        let after = self.reading(0)?;
        report.seconds = (after.at - before.at) as f64 / 1e9;
        report.load_cpu_s = after.own.since(&before.own) as f64 / 1e9;
        if !self.server.is_empty() && self.options.idle {
            report.idle_cpu_ms_per_s = Some(after.cpu.since(&before.cpu) as f64 / 1e6 / report.seconds);
        }
        let still = self.board.sum(|gauges| &gauges.open);
        self.finish(Arc::new(vec![0; self.options.sessions as usize]), report)?;
        report.exact &= still == report.connections;
        Ok(())
    }

    /// Events are published, and come.
    fn stream(mut self, report: &mut Report) -> Result<()> {
        let options = self.options;
        let nats = resolve(options.nats.trim_start_matches("nats://"))?;
        let (board, clock, payloads) = (self.board.clone(), self.ground.clock, self.payloads.clone());
        let (acks, traced) = (options.acks(), options.traced());
        let mut publisher = Publisher::connect(nats, board, clock, payloads, options.sessions, acks, traced)
            .with_context(|| format!("NATS at {nats}"))?;
        self.attach(&mut publisher)?;
        let published = publisher.published();
        let (pace, warmup) = self.pace();
        if options.resume.is_some() {
            return self.resume(publisher, pace, report);
        }
        let mut before = self.reading(0)?;
        if warmup.is_zero() {
            self.ground.measured_from.store(0, Relaxed);
        }
        let publishing = thread::Builder::new().name("publisher".into()).spawn(move || {
            let ran = publisher.run(pace);
            (publisher, ran)
        })?;
        if !warmup.is_zero() {
            self.sleep(warmup)?;
            before = self.reading(published.load(Relaxed))?;
            self.ground.measured_from.store(before.at, Relaxed);
        }
        if options.stalled > 0 {
            self.stall()?;
        }
        let (publisher, ran) = publishing.join().map_err(|_| anyhow!("the publishing thread failed"))?;
        ran.context("publishing")?;
        self.settle(publisher, &before, report)
    }

    /// What is published, and how much of its time is warm-up.
    fn pace(&self) -> (Pace, Duration) {
        let options = self.options;
        let ns = ((options.warmup + options.seconds) * 1e9) as u64;
        let warmup = Duration::from_secs_f64(options.warmup);
        if let Some(per_second) = options.rate {
            (Pace::Rate { per_second, ns }, warmup)
        } else if let Some(events) = options.window {
            (Pace::Window { events, watched: options.watched(), ns }, warmup)
        } else {
            let each = options.resume.map(|each| each * u64::from(options.sessions));
            (Pace::Burst(each.or(options.burst).unwrap_or(0)), Duration::ZERO)
        }
    }

    /// Publishes probes until each client heard one.
    fn attach(&self, publisher: &mut Publisher) -> Result<()> {
        let attached = || self.board.sum(|gauges| &gauges.attached);
        let mut due = 0;
        self.until("attached", self.options.connections(), attached, PATIENCE, || {
            if self.ground.clock.now() >= due {
                publisher.probe(self.options.watched())?;
                due = self.ground.clock.now() + PROBES.as_nanos() as u64;
            }
            Ok(())
        })
    }

    /// Some clients stop reading for a while.
    fn stall(&self) -> Result<()> {
        self.order(&Order::Stall(true))?;
        self.sleep(Duration::from_secs_f64(self.options.stall_seconds))?;
        self.order(&Order::Stall(false))
    }

    /// All leave, events are published, all come back.
    fn resume(mut self, mut publisher: Publisher, pace: Pace, report: &mut Report) -> Result<()> {
        self.order(&Order::Close)?;
        self.until("left", 0, || self.board.sum(|gauges| &gauges.open), PATIENCE, || Ok(()))?;
        publisher.run(pace).context("publishing")?;
        self.ground.measured_from.store(u64::MAX, Relaxed);
        let before = self.reading(0)?;
        self.order(&Order::Open(self.options.within.get()))?;
        self.settle(publisher, &before, report)?;
        report.caught_up_s = Some(report.seconds);
        Ok(())
    }

    /// Waits for what is missing, and judges.
    fn settle(&mut self, publisher: Publisher, before: &Reading, report: &mut Report) -> Result<()> {
        let (counts, not_stored) = publisher.counts();
        let watched = &counts[..self.options.watched() as usize];
        report.events = counts.iter().sum();
        report.not_stored = not_stored;
        report.expected = watched.iter().sum::<u64>() * u64::from(self.options.clients);
        let delivered = || self.board.sum(|gauges| &gauges.delivered);
        // What does not come any more is found by the judge.
        let _missing = self.until("delivered", report.expected, delivered, self.options.settle.get(), || Ok(()));
        let after = self.reading(report.events)?;
        self.measured(before, &after, report);
        self.finish(Arc::new(counts), report)
    }

    fn measured(&self, before: &Reading, after: &Reading, report: &mut Report) {
        report.seconds = self.board.last().saturating_sub(before.at) as f64 / 1e9;
        report.measured_events = after.published - before.published;
        report.measured_deliveries = after.delivered - before.delivered;
        report.deliveries_per_s = report.measured_deliveries as f64 / report.seconds.max(1e-9);
        report.load_cpu_s = after.own.since(&before.own) as f64 / 1e9;
        if !self.server.is_empty() {
            let cpu = after.cpu.since(&before.cpu) as f64 / 1e9;
            report.cpu_s = Some(cpu);
            report.cpu_us_per_delivery =
                (report.measured_deliveries > 0).then(|| cpu * 1e6 / report.measured_deliveries as f64);
            report.cpu_us_per_event = (report.measured_events > 0).then(|| cpu * 1e6 / report.measured_events as f64);
        }
    }

    /// Ends the threads and adds up what they found.
    fn finish(&mut self, published: Arc<Vec<u64>>, report: &mut Report) -> Result<()> {
        report.rss_kib_after = self.rss()?;
        report.rss_kib_peak = if self.server.is_empty() { None } else { Some(self.server.peak_kib()?) };
        report.reopened = self.board.sum(|gauges| &gauges.reopened);
        self.order(&Order::Finish(published))?;
        let mut findings = Findings::new()?;
        for (_, _, thread) in self.readers.drain(..) {
            findings.add(&thread.join().map_err(|_| anyhow!("a reading thread failed"))??)?;
        }
        let micros = |share| findings.latency.value_at_quantile(share) as f64 / 1e3;
        if !findings.latency.is_empty() {
            (report.p50_us, report.p99_us) = (Some(micros(0.5)), Some(micros(0.99)));
            (report.p999_us, report.max_us) = (Some(micros(0.999)), Some(findings.latency.max() as f64 / 1e3));
        }
        report.deliveries = findings.tally.delivered;
        report.faults = Faults::from(&findings.tally);
        report.gaps = findings.gaps;
        report.exact = findings.tally.exact() && findings.gaps == 0 && report.deliveries == report.expected;
        // Where nothing comes back, an end is a fault.
        report.exact &= findings.ends.is_empty() || self.options.protocol == Protocol::Herald;
        report.ends = findings.ends;
        Ok(())
    }

    /// Waits until `gauge` is at `goal`, as long as it moves.
    fn until(
        &self,
        what: &str,
        goal: u64,
        gauge: impl Fn() -> u64,
        patience: Duration,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        let (mut seen, mut since) = (gauge(), self.ground.clock.now());
        loop {
            let now = gauge();
            if now == goal {
                return Ok(());
            }
            if let Some(why) = self.board.failure() {
                bail!("{why}");
            }
            if now != seen {
                (seen, since) = (now, self.ground.clock.now());
            } else if self.ground.clock.now() - since > patience.as_nanos() as u64 {
                bail!("{now} of {goal} {what}, and no more in {} s", patience.as_secs());
            }
            meanwhile()?;
            thread::park_timeout(LOOK);
        }
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        let end = self.ground.clock.now() + time.as_nanos() as u64;
        loop {
            let left = end.saturating_sub(self.ground.clock.now());
            if left == 0 {
                return self.board.failure().map_or(Ok(()), |why| bail!("{why}"));
            }
            thread::park_timeout(Duration::from_nanos(left));
        }
    }

    fn reading(&self, published: u64) -> Result<Reading> {
        Ok(Reading {
            at: self.ground.clock.now(),
            cpu: self.cpu()?,
            own: Processes::this().cpu().unwrap_or_default(),
            delivered: self.board.sum(|gauges| &gauges.delivered),
            published,
        })
    }

    fn cpu(&self) -> Result<Cpu> {
        self.server.cpu().context("--pid: no such process")
    }

    fn rss(&self) -> Result<Option<u64>> {
        if self.server.is_empty() {
            return Ok(None);
        }
        self.server.rss_kib().map(Some).context("--pid: no such process")
    }
}

fn resolve(address: &str) -> Result<SocketAddr> {
    let address = address.trim_end_matches('/');
    address
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .with_context(|| format!("{address} is no address"))
}
