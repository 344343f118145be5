//! Our own services as processes: built binaries on free ports, isolated from the tester's environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    eventually,
    http::{self, Reply},
    port::Reserved,
    process::Process,
};

/// How long a service may take to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long a planned end may take: what the services promise, and a little.
pub const SHUTDOWN: Duration = Duration::from_secs(27);

/// How to start one of our services, in any number of processes.
#[derive(Clone, Debug)]
pub struct Launch {
    binary: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: Option<String>,
    // Only kept: the environment names it.
    _port: Option<Arc<Reserved>>,
}

impl Launch {
    /// The program of that name in the target folder.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self { binary: binary.to_owned(), arguments: Vec::new(), environment: Vec::new(), config: None, _port: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable. Of the tester's own environment, nothing that configures a service is passed on.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Sets one configuration key, as `--set` does.
    #[must_use]
    pub fn set(self, key: &str, value: impl std::fmt::Display) -> Self {
        self.arg("--set").arg(format!("{key}={value}"))
    }

    /// Puts a `herald.toml` of that text into the process's folder.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Sets a variable to a port that it keeps when it is started again.
    #[must_use]
    pub fn port_env(self, name: &str) -> Self {
        let port = Reserved::take();
        let value = port.port().to_string();
        Self { _port: Some(Arc::new(port)), ..self }.env(name, value)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready within 20 s.
    pub async fn start(self) -> Service {
        let mut service = self.spawn();
        service.wait_ready(READY).await;
        service
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// If its program is missing or older than its sources.
    #[must_use]
    pub fn spawn(self) -> Service {
        let folder = tempfile::Builder::new().prefix(&format!("herald-{}-", self.binary)).tempdir().expect("a folder");
        if let Some(text) = &self.config {
            std::fs::write(folder.path().join("herald.toml"), text).expect("a configuration file");
        }
        let process = self.process(folder.path());
        Service { process, launch: self, folder, ports: Ports::default() }
    }

    fn process(&self, folder: &Path) -> Process {
        let mut command = std::process::Command::new(program(&self.binary));
        let of_the_tester = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in of_the_tester.filter(|name| {
            name.starts_with("HERALD_") || ["NATS_URL", "GM_BASE_URL", "PORT", "RUST_LOG"].contains(&name.as_str())
        }) {
            command.env_remove(name);
        }
        command.current_dir(folder).args(&self.arguments);
        command.env("HERALD_PORTS_FILE", folder.join("ports.json"));
        command.env("HERALD_OPERATIONS__ADDRESS", "127.0.0.1:0");
        command.env("HERALD_LOG__FORMAT", "pretty");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(&self.binary, command, &folder.join("log"))
    }
}

/// A running service. Killed when dropped; its log is printed if the test fails.
#[derive(Debug)]
pub struct Service {
    // The order is that of the drops: the process before its folder.
    process: Process,
    launch: Launch,
    ports: Ports,
    folder: TempDir,
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
        *listeners.get(index).unwrap_or_else(|| panic!("{}: no listener {index}: {listeners:?}", self.launch.binary))
    }

    /// Its operations port.
    ///
    /// # Panics
    /// If it has not said so yet.
    #[must_use]
    pub fn operations(&self) -> SocketAddr {
        self.ports.operations.unwrap_or_else(|| panic!("{}: no operations port yet", self.launch.binary))
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
        let name = format!("{} {what}", self.launch.binary);
        eventually(&name, bound, async || {
            if !self.process.running() {
                let status = self.process.wait(Duration::ZERO).await;
                panic!("{name}: it has ended with {status}");
            }
            self.read_ports();
            let Some(operations) = self.ports.operations else { return Err("no ports file yet".to_owned()) };
            let asked = http::try_send(hyper::Method::GET, &format!("http://{operations}/readyz"), &[], "").await?;
            let body = serde_json::from_slice(&asked.body).unwrap_or_default();
            if !is(asked.status, &body) {
                return Err(format!("{} {body}", asked.status));
            }
            // Listeners are announced before a service is ready.
            self.read_ports();
            Ok(body)
        })
        .await
    }

    /// Waits until it has announced that many listeners, for programs without an operations port.
    ///
    /// # Panics
    /// If it ends, or does not within `bound`.
    pub async fn wait_listeners(&mut self, count: usize, bound: Duration) {
        let name = format!("{} listens", self.launch.binary);
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
        assert!(!self.process.running(), "{} is still running", self.launch.binary);
        let _not_there = std::fs::remove_file(self.ports_file());
        self.ports = Ports::default();
        self.process = self.launch.process(self.folder.path());
        self.wait_ready(READY).await;
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

/// What `--print-config` of one of our services prints where nothing configures it.
///
/// # Panics
/// If it prints none.
#[must_use]
pub fn printed_config(binary: &str) -> String {
    let output = std::process::Command::new(program(binary)).arg("--print-config").env_clear().output();
    let output = output.expect("the service");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The program in the target folder that this test program was built into.
fn program(name: &str) -> PathBuf {
    let me = std::env::current_exe().expect("a test program");
    let places =
        me.ancestors().skip(1).take(2).flat_map(|folder| [folder.join(name), folder.join("examples").join(name)]);
    let found = places.into_iter().find(|path| path.is_file());
    let path =
        found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace --bins --examples` first"));
    if let Some(source) = newer_source(&path) {
        panic!("{name} is older than {}: run `cargo build --workspace --bins --examples` first", source.display());
    }
    path
}

/// A source that was changed after the program was built. Cargo lists a program's sources beside it, in Makefile form.
fn newer_source(program: &Path) -> Option<PathBuf> {
    let changed =
        |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let list = std::fs::read_to_string(program.with_added_extension("d")).ok()?;
    let built = changed(program);
    let (_, sources) = list.lines().next()?.split_once(": ")?;
    sources.split(' ').map(PathBuf::from).find(|source| changed(source) > built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "no-such-program is not built: run `cargo build")]
    fn a_program_that_was_not_built_is_named() {
        let _path = program("no-such-program");
    }

    #[test]
    fn a_program_older_than_its_sources_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str, seconds: u64| {
            std::fs::write(place(name), "").unwrap();
            let file = std::fs::File::options().write(true).open(place(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let (program, old, new) = (place("program"), place("old.rs"), place("new.rs"));
        std::fs::write(place("program.d"), format!("{}: {} {}\n", program.display(), old.display(), new.display()))
            .unwrap();
        for (name, seconds) in [("program", 100), ("old.rs", 99), ("new.rs", 100)] {
            write(name, seconds);
        }
        assert_eq!(newer_source(&program), None);
        write("new.rs", 101);
        assert_eq!(newer_source(&program), Some(new));
    }
}
