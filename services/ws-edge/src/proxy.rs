//! Who is at the other end where proxies stand in between: the first one that no proxy of ours vouches for.
//!
//! Two ways of being told are known, and both are believed from trusted networks alone: the PROXY protocol, before anything
//! else on a connection, and `X-Forwarded-For` with each request. The header `Forwarded` is not: a proxy that writes the one
//! passes the other on as its client made it up, and we can't know which one that is.

mod forwarded;
mod protocol;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use metrics::counter;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};

use crate::config::ListenerConfig;
use forwarded::{Told, Way};

/// Where proxies say whom they speak for.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Some IP addresses: `10.0.0.0/8`, `fd00::/8`, or a single `192.0.2.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network such as 10.0.0.0/8 or fd00::/8, and no address")]
pub struct BadNetwork(String);

/// Whether connections begin with the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does; where one begins that way all the same, it is a bad request.
    #[default]
    Off,
    /// Those from trusted networks may; from others it is a bad request.
    Accept,
    /// All do, and come from trusted networks. Everything else is closed.
    Require,
}

/// The proxies of one listener.
#[derive(Debug)]
pub struct Proxies {
    trusted: Vec<Network>,
    protocol: ProxyProtocol,
    patience: Duration,
}

/// What became of what a request said of where it comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Vouched {
    /// It said nothing.
    #[default]
    Nothing,
    /// It said nothing, and is a trusted proxy's own.
    Silent,
    /// It said nothing to be believed; that of its connection was, by the PROXY protocol.
    Protocol,
    /// It was believed, by so many proxies.
    By(usize),
    /// Whoever said it is no trusted proxy.
    Untrusted,
    /// A trusted proxy said what makes no sense.
    Malformed,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It is from no trusted network.
    #[error("the PROXY protocol is required, and the peer is no trusted proxy")]
    Untrusted,
    /// It begins with something else.
    #[error("the PROXY protocol is required, and the connection does not begin with it")]
    Missing,
    /// It is broken, or longer than any.
    #[error("what the proxy says is not the PROXY protocol: {0}")]
    Malformed(String),
    /// Nothing, or not all of it, came in time.
    #[error("the proxy did not say in time for whom it speaks")]
    Late,
    /// It was closed before: so do those who only look whether we are there.
    #[error("closed before it began")]
    Closed,
    /// The socket failed.
    #[error("the connection broke off")]
    Socket(#[from] io::Error),
}

impl Proxies {
    /// Those that `listener` trusts, which have `patience` for the PROXY protocol.
    #[must_use]
    pub fn of(listener: &ListenerConfig, patience: Duration) -> Self {
        if listener.trusted_proxies.iter().any(Network::is_everything) {
            tracing::warn!(listener = %listener.name, "every address is a trusted proxy: who comes in can claim to be anybody");
        }
        Self::new(&listener.trusted_proxies, listener.proxy_protocol, patience)
    }

    /// Those of `trusted`, which have `patience` for the PROXY protocol.
    #[must_use]
    pub fn new(trusted: &[Network], protocol: ProxyProtocol, patience: Duration) -> Self {
        Self { trusted: trusted.to_vec(), protocol, patience }
    }

    /// Whether whoever has this address is believed when it speaks for others.
    #[must_use]
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted.iter().any(|network| network.0.contains(&ip))
    }

    /// Whose connection it is, of which nothing was read yet: its own `address`, or the one that a trusted proxy says. What
    /// follows the proxy's words is left to be read.
    ///
    /// # Errors
    /// [`ProxyError`], counted. The connection is then of no use.
    pub async fn client_of(&self, tcp: &mut TcpStream, address: SocketAddr) -> Result<SocketAddr, ProxyError> {
        let told = match (self.protocol, self.trusts(address.ip())) {
            (ProxyProtocol::Off, _) | (ProxyProtocol::Accept, false) => return Ok(address),
            (ProxyProtocol::Require, false) => Err(ProxyError::Untrusted),
            (_, true) => timeout(self.patience, protocol::read(tcp)).await.unwrap_or(Err(ProxyError::Late)),
        };
        let client = match told {
            Ok(None) if self.protocol == ProxyProtocol::Require => Err(ProxyError::Missing),
            // Its own, as for the questions it asks about our health.
            Ok(told) => Ok(told.flatten().unwrap_or(address)),
            Err(error) => Err(error),
        };
        client.inspect_err(|error| {
            if let Some(reason) = error.reason() {
                counter!("herald_connections_refused_total", "reason" => reason).increment(1);
            }
        })
    }

    /// Whose request it is that came over a connection from `from`. Its `X-Forwarded-For` is true afterwards: what is
    /// believed of it, and `from` at its end.
    pub fn client_of_request(&self, headers: &mut HeaderMap, from: SocketAddr) -> (SocketAddr, Vouched) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let said = headers.contains_key(&FORWARDED_FOR);
        let lines = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).rev();
        let Way { hops, end } = Way::back(lines, from, |ip| self.trusts(ip));
        let vouched = match end {
            Told::Malformed => Vouched::Malformed,
            Told::Nothing if hops.len() == 1 => Vouched::Silent,
            Told::Untrusted if hops.len() == 1 && said => Vouched::Untrusted,
            Told::Untrusted if hops.len() == 1 => Vouched::Nothing,
            _ => Vouched::By(hops.len() - 1),
        };
        match vouched {
            Vouched::Malformed => refused("malformed"),
            Vouched::Untrusted => refused("untrusted"),
            Vouched::Nothing | Vouched::Silent | Vouched::Protocol | Vouched::By(_) => {}
        }
        let way: Vec<_> = hops.iter().rev().map(|hop| hop.ip().to_string()).collect();
        match HeaderValue::try_from(way.join(", ")) {
            Ok(way) => headers.insert(FORWARDED_FOR, way),
            Err(_) => headers.remove(FORWARDED_FOR),
        };
        (hops.last().copied().unwrap_or(from), vouched)
    }
}

fn refused(reason: &'static str) {
    counter!("herald_forwarded_for_refused_total", "reason" => reason).increment(1);
}

impl ProxyError {
    const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Untrusted => Some("proxy_untrusted"),
            Self::Missing => Some("proxy_missing"),
            Self::Malformed(_) => Some("proxy_malformed"),
            Self::Late => Some("proxy_late"),
            Self::Closed | Self::Socket(_) => None,
        }
    }
}

impl Network {
    /// Whether every address is in it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| Self(network.trunc())).map_err(|_| BadNetwork(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    fn proxies(trusted: &[&str], protocol: ProxyProtocol) -> Proxies {
        let trusted: Vec<_> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        Proxies::new(&trusted, protocol, Duration::from_secs(5))
    }

    /// From where a request comes, its headers, and what is made of it.
    type Row<'a> = (&'a str, &'a [&'a str], (&'a str, Vouched, &'a str));

    fn asked(proxies: &Proxies, from: &str, lines: &[&str]) -> (String, Vouched, String) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let (client, vouched) = proxies.client_of_request(&mut headers, from.parse().unwrap());
        let all: Vec<_> = headers.get_all(&FORWARDED_FOR).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(all.len(), 1);
        (client.to_string(), vouched, all[0].to_owned())
    }

    #[test]
    fn networks_are_read_with_and_without_a_prefix() {
        for (text, shown) in
            [("10.1.2.3/8", "10.0.0.0/8"), ("192.0.2.1", "192.0.2.1/32"), ("fd00::/8", "fd00::/8"), ("::1", "::1/128")]
        {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        for bad in ["", "10.0.0.0/33", "10.0.0", "private", "10.0.0.1:80", "10.0.0.0/8/8"] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork(bad.to_owned())));
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().is_everything());
    }

    #[test]
    fn a_request_is_believed_as_far_as_trusted_proxies_vouch_for_it() {
        let ours = proxies(&["10.0.0.0/8", "fd00::/8", "127.0.0.1"], ProxyProtocol::Off);
        let table: &[Row<'_>] = &[
            ("10.0.0.1:9", &[], ("10.0.0.1:9", Vouched::Silent, "10.0.0.1")),
            ("10.0.0.1:9", &["203.0.113.7"], ("203.0.113.7:0", Vouched::By(1), "203.0.113.7, 10.0.0.1")),
            // What the client itself claimed stands further left.
            ("10.0.0.1:9", &["6.6.6.6, 203.0.113.7"], ("203.0.113.7:0", Vouched::By(1), "203.0.113.7, 10.0.0.1")),
            ("10.0.0.1:9", &["6.6.6.6", "203.0.113.7"], ("203.0.113.7:0", Vouched::By(1), "203.0.113.7, 10.0.0.1")),
            (
                "127.0.0.1:9",
                &["6.6.6.6, 203.0.113.7,10.9.9.9"],
                ("203.0.113.7:0", Vouched::By(2), "203.0.113.7, 10.9.9.9, 127.0.0.1"),
            ),
            // All are ours: the one furthest away.
            ("10.0.0.1:9", &["10.0.0.3, 10.0.0.2"], ("10.0.0.3:0", Vouched::By(2), "10.0.0.3, 10.0.0.2, 10.0.0.1")),
            ("10.0.0.1:9", &["203.0.113.7:4711"], ("203.0.113.7:4711", Vouched::By(1), "203.0.113.7, 10.0.0.1")),
            ("[fd00::1]:9", &["[2001:db8::7]:4711"], ("[2001:db8::7]:4711", Vouched::By(1), "2001:db8::7, fd00::1")),
            ("[fd00::1]:9", &["[2001:db8::7]"], ("[2001:db8::7]:0", Vouched::By(1), "2001:db8::7, fd00::1")),
            // A socket for both families shows the one in the other's clothes.
            (
                "[::ffff:10.0.0.1]:9",
                &["::ffff:203.0.113.7"],
                ("203.0.113.7:0", Vouched::By(1), "203.0.113.7, 10.0.0.1"),
            ),
            // Not ours: nothing survives.
            ("198.51.100.2:9", &["203.0.113.7"], ("198.51.100.2:9", Vouched::Untrusted, "198.51.100.2")),
            ("198.51.100.2:9", &[], ("198.51.100.2:9", Vouched::Nothing, "198.51.100.2")),
        ];
        for (from, lines, (client, vouched, header)) in table {
            let expected = ((*client).to_owned(), *vouched, (*header).to_owned());
            assert_eq!(asked(&ours, from, lines), expected, "{from} {lines:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_the_proxys_own_request() {
        let ours = proxies(&["10.0.0.0/8"], ProxyProtocol::Off);
        let endless = vec!["10.0.0.2"; 100].join(",");
        let bad = [
            "",
            " ",
            ",",
            "unknown",
            "unix:",
            "_hidden",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4:x",
            "1.2.3.4:70000",
            "[::1",
            "::1]",
            "fe80::1%eth0",
            "203.0.113.7,",
            "203.0.113.7;10.0.0.2",
            "\u{e9}",
            "1.2.3.4 5.6.7.8",
            "for=1.2.3.4",
            "01.2.3.4",
        ];
        for bad in bad {
            let expected = ("10.0.0.1:9".to_owned(), Vouched::Malformed, "10.0.0.1".to_owned());
            assert_eq!(asked(&ours, "10.0.0.1:9", &[bad]), expected, "{bad:?}");
        }
        assert_eq!(asked(&ours, "10.0.0.1:9", &[&endless]).1, Vouched::Malformed, "more proxies than anybody has");
        // The one that said it is known by the one before it.
        let (client, vouched, way) = asked(&ours, "10.0.0.1:9", &["203.0.113.7, nonsense, 10.0.0.2"]);
        assert_eq!((client.as_str(), vouched, way.as_str()), ("10.0.0.2:0", Vouched::Malformed, "10.0.0.2, 10.0.0.1"));
        // Further left than anybody asks: the client's own words.
        assert_eq!(asked(&ours, "10.0.0.1:9", &["\u{e9}, nonsense, 203.0.113.7"]).0, "203.0.113.7:0");
    }

    /// What becomes of a connection that begins with `bytes`, and what is left to be read of it.
    async fn taken(proxies: &Proxies, pieces: &[&[u8]]) -> Result<(SocketAddr, bool, Vec<u8>), ProxyError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut tcp, address) = listener.accept().await.unwrap();
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (taken, ()) = tokio::join!(proxies.client_of(&mut tcp, address), sending);
        let mut left = Vec::new();
        let client = taken?;
        tcp.read_to_end(&mut left).await.unwrap();
        Ok((client, client == address, left))
    }

    #[tokio::test]
    async fn a_connection_is_whose_the_proxy_says_and_what_follows_is_left() {
        use ppp::v2::{Builder, Command, Protocol, Version};
        let addresses =
            ("203.0.113.7:4711".parse::<SocketAddr>().unwrap(), "10.0.0.1:80".parse::<SocketAddr>().unwrap());
        let v2 = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
        let v2 = v2.write_tlv(0xE0_u8, &[7; 300]).unwrap().build().unwrap();
        let local = Builder::new(Version::Two | Command::Local, 0).build().unwrap();
        let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec();
        let v1_v6 = b"PROXY TCP6 2001:db8::7 fd00::1 4711 80\r\n".to_vec();
        let table = [
            (v1, "203.0.113.7:4711"),
            (v2, "203.0.113.7:4711"),
            (v1_v6, "[2001:db8::7]:4711"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "its own"),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), "its own"),
            (local, "its own"),
        ];
        for mode in [ProxyProtocol::Accept, ProxyProtocol::Require] {
            let ours = proxies(&["127.0.0.0/8"], mode);
            for (head, expected) in &table {
                let whole = [head.as_slice(), b"GET / HTTP/1.1"].concat();
                for step in [1, 5, 13, whole.len()] {
                    let pieces: Vec<_> = whole.chunks(step).collect();
                    let (client, own, left) = taken(&ours, &pieces).await.unwrap();
                    assert_eq!(left, b"GET / HTTP/1.1", "in pieces of {step}");
                    assert!(if *expected == "its own" { own } else { client.to_string() == *expected }, "{client}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_believed_is_closed_or_left_alone() {
        let v1 = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".as_slice();
        // From others it is not looked at, and a bad request for whoever reads it.
        for (trusted, mode) in [
            ("127.0.0.0/8", ProxyProtocol::Off),
            ("10.0.0.0/8", ProxyProtocol::Accept),
            ("10.0.0.0/8", ProxyProtocol::Off),
        ] {
            let (_, own, left) = taken(&proxies(&[trusted], mode), &[v1]).await.unwrap();
            assert!(own && left == v1, "{trusted} {mode:?}");
        }
        let require = |trusted| proxies(&[trusted], ProxyProtocol::Require);
        assert!(matches!(taken(&require("10.0.0.0/8"), &[v1]).await, Err(ProxyError::Untrusted)));
        for request in [b"GET / HTTP/1.1\r\n".as_slice(), b"PUT / HTTP/1.1", b"POST / HTTP/1.1", b"\r\n\r\nGET"] {
            assert!(matches!(taken(&require("127.0.0.1"), &[request]).await, Err(ProxyError::Missing)), "{request:?}");
            let (_, own, left) = taken(&proxies(&["127.0.0.1"], ProxyProtocol::Accept), &[request]).await.unwrap();
            assert!(own && left == request);
        }
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice();
        let version =
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c\x01\x02\x03\x04\x01\x02\x03\x04\x00\x01\x00\x02".as_slice();
        let short = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04\x01\x02\x03\x04".as_slice();
        let lines = [
            b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n".as_slice(),
            b"PROXY X\r\n",
            b"PROXY TCP6 :: :: 0 0 \n",
            b"PROXY TCP4\r203.0.113.7\r10.0.0.1\r1\r2\r\n",
        ];
        for broken in lines.into_iter().chain([&long, huge, version, short]) {
            for mode in [ProxyProtocol::Accept, ProxyProtocol::Require] {
                let taken = taken(&proxies(&["127.0.0.1"], mode), &[broken]).await;
                assert!(matches!(taken, Err(ProxyError::Malformed(_))), "{} {taken:?}", broken.escape_ascii());
            }
        }
        assert!(matches!(taken(&require("127.0.0.1"), &[]).await, Err(ProxyError::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_says_nothing_is_not_waited_for_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for said in [b"".as_slice(), b"PRO", b"PROXY TCP4 203.0.113.7", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01"] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut tcp, address) = listener.accept().await.unwrap();
            client.write_all(said).await.unwrap();
            let ours = proxies(&["127.0.0.1"], ProxyProtocol::Accept);
            assert!(matches!(ours.client_of(&mut tcp, address).await, Err(ProxyError::Late)), "{said:?}");
        }
    }
}
