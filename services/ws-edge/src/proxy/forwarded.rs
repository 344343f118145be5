//! `X-Forwarded-For`: each proxy adds whom it got the request from. Read from the right, as everything to the left of what a
//! trusted proxy added is the client's own invention.

use std::net::{IpAddr, SocketAddr};

/// More proxies in a row than anybody has; a request whose way is longer was made to cost us something.
const MOST_HOPS: usize = 16;

/// The way a request took, backwards: the connection it came over, then each that was vouched for. Never empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) hops: Vec<SocketAddr>,
    pub(super) end: Told,
}

/// Why the way goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The last one is no trusted proxy: it is the client.
    Untrusted,
    /// The last one is a trusted proxy, and speaks for itself.
    Nothing,
    /// The last one is a trusted proxy, and what it says makes no sense.
    Malformed,
}

impl Way {
    /// Follows the header's `lines`, the last first, from the connection back to the client.
    pub(super) fn back<'a>(
        lines: impl Iterator<Item = &'a [u8]>,
        from: SocketAddr,
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Self {
        let mut said = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
        let (mut hops, mut last) = (vec![from], from);
        let end = loop {
            if !trusts(last.ip()) {
                break Told::Untrusted;
            }
            let Some(item) = said.next() else { break Told::Nothing };
            let Some(hop) = address(item).filter(|_| hops.len() < MOST_HOPS) else { break Told::Malformed };
            last = hop;
            hops.push(hop);
        };
        Self { hops, end }
    }
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`; port 0 where there is none.
fn address(item: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(item).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(v6) => Some(IpAddr::V6(v6.parse().ok()?)),
        None => text.parse().ok(),
    };
    let address = ip.map(|ip| SocketAddr::new(ip, 0)).or_else(|| text.parse().ok())?;
    let scoped = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    (!scoped).then(|| SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod fuzz;
