//! How much one address, one user and one session may have of this edge, and all together.
//!
//! Connections are counted by tickets, which give back what they stand for when they are dropped; what comes again and again
//! (handshakes, commands) by rates. Addresses, users and sessions are known here by a hash with a secret of this process: a
//! key is eight bytes whatever clients call themselves, and nobody can choose two that collide. Who is at rest is forgotten.
//!
//! An IPv6 address counts as its /64, which is what one household gets. Connections of this machine itself (loopback) have
//! no limit as an address unless one is configured.

mod counts;
mod places;
mod rates;
mod refusal;

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use herald_protocol::SessionId;
use metrics::{counter, gauge};
use rand::RngExt as _;
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::config::{Auth, Config, LimitsConfig, ListenerConfig};

use counts::Counts;
use places::{Full, Places};
use rates::{Rates, per_minute, per_second};

pub use refusal::{Limit, Refusal};

/// How often the keys that are at rest are forgotten.
const SWEEP: Duration = Duration::from_secs(10);
/// When it is worth trying again where a place must become free first: nobody knows when.
const PLACE: Duration = Duration::from_secs(5);
/// Where that takes as long as a request does.
const MOMENT: Duration = Duration::from_secs(1);
/// Over how many seconds those are spread that are told to come back because too many came at once.
const SPREAD: std::ops::RangeInclusive<u64> = 1..=5;

/// Self-tests of one address at a time: a page runs two.
const SELFTESTS_PER_ADDRESS: usize = 4;
/// As long as one of them takes, about.
const SELFTEST: Duration = Duration::from_secs(5);
/// Connections of one address, where nothing is configured.
const CONNECTIONS_PER_ADDRESS: usize = 256;
/// Handshakes of one address a second, where nothing is configured.
const HANDSHAKES_PER_ADDRESS: u32 = 100;
/// Commands of one address a minute, where nothing is configured: a school class behind one address.
const COMMANDS_PER_ADDRESS: u32 = 120;
/// Commands in one session a minute, where nothing is configured: a turn takes four of them, and minutes.
const COMMANDS_PER_SESSION: u32 = 30;

/// One address may have this part of all forwarded requests at a time, where nothing is configured.
const FORWARDS_OF_ADDRESS: usize = 8;
/// For each request that may be at a service, so many answers may still be on their way to clients that take their time: fewer
/// than a service has room for.
pub(crate) const ANSWERS: usize = 4;

/// What limits somebody: an address, a user or a session, as a hash.
type Key = NonZeroU64;

/// The limits of a process, shared by its listeners.
pub struct Limits {
    secret: RandomState,
    places: Places,
    max_watching: usize,
    watching: AtomicUsize,
    of_address: PerKey<Counts>,
    of_user: PerKey<Counts>,
    of_session: PerKey<Counts>,
    handshakes: Option<Rates>,
    handshakes_of_address: PerKey<Option<Rates>>,
    commands_of_address: PerKey<Option<Rates>>,
    commands_of_user: PerKey<Option<Rates>>,
    commands_of_session: PerKey<Option<Rates>>,
    forwards_of_address: PerKey<Counts>,
    selftests_of_address: PerKey<Counts>,
    answers_of_address: PerKey<Counts>,
}

/// A limit of each of many.
struct PerKey<T> {
    kept: T,
    /// 0: none.
    most: usize,
    /// Whether it holds for everybody: it was configured. Else those are excepted who need not be feared.
    for_all: bool,
}

/// Who need not be feared, and so is not limited where nothing else is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anybody.
    None,
    /// Who is on this machine, and asked for nothing else.
    Loopback,
}

impl Limits {
    /// The limits of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        let limits = &config.limits;
        let rates = |quota: Option<governor::Quota>| quota.map(|quota| Rates::new(quota, limits.max_keys));
        let per_address = |configured: Option<u32>, default, quota: fn(u32) -> Option<governor::Quota>| {
            let most = configured.unwrap_or(default);
            PerKey { kept: rates(quota(most)), most: most as usize, for_all: configured.is_some() }
        };
        let forwards = config.http.max_forwards_per_address;
        let forwards_of_address = |times: usize| PerKey {
            kept: Counts::default(),
            most: forwards.unwrap_or((config.http.max_forwards / FORWARDS_OF_ADDRESS).max(1)).saturating_mul(times),
            for_all: forwards.is_some(),
        };
        let LimitsConfig { connections_per_user, connections_per_session, commands_per_user, .. } = *limits;
        Arc::new(Self {
            secret: RandomState::new(),
            places: Places::new(config.http.max_connections, limits.max_opening, limits.opening_grace.get()),
            max_watching: config.socket.max_connections,
            watching: AtomicUsize::new(0),
            of_address: PerKey {
                kept: Counts::default(),
                most: limits.connections_per_address.unwrap_or(CONNECTIONS_PER_ADDRESS),
                for_all: limits.connections_per_address.is_some(),
            },
            of_user: PerKey { kept: Counts::default(), most: connections_per_user, for_all: true },
            of_session: PerKey { kept: Counts::default(), most: connections_per_session, for_all: true },
            handshakes: rates(per_second(limits.handshakes).map(|quota| {
                let burst = NonZeroU32::new(limits.handshakes_burst);
                burst.map_or(quota, |burst| quota.allow_burst(burst))
            })),
            handshakes_of_address: per_address(limits.handshakes_per_address, HANDSHAKES_PER_ADDRESS, per_second),
            commands_of_address: per_address(limits.commands_per_address, COMMANDS_PER_ADDRESS, per_minute),
            commands_of_user: per_address(Some(commands_per_user), 0, per_minute),
            commands_of_session: per_address(limits.commands_per_session, COMMANDS_PER_SESSION, per_minute),
            forwards_of_address: forwards_of_address(1),
            selftests_of_address: PerKey { kept: Counts::default(), most: SELFTESTS_PER_ADDRESS, for_all: false },
            answers_of_address: forwards_of_address(ANSWERS),
        })
    }

    /// Takes a place for a connection that has just come. `from`: whose it is; `None` for a proxy's, which are as many as
    /// their clients. The second part is told if the place goes to another one before the first request is there.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_connection(
        self: &Arc<Self>,
        from: Option<IpAddr>,
    ) -> Result<(ConnectionTicket, oneshot::Receiver<()>), Refusal> {
        let address = from.and_then(|from| self.of_address.key(self.address(from), trust(from)));
        if let Some(key) = address
            && !self.of_address.enter(key)
        {
            return Err(refused(Limit::Address, PLACE));
        }
        match self.places.take(Instant::now()) {
            Ok((number, told)) => {
                let opened = AtomicBool::new(false);
                let address = address.map_or_else(OnceLock::new, OnceLock::from);
                Ok((ConnectionTicket { limits: self.clone(), number, opened, address }, told))
            }
            Err(full) => {
                address.into_iter().for_each(|key| self.of_address.kept.leave(key.get()));
                Err(match full {
                    Full::Taken => refused(Limit::Connections, PLACE),
                    Full::Opening => refused(Limit::Opening, spread()),
                })
            }
        }
    }

    /// Counts a handshake of an address: a request that is to become a connection that watches.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_handshake(&self, from: IpAddr) -> Result<(), Refusal> {
        // Whoever is over its own limit takes nothing of everybody's.
        self.handshakes_of_address.check(self.address(from), trust(from), Limit::HandshakesAddress)?;
        let all = self.handshakes.as_ref().map_or(Ok(()), |rates| rates.check(0));
        all.map_err(|wait| refused(Limit::Handshakes, wait.max(spread())))
    }

    /// Takes a place for a connection that is to watch `session`. `counted`: as what the connection was counted already.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_watching(
        self: &Arc<Self>,
        counted: &ConnectionTicket,
        from: IpAddr,
        user: Option<&str>,
        session: &SessionId,
    ) -> Result<WatchTicket, Refusal> {
        let watching = self.watching.fetch_add(1, Ordering::Relaxed);
        // From here on what was taken is given back when the ticket is dropped.
        let mut ticket = WatchTicket { limits: self.clone(), address: None, user: None, session: None };
        if watching >= self.max_watching {
            return Err(refused(Limit::Watching, PLACE));
        }
        // A connection that came directly is counted for its address as long as it lives.
        let address = self.of_address.key(self.address(from), trust(from));
        for (limit, key, per_key, taken) in [
            (
                Limit::Address,
                address.filter(|key| counted.address.get() != Some(key)),
                &self.of_address,
                &mut ticket.address,
            ),
            (
                Limit::WatchingUser,
                user.and_then(|user| self.of_user.key(self.user(user), Trust::None)),
                &self.of_user,
                &mut ticket.user,
            ),
            (
                Limit::WatchingSession,
                self.of_session.key(self.session(session), Trust::None),
                &self.of_session,
                &mut ticket.session,
            ),
        ] {
            let Some(key) = key else { continue };
            if !per_key.enter(key) {
                return Err(refused(limit, PLACE));
            }
            *taken = Some(key);
        }
        Ok(ticket)
    }

    /// Takes a place for a request that is to be forwarded. `listener`: what it has in those it lets in.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_forward(self: &Arc<Self>, listener: Trust, from: IpAddr) -> Result<AddressTicket, Refusal> {
        self.place_of(listener.or(from), from, Limit::ForwardsAddress, |limits| &limits.forwards_of_address)
    }

    /// Takes a place for an answer that comes in parts, as fast as its client takes them.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_reading(self: &Arc<Self>, listener: Trust, from: IpAddr) -> Result<AddressTicket, Refusal> {
        self.place_of(listener.or(from), from, Limit::ForwardsAddress, |limits| &limits.answers_of_address)
    }

    /// Takes a place for a self-test.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_selftest(self: &Arc<Self>, from: IpAddr) -> Result<AddressTicket, Refusal> {
        self.place_of(trust(from), from, Limit::SelftestsAddress, |limits| &limits.selftests_of_address)
    }

    /// Takes a place of an address for a socket that watches nothing, as it is asked who it is, or sent away. `counted`: as what
    /// its connection was counted already.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_guest(self: &Arc<Self>, counted: &ConnectionTicket, from: IpAddr) -> Result<AddressTicket, Refusal> {
        if counted.address.get() == Some(&self.address(from)) {
            return Ok(AddressTicket { limits: self.clone(), of: |limits| &limits.of_address, key: None });
        }
        self.place_of(trust(from), from, Limit::Address, |limits| &limits.of_address)
    }

    fn place_of(
        self: &Arc<Self>,
        trust: Trust,
        from: IpAddr,
        limit: Limit,
        of: fn(&Self) -> &PerKey<Counts>,
    ) -> Result<AddressTicket, Refusal> {
        let key = of(self).key(self.address(from), trust);
        if key.is_some_and(|key| !of(self).enter(key)) {
            return Err(refused(
                limit,
                match limit {
                    Limit::ForwardsAddress => MOMENT,
                    Limit::SelftestsAddress => SELFTEST,
                    _ => PLACE,
                },
            ));
        }
        Ok(AddressTicket { limits: self.clone(), of, key })
    }

    /// Counts a command of an address, whoever it says it is. `listener`: what it has in those it lets in.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_command(&self, listener: Trust, from: IpAddr) -> Result<(), Refusal> {
        self.commands_of_address.check(self.address(from), listener.or(from), Limit::CommandsAddress)
    }

    /// Counts a command of a user, where it is known who that is.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_command_of(&self, user: Option<&str>) -> Result<(), Refusal> {
        let of_user = |user| self.commands_of_user.check(self.user(user), Trust::None, Limit::CommandsUser);
        user.map_or(Ok(()), of_user)
    }

    /// Counts a command in a session.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn admit_command_in(&self, listener: Trust, session: &SessionId) -> Result<(), Refusal> {
        self.commands_of_session.check(self.session(session), listener, Limit::CommandsSession)
    }

    /// Whether commands in a session are limited at a listener: else nobody need know in which one a command is.
    #[must_use]
    pub fn ask_for_session(&self, listener: Trust) -> bool {
        self.commands_of_session.holds(listener)
    }

    /// Forgets, now and then, who is at rest. Cancelling is safe.
    pub async fn tend(&self) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (name, rates) in [
                ("handshakes_address", &self.handshakes_of_address.kept),
                ("commands_address", &self.commands_of_address.kept),
                ("commands_user", &self.commands_of_user.kept),
                ("commands_session", &self.commands_of_session.kept),
            ] {
                let Some(rates) = rates else { continue };
                rates.sweep();
                gauge!("herald_limited_keys_count", "limit" => name).set(rates.keys() as f64);
            }
        }
    }

    fn address(&self, address: IpAddr) -> Key {
        match address.to_canonical() {
            IpAddr::V4(address) => self.key(("v4", address.to_bits())),
            IpAddr::V6(address) => self.key(("v6", address.to_bits() >> 64)),
        }
    }

    fn user(&self, user: &str) -> Key {
        self.key(("user", user))
    }

    fn session(&self, session: &SessionId) -> Key {
        self.key(("session", session.as_str()))
    }

    fn key(&self, of: impl Hash) -> Key {
        NonZeroU64::MIN | self.secret.hash_one(of)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

impl<T> PerKey<T> {
    fn holds(&self, trust: Trust) -> bool {
        self.most > 0 && (self.for_all || trust == Trust::None)
    }

    /// The key, where it is to be counted.
    fn key(&self, key: Key, trust: Trust) -> Option<Key> {
        self.holds(trust).then_some(key)
    }
}

impl PerKey<Counts> {
    fn enter(&self, key: Key) -> bool {
        self.kept.enter(key.get(), self.most)
    }
}

impl PerKey<Option<Rates>> {
    fn check(&self, key: Key, trust: Trust, limit: Limit) -> Result<(), Refusal> {
        match &self.kept {
            Some(rates) if self.holds(trust) => rates.check(key.get()).map_err(|wait| refused(limit, wait)),
            _ => Ok(()),
        }
    }
}

/// The place of a connection, given back when it is dropped.
#[derive(Debug)]
pub struct ConnectionTicket {
    limits: Arc<Limits>,
    number: u64,
    opened: AtomicBool,
    address: OnceLock<Key>,
}

impl ConnectionTicket {
    /// Counts it for the client that a proxy has named, as all of it is that one's.
    ///
    /// # Errors
    /// [`Refusal`], counted.
    pub fn count_for(&self, client: IpAddr) -> Result<(), Refusal> {
        let of_address = &self.limits.of_address;
        let Some(key) = of_address.key(self.limits.address(client), trust(client)) else { return Ok(()) };
        if !of_address.enter(key) {
            return Err(refused(Limit::Address, PLACE));
        }
        // It has its own already.
        let _set = self.address.set(key).map_err(|key| of_address.kept.leave(key.get()));
        Ok(())
    }

    /// Its first request is there: the place can't be lost any more.
    pub fn open(&self) {
        if !self.opened.swap(true, Ordering::Relaxed) {
            self.limits.places.open(self.number);
        }
    }

    /// Whether its first request was there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        self.limits.places.leave(self.number, self.is_open());
        self.address.get().into_iter().for_each(|key| self.limits.of_address.kept.leave(key.get()));
    }
}

/// The place of something that an address has or waits for, given back when it is dropped.
#[derive(Debug)]
pub struct AddressTicket {
    limits: Arc<Limits>,
    of: fn(&Limits) -> &PerKey<Counts>,
    key: Option<Key>,
}

impl Drop for AddressTicket {
    fn drop(&mut self) {
        self.key.into_iter().for_each(|key| (self.of)(&self.limits).kept.leave(key.get()));
    }
}

/// The place of a connection that watches, given back when it is dropped.
#[derive(Debug)]
pub struct WatchTicket {
    limits: Arc<Limits>,
    address: Option<Key>,
    user: Option<Key>,
    session: Option<Key>,
}

impl Drop for WatchTicket {
    fn drop(&mut self) {
        let Limits { watching, of_address, of_user, of_session, .. } = &*self.limits;
        watching.fetch_sub(1, Ordering::Relaxed);
        for (taken, per_key) in [(self.address, of_address), (self.user, of_user), (self.session, of_session)] {
            taken.into_iter().for_each(|key| per_key.kept.leave(key.get()));
        }
    }
}

impl Trust {
    /// What a listener has in those who come in by it.
    #[must_use]
    pub fn of(listener: &ListenerConfig) -> Self {
        // Whom a proxy speaks for is elsewhere.
        let local = listener.address.ip().is_loopback() && listener.trusted_proxies.is_empty();
        if local && listener.auth == Auth::Off { Self::Loopback } else { Self::None }
    }

    /// What is to be had in an address: at least that.
    const fn or(self, address: IpAddr) -> Self {
        match self {
            Self::Loopback => self,
            Self::None => trust(address),
        }
    }
}

/// What an address deserves.
const fn trust(address: IpAddr) -> Trust {
    if address.to_canonical().is_loopback() { Trust::Loopback } else { Trust::None }
}

/// A second or some more: who comes too early together is not to come back together.
fn spread() -> Duration {
    Duration::from_secs(rand::rng().random_range(SPREAD))
}

fn refused(limit: Limit, wait: Duration) -> Refusal {
    counter!(limit.counter(), "reason" => limit.reason()).increment(1);
    Refusal::after(limit, wait)
}

#[cfg(test)]
mod tests;
