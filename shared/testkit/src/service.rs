//! Our own services as processes: built binaries on free ports, isolated from the tester's environment.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    eventually,
    folder::Folder,
    http::{self, Reply},
    process::Process,
};

pub use launch::Launch;
pub use program::printed_config;
pub(crate) use program::program;

mod launch;
mod program;

/// How long a service may take to become ready.
const READY: Duration = Duration::from_secs(20);
/// How often a service is asked whether it is ready.
const PACE: Duration = Duration::from_millis(10);
/// How long a planned end may take: what the services promise, and a little.
pub const SHUTDOWN: Duration = Duration::from_secs(27);

/// A running service. Killed when dropped; its log is printed if the test fails.
#[derive(Debug)]
pub struct Service {
    // The order is that of the drops: the process before its folder.
    process: Process,
    launch: Launch,
    ports: Ports,
    folder: Folder,
}

#[derive(Clone, Debug, Default)]
struct Ports {
    operations: Option<SocketAddr>,
    listeners: Vec<SocketAddr>,
}

impl Service {
    /// Its process, for signals and logs.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where it listens: its first listener.
    ///
    /// # Panics
    /// If it has not said so yet.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// Where it listens, in the order of its configuration.
    ///
    /// # Panics
    /// If it has not said so yet.
    #[must_use]
    pub fn listener(&self, index: usize) -> SocketAddr {
        let listeners = &self.ports.listeners;
        *listeners.get(index).unwrap_or_else(|| panic!("{}: no listener {index}: {listeners:?}", self.launch.binary()))
    }

    /// Its operations port.
    ///
    /// # Panics
    /// If it has not said so yet.
    #[must_use]
    pub fn operations(&self) -> SocketAddr {
        self.ports.operations.unwrap_or_else(|| panic!("{}: no operations port yet", self.launch.binary()))
    }

    /// `http://ADDRESS<path>` of its first listener.
    #[must_use]
    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// `ws://ADDRESS<path>` of its first listener.
    #[must_use]
    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// `GET` at its first listener.
    pub async fn get(&self, path: &str) -> Reply {
        http::get(&self.http(path)).await
    }

    /// `POST` of JSON to its first listener.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        http::post_json(&self.http(path), body).await
    }

    /// What `/readyz` says, with its status.
    pub async fn readyz(&self) -> (u16, Value) {
        let reply = http::get(&format!("http://{}/readyz", self.operations())).await;
        (reply.status, reply.json())
    }

    /// All metrics as text.
    pub async fn metrics(&self) -> String {
        http::get(&format!("http://{}/metrics", self.operations())).await.text()
    }

    /// The sum of a metric over its labels, 0 if there is none. `labels` must all stand in a line, as `reason="x"`.
    ///
    /// # Panics
    /// If a value is no number.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics().await;
        let of_name = metrics.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        of_name.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().expect("a number")).sum()
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready within `bound`, with what `/readyz` said last.
    pub async fn wait_ready(&mut self, bound: Duration) {
        self.wait_readyz("ready", bound, |status, _| status == 200).await;
    }

    /// Waits until it answers and is not ready; returns its reasons.
    ///
    /// # Panics
    /// If it ends, or is still ready after `bound`.
    pub async fn wait_not_ready(&mut self, bound: Duration) -> Value {
        self.wait_readyz("not ready", bound, |status, _| status == 503).await
    }

    /// Waits until `/readyz` answers what `is` wants: status and body.
    ///
    /// # Panics
    /// If it ends, or does not within `bound`.
    pub async fn wait_readyz(&mut self, what: &str, bound: Duration, is: impl Fn(u16, &Value) -> bool) -> Value {
        let name = format!("{} {what}", self.launch.binary());
        eventually(&name, bound, async || {
            if !self.process.running() {
                let status = self.process.wait(Duration::ZERO).await;
                panic!("{name}: it has ended with {status}");
            }
            let (status, body) = self.look().await?;
            if is(status, &body) { Ok(body) } else { Err(format!("{status} {body}")) }
        })
        .await
    }

    /// Waits until it is ready, as [`Service::wait_ready`]; how long that took.
    ///
    /// # Errors
    /// In words, if it ends or is not ready within `bound`.
    pub async fn ready_within(&mut self, bound: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        loop {
            if !self.process.running() {
                let status = self.process.wait(Duration::ZERO).await;
                return Err(format!("ended with {status} instead of becoming ready"));
            }
            let left = bound.saturating_sub(begun.elapsed());
            let why = match tokio::time::timeout(left, self.look()).await {
                Ok(Ok((200, _))) => return Ok(begun.elapsed()),
                Ok(Ok((status, body))) => format!("{status} {body}"),
                Ok(Err(error)) => error,
                Err(_) => "no answer".to_owned(),
            };
            if begun.elapsed() >= bound {
                return Err(format!("not ready within {bound:?}: {why}"));
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Status and body of `/readyz` now.
    async fn look(&mut self) -> Result<(u16, Value), String> {
        self.read_ports();
        let Some(operations) = self.ports.operations else { return Err("no ports file yet".to_owned()) };
        let asked = http::try_send(hyper::Method::GET, &format!("http://{operations}/readyz"), &[], "").await?;
        // Listeners are announced before a service is ready.
        self.read_ports();
        Ok((asked.status, serde_json::from_slice(&asked.body).unwrap_or_default()))
    }

    /// Waits until it has announced that many listeners, for programs without an operations port.
    ///
    /// # Panics
    /// If it ends, or does not within `bound`.
    pub async fn wait_listeners(&mut self, count: usize, bound: Duration) {
        let name = format!("{} listens", self.launch.binary());
        eventually(&name, bound, async || {
            self.read_ports();
            assert!(self.process.running(), "{name}: it has ended");
            if self.ports.listeners.len() >= count { Ok(()) } else { Err(self.ports.listeners.clone()) }
        })
        .await;
    }

    /// Asks it to end (SIGTERM) and waits, as long as a planned end may take.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.terminate(SHUTDOWN).await
    }

    /// Ends it at once (SIGKILL).
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again after its end, and waits until it is ready. Its ports are new, but for [`Launch::port_env`].
    ///
    /// # Panics
    /// If it is still running, or does not become ready.
    pub async fn restart(&mut self) {
        self.relaunch();
        self.wait_ready(READY).await;
    }

    /// Starts it again after its end, as [`Service::restart`], and waits for nothing.
    ///
    /// # Panics
    /// If it is still running.
    pub fn relaunch(&mut self) {
        assert!(!self.process.running(), "{} is still running", self.launch.binary());
        let _not_there = std::fs::remove_file(self.ports_file());
        self.ports = Ports::default();
        self.process = self.launch.process(self.folder.path());
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn ports_file(&self) -> PathBuf {
        self.folder.path().join("ports.json")
    }

    /// Files are replaced as a whole: what can be read is complete.
    fn read_ports(&mut self) {
        let Ok(bytes) = std::fs::read(self.ports_file()) else { return };
        let ports: Value = serde_json::from_slice(&bytes).expect("a ports file is JSON");
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        self.ports = Ports {
            operations: address(&ports["operations"]),
            listeners: ports["listeners"].as_array().into_iter().flatten().filter_map(address).collect(),
        };
    }
}
