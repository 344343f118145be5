//! Each way of failing, seen from both ends.

use std::time::Instant;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

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

async fn nothing_comes(stream: &mut TcpStream) {
    tokio::time::timeout(A_WHILE, stream.read_u8()).await.expect_err("nothing comes");
}

/// Both ends of a connection through a proxy that has passed something each way.
async fn both_ends() -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.write_all(b"a").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
    server.write_all(b"b").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'b');
    (proxy, client, server)
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
        assert_eq!(proxy.accepted(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_delay_is_latency_and_no_limit_on_what_is_on_its_way() {
    within(LIMIT, async {
        let proxy = Proxy::start(echo().await).await;
        let (by, jitter) = (Duration::from_millis(150), Duration::from_millis(50));
        proxy.set(Network::Delayed { by, jitter });
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let begun = Instant::now();
        // As reads of their own, each of them late: one after the other they would take 20 x 300 ms.
        for number in 0..20 {
            stream.write_u8(number).await.unwrap();
            tokio::task::yield_now().await;
        }
        for number in 0..20 {
            assert_eq!(stream.read_u8().await.unwrap(), number, "in order, whatever the jitter");
        }
        let took = begun.elapsed();
        assert!((by * 2..Duration::from_secs(4)).contains(&took), "{took:?}");

        stream.write_u8(1).await.unwrap();
        proxy.set(Network::Works);
        assert_eq!(stream.read_u8().await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_trickle_comes_in_pieces_and_whole() {
    within(LIMIT, async {
        let (proxy, mut client, mut server) = both_ends().await;
        proxy.set(Network::Trickling { bytes: 100, each: Duration::from_millis(20) });
        let begun = Instant::now();
        let sent: Vec<u8> = (0..=255).cycle().take(1000).collect();
        server.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        assert!(begun.elapsed() >= Duration::from_millis(9 * 20), "{:?}", begun.elapsed());

        // What trickles is let go when the network works again: 1 MB would have taken minutes.
        let mut rest = vec![7; 1 << 20];
        let (written, read) = {
            let more = rest.clone();
            let write = async move { server.write_all(&more).await.map(|()| server) };
            let read = async {
                client.read_exact(&mut rest[..100]).await?;
                proxy.set(Network::Works);
                client.read_exact(&mut rest[100..]).await
            };
            tokio::join!(write, read)
        };
        written.unwrap();
        read.unwrap();
    })
    .await;
}

#[tokio::test]
async fn half_open_is_silent_in_one_direction_even_about_the_end() {
    within(LIMIT, async {
        for way in [Direction::ToClient, Direction::ToServer] {
            let (proxy, client, server) = both_ends().await;
            // From here on: from the silent end, and to it.
            let (mut dumb, mut deaf) = if way == Direction::ToClient { (server, client) } else { (client, server) };
            proxy.set(Network::HalfOpen(way));
            deaf.write_u8(1).await.unwrap();
            assert_eq!(dumb.read_u8().await.unwrap(), 1, "this way works");
            dumb.write_u8(2).await.unwrap();
            dumb.shutdown().await.unwrap();
            nothing_comes(&mut deaf).await;
            proxy.set(Network::Works);
            assert_eq!(deaf.read_u8().await.unwrap(), 2);
            assert_eq!(deaf.read(&mut [0]).await.unwrap(), 0, "the end comes behind what was said before it");
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_is_read_by_both_and_a_reset_is_an_error_of_both() {
    within(LIMIT, async {
        let (proxy, mut client, mut server) = both_ends().await;
        proxy.cut_by(Cut::End);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);

        let (proxy, mut client, mut server) = both_ends().await;
        proxy.cut_by(Cut::Reset);
        for end in [&mut client, &mut server] {
            let error = end.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    })
    .await;
}

#[tokio::test]
async fn whoever_vanishes_says_nothing_and_hears_nothing_for_ever() {
    within(LIMIT, async {
        let (proxy, mut client, mut server) = both_ends().await;
        proxy.cut_by(Cut::Vanish);
        // More than any buffer on the way would hold: it goes nowhere, without an error.
        server.write_all(&vec![1; 16 << 20]).await.unwrap();
        nothing_comes(&mut client).await;
        client.write_u8(1).await.unwrap();
        drop(client);
        nothing_comes(&mut server).await;
        proxy.set(Network::Works);
        nothing_comes(&mut server).await;
        // Nobody listens behind the proxy any more: a new connection comes through to a refusal.
        let mut fresh = TcpStream::connect(proxy.address()).await.unwrap();
        let ended = fresh.read(&mut [0]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        assert_eq!(proxy.accepted(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_dropped_proxy_ends_its_connections() {
    within(LIMIT, async {
        let (proxy, mut client, mut server) = both_ends().await;
        proxy.cut_by(Cut::Vanish);
        drop(proxy);
        for end in [&mut client, &mut server] {
            let ended = end.read(&mut [0]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
    })
    .await;
}
