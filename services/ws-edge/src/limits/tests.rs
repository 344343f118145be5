//! The limits as the door asks for them.

use super::*;

const LOCAL: &str = "127.0.0.1";
const ONE: &str = "203.0.113.7";

fn limits(change: impl FnOnce(&mut Config)) -> Arc<Limits> {
    let mut config = Config::default();
    change(&mut config);
    Limits::new(&config)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn session(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

/// Connects, and says something.
fn connect(limits: &Arc<Limits>, from: &str) -> Result<ConnectionTicket, Limit> {
    let admitted = limits.admit_connection(Some(ip(from)));
    let (ticket, _) = admitted.map_err(|refusal| refusal.limit)?;
    ticket.open();
    Ok(ticket)
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_gets_their_places_back() {
    let limits = limits(|config| config.limits.connections_per_address = Some(2));
    let one = connect(&limits, ONE).unwrap();
    let _two = connect(&limits, ONE).unwrap();
    assert_eq!(connect(&limits, ONE).unwrap_err(), Limit::Address);
    assert_eq!(connect(&limits, &format!("::ffff:{ONE}")).unwrap_err(), Limit::Address, "the same address");
    let _other = connect(&limits, "203.0.113.8").unwrap();
    drop(one);
    let _three = connect(&limits, ONE).unwrap();
    // What was refused took nothing.
    assert_eq!(connect(&limits, ONE).unwrap_err(), Limit::Address);
}

#[tokio::test]
async fn an_ipv6_address_counts_as_its_network() {
    let limits = limits(|config| config.limits.connections_per_address = Some(1));
    let _one = connect(&limits, "2001:db8:1:2::1").unwrap();
    assert_eq!(connect(&limits, "2001:db8:1:2:ffff::9").unwrap_err(), Limit::Address);
    let _other = connect(&limits, "2001:db8:1:3::1").unwrap();
}

#[tokio::test]
async fn loopback_is_limited_only_where_somebody_wants_that() {
    let default = limits(|_| {});
    let local: Vec<_> = (0..300).map(|_| connect(&default, LOCAL).unwrap()).collect();
    let remote: Vec<_> = (0..300).filter_map(|_| connect(&default, ONE).ok()).collect();
    assert_eq!((local.len(), remote.len()), (300, CONNECTIONS_PER_ADDRESS));
    let handshakes = |from| (0..300).filter(|_| default.admit_handshake(ip(from)).is_ok()).count();
    assert_eq!(handshakes("::1"), 300);
    // As many as there are at once, and what a slow machine lets come meanwhile.
    assert!((100..150).contains(&handshakes(ONE)));
    let commands = |trust, from| (0..300).filter(|_| default.admit_command(trust, ip(from)).is_ok()).count();
    assert_eq!(commands(Trust::None, LOCAL), 300);
    assert_eq!(commands(Trust::Loopback, "203.0.113.9"), 300);
    assert!((120..130).contains(&commands(Trust::None, ONE)));
    let of_session = |trust| (0..100).filter(|_| default.admit_command_in(trust, &session("s")).is_ok()).count();
    assert_eq!((of_session(Trust::Loopback), default.ask_for_session(Trust::Loopback)), (100, false));
    assert!((30..40).contains(&of_session(Trust::None)));

    let strict = limits(|config| {
        config.limits.connections_per_address = Some(1);
        config.limits.handshakes_per_address = Some(1);
        config.limits.commands_per_address = Some(1);
        config.limits.commands_per_session = Some(1);
    });
    let _one = connect(&strict, LOCAL).unwrap();
    assert_eq!(connect(&strict, LOCAL).unwrap_err(), Limit::Address);
    let twice = |admit: &dyn Fn() -> Result<(), Refusal>| (admit().is_ok(), admit().err().map(|it| it.limit));
    assert_eq!(twice(&|| strict.admit_handshake(ip(LOCAL))), (true, Some(Limit::HandshakesAddress)));
    let command = || strict.admit_command(Trust::Loopback, ip(LOCAL));
    assert_eq!(twice(&command), (true, Some(Limit::CommandsAddress)));
    let in_session = || strict.admit_command_in(Trust::Loopback, &session("s"));
    assert_eq!(twice(&in_session), (true, Some(Limit::CommandsSession)));

    let none = limits(|config| {
        config.limits.connections_per_address = Some(0);
        config.limits.handshakes_per_address = Some(0);
        config.limits.handshakes = 0;
        config.limits.commands_per_user = 0;
        config.limits.commands_per_address = Some(0);
    });
    for _ in 0..1000 {
        let _gone = connect(&none, ONE).unwrap();
        none.admit_handshake(ip(ONE)).unwrap();
        none.admit_command(Trust::None, ip(ONE)).unwrap();
        none.admit_command_of(Some("u")).unwrap();
    }
}

#[tokio::test]
async fn who_watches_counts_for_address_user_and_session_and_for_all() {
    let limits = limits(|config| {
        config.socket.max_connections = 5;
        config.limits.connections_per_address = Some(2);
        config.limits.connections_per_user = 2;
        config.limits.connections_per_session = 3;
    });
    // A proxy's connections are its clients': they count as what their requests say.
    let (proxy, _lost) = limits.admit_connection(None).unwrap();
    let watch = |from: &str, user: Option<&str>, in_session: &str| {
        let admitted = limits.admit_watching(&proxy, ip(from), user, &session(in_session));
        admitted.map_err(|refusal| refusal.limit)
    };
    let one = watch(ONE, Some("ann"), "s").unwrap();
    let two = watch(ONE, Some("ann"), "s").unwrap();
    assert_eq!(watch(ONE, Some("bob"), "t").unwrap_err(), Limit::Address);
    assert_eq!(watch("203.0.113.8", Some("ann"), "t").unwrap_err(), Limit::WatchingUser);
    let _three = watch("203.0.113.8", None, "s").unwrap();
    assert_eq!(watch("203.0.113.9", None, "s").unwrap_err(), Limit::WatchingSession);
    drop(one);
    let _again = watch("203.0.113.9", Some("ann"), "s").unwrap();
    // Those that were refused took nothing of anything: there are two places.
    let _four = watch("203.0.113.10", None, "t").unwrap();
    let _five = watch("203.0.113.10", None, "u").unwrap();
    assert_eq!(watch("203.0.113.11", None, "v").unwrap_err(), Limit::Watching);
    drop(two);
    let _six = watch("203.0.113.11", None, "v").unwrap();
}

#[tokio::test]
async fn a_direct_connection_counts_once_for_its_address() {
    let limits = limits(|config| config.limits.connections_per_address = Some(1));
    let direct = connect(&limits, ONE).unwrap();
    let watching = limits.admit_watching(&direct, ip(ONE), None, &session("s")).unwrap();
    drop((watching, direct));
    let _again = connect(&limits, ONE).unwrap();
}

#[tokio::test]
async fn a_user_has_one_rate_wherever_they_come_from() {
    let limits = limits(|config| config.limits.commands_per_user = 3);
    let command = |user| limits.admit_command_of(Some(user));
    for _ in 1..=3 {
        command("ann").unwrap();
    }
    let refusal = command("ann").unwrap_err();
    assert_eq!((refusal.limit, refusal.status().as_u16()), (Limit::CommandsUser, 429));
    assert!((1..=20).contains(&refusal.retry), "{}", refusal.retry);
    command("bob").unwrap();
    limits.admit_command_of(None).unwrap();
}

#[tokio::test]
async fn an_address_has_a_part_of_all_requests_at_a_time_and_as_many_times_of_the_answers() {
    let limits = limits(|config| config.http.max_forwards = 16);
    let enter = |trust, from| limits.admit_forward(trust, ip(from)).map_err(|refusal| refusal.limit);
    let (one, _two) = (enter(Trust::None, ONE).unwrap(), enter(Trust::None, ONE).unwrap());
    let refusal = limits.admit_forward(Trust::None, ip(ONE)).unwrap_err();
    assert_eq!((refusal.limit, refusal.status().as_u16(), refusal.retry), (Limit::ForwardsAddress, 429, 1));
    let _others = [enter(Trust::None, "203.0.113.8").unwrap(), enter(Trust::Loopback, ONE).unwrap()];
    let _local: Vec<_> = (0..100).map(|_| enter(Trust::None, LOCAL).unwrap()).collect();
    drop(one);
    let _again = enter(Trust::None, ONE).unwrap();
    // What is being read is counted apart: the next request can be asked.
    let read = || limits.admit_reading(Trust::None, ip(ONE));
    let reading: Vec<_> = (0..100).filter_map(|_| read().ok()).collect();
    assert_eq!(reading.len(), 2 * ANSWERS);
    drop(reading);
    assert!(read().is_ok());
}

#[tokio::test]
async fn a_proxys_connection_becomes_its_clients_and_a_guest_has_a_place_of_it() {
    let limits = limits(|config| config.limits.connections_per_address = Some(2));
    let (proxy, _lost) = limits.admit_connection(None).unwrap();
    proxy.count_for(ip(ONE)).unwrap();
    // It has a place already, whatever it is for.
    let _watching = limits.admit_watching(&proxy, ip(ONE), None, &session("s")).unwrap();
    let _guest = limits.admit_guest(&proxy, ip(ONE)).unwrap();
    let (other, _lost) = limits.admit_connection(None).unwrap();
    let guest = limits.admit_guest(&other, ip(ONE)).unwrap();
    assert_eq!(other.count_for(ip(ONE)).unwrap_err().limit, Limit::Address);
    assert_eq!(limits.admit_guest(&other, ip(ONE)).unwrap_err().limit, Limit::Address);
    drop(guest);
    other.count_for(ip(ONE)).unwrap();
    drop((proxy, other));
    let _free = [connect(&limits, ONE).unwrap(), connect(&limits, ONE).unwrap()];
}

#[tokio::test]
async fn a_storm_is_shed_to_what_a_machine_brings_back_in_a_while() {
    let limits = limits(|_| {});
    let admitted = |from| (0..20_000).filter(|_| limits.admit_handshake(ip(from)).is_ok()).count();
    // As many as there may be at once, and what a slow machine lets come meanwhile.
    let admitted = admitted(LOCAL);
    assert!((5_000..7_500).contains(&admitted), "{admitted}");
    let limits = self::limits(|config| (config.limits.handshakes, config.limits.handshakes_burst) = (10, 30));
    let admitted = (0..100).filter(|_| limits.admit_handshake(ip(LOCAL)).is_ok()).count();
    assert!((30..35).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_back_at_different_times() {
    let limits = limits(|config| config.limits.handshakes = 10);
    let refused: Vec<_> = (0..100).filter_map(|_| limits.admit_handshake(ip(LOCAL)).err()).collect();
    assert!((85..=90).contains(&refused.len()), "{}", refused.len());
    assert!(refused.iter().all(|refusal| refusal.status().as_u16() == 503 && (1..=5).contains(&refusal.retry)));
    let times: std::collections::BTreeSet<_> = refused.iter().map(|refusal| refusal.retry).collect();
    assert!(times.len() > 2, "{times:?}");
}
