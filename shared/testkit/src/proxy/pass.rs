//! One connection through the proxy.

use std::{net::SocketAddr, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Cut, Direction, Network, State};

/// Bytes read at once.
const PART: usize = 16 << 10;
/// Parts on their way in one direction: 256 KiB, as much as a network may hold.
const PARTS: usize = 16;
/// How long an end that was told to finish may take to do so.
const FINISH: Duration = Duration::from_secs(1);

/// Passes bytes until both directions have ended, or until a cut: more of them than the `cuts` of its birth.
pub(super) async fn connection(mut client: TcpStream, target: SocketAddr, cuts: u64, state: watch::Receiver<State>) {
    let (mut opening, mut watching) = (state.clone(), state.clone());
    let reach = async {
        // A silent network keeps back the very first packet too.
        until(&mut opening, |network| network != Network::Silent).await;
        TcpStream::connect(target).await
    };
    let mut server = tokio::select! {
        server = reach => match server {
            Ok(server) => server,
            Err(_) => return,
        },
        how = cut(&mut watching, cuts) => match how {
            Cut::Vanish => return swallow(client).await,
            Cut::End | Cut::Reset => return,
        },
    };
    // What is measured through a proxy should not wait for its buffers.
    let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
    let how = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let there = one_way(client_in, server_out, Direction::ToServer, &state, cuts);
        let back = one_way(server_in, client_out, Direction::ToClient, &state, !cuts);
        tokio::select! {
            // From the cut on nothing passes, also of what had arrived already.
            biased;
            how = cut(&mut watching, cuts) => how,
            _ended = async { tokio::join!(there, back) } => return,
        }
    };
    match how {
        Cut::End => {
            tokio::join!(finish(client), finish(server));
        }
        Cut::Reset => {
            // A closed socket that does not linger says RST.
            let _best_effort = (client.set_zero_linger(), server.set_zero_linger());
        }
        Cut::Vanish => {
            tokio::join!(swallow(client), swallow(server));
        }
    }
}

/// Waits for a cut, also one that is already over.
async fn cut(state: &mut watch::Receiver<State>, cuts: u64) -> Cut {
    let how = state.wait_for(|state| state.cuts != cuts).await.map(|state| state.how);
    match how {
        Ok(how) => how,
        // The proxy has gone, and ends this task.
        Err(_) => std::future::pending().await,
    }
}

async fn until(state: &mut watch::Receiver<State>, is: impl Fn(Network) -> bool) {
    let gone = state.wait_for(|state| is(state.network)).await.is_err();
    if gone {
        std::future::pending::<()>().await;
    }
}

/// Says the end, and reads what is still said: a close with unread bytes would be a reset.
async fn finish(mut stream: TcpStream) {
    let _gone = stream.shutdown().await;
    let _late = tokio::time::timeout(FINISH, swallow(stream)).await;
}

/// Reads everything and says nothing, until the other end gives up.
async fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; 4 << 10];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Bytes on their way, and when they arrive.
type Part = (Instant, Vec<u8>);

async fn one_way(from: ReadHalf<'_>, to: WriteHalf<'_>, way: Direction, state: &watch::Receiver<State>, seed: u64) {
    let (sender, receiver) = mpsc::channel(PARTS);
    tokio::join!(take(from, sender, state.clone(), seed), give(receiver, to, way, state.clone()));
}

async fn take(from: ReadHalf<'_>, parts: mpsc::Sender<Part>, state: watch::Receiver<State>, seed: u64) {
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    // No buffer before there is something to read: thousands of connections are idle.
    while from.readable().await.is_ok() {
        let mut part = Vec::with_capacity(PART);
        match from.try_read_buf(&mut part) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let network = state.borrow().network;
        let delay = match network {
            Network::Delayed { by, jitter } => by + jitter.mul_f64(dice.random::<f64>()),
            _ => Duration::ZERO,
        };
        if parts.send((Instant::now() + delay, part)).await.is_err() {
            return;
        }
    }
}

async fn give(mut parts: mpsc::Receiver<Part>, mut to: WriteHalf<'_>, way: Direction, state: watch::Receiver<State>) {
    let mut state = state;
    let passes = |network| !matches!(network, Network::Silent | Network::Down) && network != Network::HalfOpen(way);
    while let Some((due, part)) = parts.recv().await {
        let mut left = part.as_slice();
        while !left.is_empty() {
            until(&mut state, passes).await;
            let network = state.borrow().network;
            let piece = match network {
                Network::Trickling { bytes, .. } => bytes.clamp(1, left.len()),
                _ => left.len(),
            };
            if matches!(network, Network::Delayed { .. }) && Instant::now() < due {
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    () = until(&mut state, |now| now != network) => {}
                }
                // The network may be another one by now.
                continue;
            }
            if to.write_all(&left[..piece]).await.is_err() {
                return;
            }
            left = &left[piece..];
            if let Network::Trickling { each, .. } = network {
                tokio::select! {
                    () = tokio::time::sleep(each) => {}
                    () = until(&mut state, |now| now != network) => {}
                }
            }
        }
    }
    // Nor does an end come through a network that passes nothing. Behind it, the other direction stays open.
    until(&mut state, passes).await;
    let _gone = to.shutdown().await;
}
