//! A network that can be broken: TCP passed on until a test says otherwise.
//!
//! A stopped server is gone for everybody; a proxy in front of it takes it away from one process alone, in the ways that
//! networks fail.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What happens to bytes and connections now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everything is passed on.
    Works,
    /// Connections stay, are even accepted, and nothing comes through, either way; it does when the network works again.
    Silent,
    /// Connections are cut, and new ones too.
    Down,
}

/// A proxy in front of one address. Ends when dropped, with its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`, which may not listen yet.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let network = watch::Sender::new(Network::Works);
        let accepting = tokio::spawn(accept(listener, target, network.subscribe()));
        Self { address, network, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://ADDRESS`, for a proxy in front of a nats-server.
    #[must_use]
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// `http://ADDRESS`.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks or mends the network.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Cuts all connections; new ones come through.
    pub fn cut(&self) {
        self.set(Network::Down);
        self.set(Network::Works);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, network: watch::Receiver<Network>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        while connections.try_join_next().is_some() {}
        if *network.borrow() != Network::Down {
            connections.spawn(pass(stream, target, network.clone()));
        }
    }
}

async fn pass(client: TcpStream, target: SocketAddr, mut network: watch::Receiver<Network>) {
    // Marked here, not where it was cloned: a cut from now on concerns this connection.
    network.mark_unchanged();
    let gate = network.clone();
    let passing = async {
        let mut gate = gate;
        works(&mut gate).await;
        let Ok(server) = TcpStream::connect(target).await else { return };
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        let mut back = gate.clone();
        tokio::join!(copy(client_in, server_out, &mut gate), copy(server_in, client_out, &mut back));
    };
    tokio::select! {
        () = passing => {}
        () = down(&mut network) => {}
    }
}

/// Waits for a cut, also one that is already over.
async fn down(network: &mut watch::Receiver<Network>) {
    let mut silent = *network.borrow() == Network::Silent;
    while network.changed().await.is_ok() {
        let now = *network.borrow_and_update();
        // From silence back to work is no cut; from work to work means that a cut lay between.
        if now == Network::Down || (now == Network::Works && !silent) {
            return;
        }
        silent = now == Network::Silent;
    }
}

async fn works(network: &mut watch::Receiver<Network>) {
    let working = network.wait_for(|network| *network == Network::Works).await.is_ok();
    if !working {
        // The proxy has gone, and ends this task.
        std::future::pending::<()>().await;
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, network: &mut watch::Receiver<Network>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        works(network).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // A half-closed connection stays half open.
    let _gone = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::within;

    const LIMIT: Duration = Duration::from_secs(20);
    const A_WHILE: Duration = Duration::from_millis(100);

    /// Sends what it gets back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.into_split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        address
    }

    async fn round(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn it_passes_on_keeps_back_and_cuts() {
        within(LIMIT, async {
            let proxy = Proxy::start(echo().await).await;
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(round(&mut stream).await.unwrap(), b'x');

            proxy.set(Network::Silent);
            tokio::time::timeout(A_WHILE, round(&mut stream)).await.expect_err("nothing comes");
            let mut second = TcpStream::connect(proxy.address()).await.unwrap();
            tokio::time::timeout(A_WHILE, round(&mut second)).await.expect_err("nor on a new one");
            proxy.set(Network::Works);
            assert_eq!(stream.read_u8().await.unwrap(), b'x', "what was kept back comes later");
            assert_eq!(second.read_u8().await.unwrap(), b'x');

            proxy.cut();
            round(&mut stream).await.expect_err("cut");
            let mut third = TcpStream::connect(proxy.address()).await.unwrap();
            assert_eq!(round(&mut third).await.unwrap(), b'x', "new ones work");

            proxy.set(Network::Down);
            round(&mut third).await.expect_err("cut");
            let mut fourth = TcpStream::connect(proxy.address()).await.unwrap();
            round(&mut fourth).await.expect_err("and new ones at once");
        })
        .await;
    }
}
