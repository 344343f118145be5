//! What a service's `start` is given.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use herald_protocol::InstanceId;
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::{self, Handle},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Common, health::Health, operations::Inspector, shutdown::Shutdown};

/// How long a thread of its own waits at its end for what blocks.
const BLOCKED: Duration = Duration::from_secs(1);

/// What a service's `start` is given: how it is told to stop, where it says how it is, and who it is. Clones share all of it.
#[derive(Clone, Debug)]
pub struct Context {
    /// When to stop.
    pub shutdown: Shutdown,
    /// Where to say what works.
    pub health: Health,
    /// The name of this process among its like.
    pub instance: InstanceId,
    /// The name of the service.
    pub service: &'static str,
    /// The configuration that every service has.
    pub common: Arc<Common>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tasks: TaskTracker,
    fatal: OnceLock<String>,
    ports: Mutex<Ports>,
    inspector: Inspector,
}

/// The addresses this process has bound to, as `HERALD_PORTS_FILE` shows them.
#[derive(Debug, Default, Serialize)]
struct Ports {
    operations: Option<SocketAddr>,
    listeners: Vec<SocketAddr>,
}

impl Context {
    /// A context of its own, not yet under a signal handler: [`crate::service::main`] and tests make one.
    #[must_use]
    pub fn new(service: &'static str, common: Common) -> Self {
        Self {
            shutdown: Shutdown::new(common.shutdown.limit.get()),
            health: Health::new(),
            instance: common.instance.clone(),
            service,
            shared: Arc::new(Shared {
                tasks: TaskTracker::new(),
                fatal: OnceLock::new(),
                ports: Mutex::new(Ports::default()),
                inspector: Inspector::new(common.operations.inspect),
            }),
            common: Arc::new(common),
        }
    }

    /// Binds a listener and announces its address under that name.
    ///
    /// # Errors
    /// With one clear sentence, above all if the port is in use.
    pub async fn listen(&self, name: &str, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let (listener, bound) = bind(address)?;
        self.announce(name, bound);
        Ok(listener)
    }

    /// Logs a bound listener and adds its address to the ports file, in the order of the calls. For listeners that
    /// [`Context::listen`] did not bind.
    pub fn announce(&self, name: &str, address: SocketAddr) {
        self.note(name, address, |ports| ports.listeners.push(address));
    }

    /// The same for the operations listener.
    pub(crate) async fn listen_operations(&self) -> Result<TcpListener, ListenError> {
        let (listener, bound) = bind(self.common.operations.address)?;
        self.note("operations", bound, |ports| ports.operations = Some(bound));
        Ok(listener)
    }

    /// Shows these routes, all of them `/inspect` or below, at the operations port, to whom `operations.inspect` lets see them.
    /// Once.
    pub fn inspect(&self, routes: axum::Router) {
        self.shared.inspector.show(routes);
    }

    pub(crate) fn inspector(&self) -> Inspector {
        self.shared.inspector.clone()
    }

    fn note(&self, name: &str, address: SocketAddr, change: impl FnOnce(&mut Ports)) {
        tracing::info!(%address, "{name} listening");
        let mut ports = self.shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut ports);
        if let Some(path) = &self.common.ports_file
            && let Err(error) = write_whole(path, &ports)
        {
            tracing::error!(path = %path.display(), %error, "ports file not written");
        }
    }

    /// Spawns a task that the process waits for at its end. A panic in it is fatal: a process that has lost one of its
    /// tasks must not look alive.
    pub fn supervise<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let context = self.clone();
        self.shared.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                context.fail(format!("the task {name} panicked"));
            }
        });
    }

    /// A thread with a runtime of its own, which lives until `end`: what is spawned on it never waits for other tasks, nor
    /// for another thread to wake up. The process waits for it at its end.
    ///
    /// # Errors
    /// Where the system gives no thread, or none of what a runtime needs.
    pub fn thread(&self, name: &str, end: CancellationToken) -> io::Result<Handle> {
        let (made, handle) = std::sync::mpsc::channel();
        let alive = self.shared.tasks.token();
        // Made and ended there: a runtime can't be dropped within another one.
        let work = move || {
            let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(made.send(Err(error))),
            };
            let _asked = made.send(Ok(runtime.handle().clone()));
            runtime.block_on(end.cancelled());
            // Its tasks end before the process is told that it has; what blocks (a name that is looked up) is not waited for.
            runtime.shutdown_timeout(BLOCKED);
            drop(alive);
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        handle.recv().map_err(io::Error::other)?
    }

    /// Ends the process with exit code 1 for that reason (one sentence), by way of an ordered shutdown.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(reason, "fatal, shutting down");
        // The first reason is the cause, later ones mostly its consequences.
        let _first = self.shared.fatal.set(reason);
        self.health.stopping();
        self.shutdown.begin();
    }

    /// The reason given to [`Context::fail`], if it was called.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.fatal.get().map(String::as_str)
    }

    /// Waits for all supervised tasks. Safe to cancel.
    pub(crate) async fn finish(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// A listener that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error("the address {0} is already in use: another process listens there")]
    InUse(SocketAddr),
    /// Ports below 1024 often need a privilege.
    #[error("no permission to listen on {0}")]
    NotPermitted(SocketAddr),
    /// The machine has no such address.
    #[error("this machine has no address {}", .0.ip())]
    NoSuchAddress(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Connections that may wait to be taken; the system may allow fewer. When clients come back by the thousand, one that finds no
/// room tries again after a whole second.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let fault = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse(address),
        io::ErrorKind::PermissionDenied => ListenError::NotPermitted(address),
        io::ErrorKind::AddrNotAvailable => ListenError::NoSuchAddress(address),
        _ => ListenError::Other { address, source },
    };
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart need not wait until the system has forgotten the last connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let listener = listen().map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    Ok((listener, bound))
}

/// Writes the file so that a reader sees all of it or nothing.
fn write_whole(path: &Path, ports: &Ports) -> io::Result<()> {
    let part = path.with_added_extension("part");
    std::fs::write(&part, serde_json::to_vec(ports)?)?;
    std::fs::rename(part, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new("test", Common::with_operations_port(0))
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_in_one_sentence() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = taken.local_addr().expect("address");
        let error = context().listen("public", address).await.expect_err("in use");
        assert_eq!(
            error.to_string(),
            format!("the address {address} is already in use: another process listens there")
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let error = context().listen("public", "192.0.2.1:0".parse().expect("address")).await.expect_err("not ours");
        assert_eq!(error.to_string(), "this machine has no address 192.0.2.1");
    }

    #[tokio::test]
    async fn the_ports_file_holds_what_is_bound() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("ports.json");
        let common = Common { ports_file: Some(path.clone()), ..Common::with_operations_port(0) };
        let context = Context::new("test", common);
        let operations = context.listen_operations().await.expect("bind").local_addr().expect("address");
        let public = context.listen("public", "127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let inner = context.listen("inner", "127.0.0.1:0".parse().expect("address")).await.expect("bind");

        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("file")).expect("json");
        let listeners = [public.local_addr().expect("address"), inner.local_addr().expect("address")];
        assert_eq!(ports, serde_json::json!({ "operations": operations, "listeners": listeners }));
    }

    #[tokio::test]
    async fn what_runs_on_a_thread_of_its_own_is_waited_for() {
        let (context, end) = (context(), CancellationToken::new());
        let handle = context.thread("apart", end.clone()).expect("thread");
        let (inner, done) = (context.clone(), end.clone());
        let name = handle.spawn(async move {
            inner.supervise("on it", async move { done.cancelled().await });
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(name.await.expect("ran").as_deref(), Some("apart"));
        let waiting = context.finish();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending(), "it still runs");
        end.cancel();
        waiting.await;
    }

    #[tokio::test]
    async fn a_panicking_task_ends_the_process() {
        let context = context();
        context.supervise("intake", async { panic!("broken") });
        context.shutdown.begun().await;
        assert_eq!(context.failure(), Some("the task intake panicked"));
        assert!(!context.health.ready());
        context.finish().await;
    }
}
