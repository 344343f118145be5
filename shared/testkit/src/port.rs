//! Ports that stay ours while nobody listens on them.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Outside of what systems hand out for port 0 and for outgoing connections (Linux: from 32768): a port in here that is not
/// bound is bound by nobody by chance, and no client that knocks at it ends up connected to itself.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port of loopback, reserved until dropped among all test programs of this machine.
#[derive(Debug)]
pub struct Reserved {
    port: u16,
    _lock: File,
}

impl Reserved {
    /// Reserves a port that nobody listens on.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("herald-testkit-ports");
        std::fs::create_dir_all(&folder).expect("a folder for port locks");
        let span = usize::from(RANGE.end - RANGE.start);
        // Programs started at the same time begin at different places.
        let start = (std::process::id() as usize).wrapping_mul(7919) % span;
        for port in RANGE.cycle_from(start) {
            let file = File::options().create(true).append(true).open(folder.join(port.to_string()));
            let Ok(lock) = file else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Self { port, _lock: lock };
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// All of a range, begun in the middle.
trait CycleFrom {
    fn cycle_from(self, start: usize) -> impl Iterator<Item = u16>;
}

impl CycleFrom for std::ops::Range<u16> {
    fn cycle_from(self, start: usize) -> impl Iterator<Item = u16> {
        self.clone().skip(start).chain(self.take(start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn reserved_ports_differ_until_they_are_dropped() {
        let held: Vec<_> = (0..20).map(|_| Reserved::take()).collect();
        let ports: BTreeSet<_> = held.iter().map(Reserved::port).collect();
        assert_eq!(ports.len(), held.len());
        assert!(ports.iter().all(|port| RANGE.contains(port)));
    }
}
