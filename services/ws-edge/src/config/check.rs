//! What can be wrong with the values of the configuration, all of it.

use std::{collections::HashSet, time::Duration};

use herald_protocol::subject;
use herald_runtime::config::{ByteSize, Fault, HumanDuration};

use super::{
    AdmissionConfig, Auth, Config, ForwardConfig, JwtConfig, ListenerConfig, RouteConfig, StartConfig, options,
    presence, replay, uplink, uplink::InboundRates,
};
use crate::{admission, hosts::Host, identity, origins::Allowed, path::Pattern, pictures, proxy::ProxyProtocol};

/// hyper's smallest buffer; a head must fit the buffer.
const SMALLEST_HEADER: ByteSize = ByteSize::from_kib(8);
/// Below what is read from a socket at once a client would pay for what it may never have sent in time.
const SMALLEST_INBOUND: ByteSize = ByteSize::from_kib(4);
/// More than any head or message needs; what is asked for is allocated.
const LARGEST_HEADER: ByteSize = ByteSize::from_mib(1);

/// Everything wrong with `config`.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let inbound = InboundRates { frames: config.limits.inbound_frames, bytes: config.limits.inbound_bytes.as_u64() };
    let mut check = Check { inbound, ..Check::default() };
    check.limits(config);
    check.jwt(&config.jwt);
    check.admission(&config.admission);
    check.faults.extend(presence::faults(&config.presence));
    for (key, text) in replay::faults(&config.replay) {
        check.fault(key, text);
    }
    if config.listeners.is_empty() {
        check.fault("listeners", "there must be one at least");
    }
    let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
    for (at, listener) in config.listeners().iter().enumerate() {
        let key = format!("listeners[{at}]");
        if !names.insert(listener.name.clone()) {
            check.fault(format!("{key}.name"), format!("`{}` is another listener's name too", listener.name));
        }
        if listener.address.port() != 0 && !addresses.insert(listener.address) {
            check.fault(format!("{key}.address"), format!("{} is another listener's address too", listener.address));
        }
        if listener.auth == Auth::Jwt && config.jwt.secret.is_empty() && config.jwt.jwks.is_none() {
            check.fault(format!("{key}.auth"), "`jwt` needs jwt.secret or jwt.jwks to verify tokens by");
        }
        // Indices in the file: the built-in ones stand in front.
        let own = &config.listeners[at];
        check.listener(
            &key,
            listener,
            listener.routes.len() - own.routes.len(),
            listener.forwards.len() - own.forwards.len(),
        );
    }
    check.faults
}

#[derive(Default)]
struct Check {
    faults: Vec<Fault>,
    /// How much a client may send a second.
    inbound: InboundRates,
}

impl Check {
    fn fault(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault::new(key, message));
    }

    fn limits(&mut self, config: &Config) {
        let Config { http, socket, limits, sse, ring, intake, history, drain, .. } = config;
        for (key, value) in [
            ("http.max_connections", http.max_connections),
            ("http.max_headers", http.max_headers),
            ("http.max_forwards", http.max_forwards),
            ("socket.max_connections", socket.max_connections),
            ("limits.max_opening", limits.max_opening),
            ("limits.max_keys", limits.max_keys),
            ("ring.frames", ring.frames),
            ("history.max_reads", history.max_reads),
            ("uplink.queue", config.uplink.queue),
            ("words.queue", config.words.queue),
        ] {
            self.positive(key, value == 0);
        }
        self.positive("socket.max_lag_frames", socket.max_lag_frames == 0);
        self.positive("intake.skip", intake.skip == 0);
        for (key, size) in [
            ("http.max_body", http.max_body),
            ("socket.max_message", socket.max_message),
            ("socket.max_lag", socket.max_lag),
            ("socket.send_buffer", socket.send_buffer),
            ("ring.bytes", ring.bytes),
            ("ring.total", ring.total),
            ("intake.burst_bytes", intake.burst_bytes),
            ("history.page", history.page),
            ("history.snapshot", history.snapshot),
            ("uplink.queue_bytes", config.uplink.queue_bytes),
            ("words.queue_bytes", config.words.queue_bytes),
        ] {
            self.positive(key, size.as_u64() == 0);
        }
        for (key, duration) in [
            ("http.header_timeout", http.header_timeout),
            ("http.body_timeout", http.body_timeout),
            ("socket.heartbeat", socket.heartbeat),
            ("socket.heartbeat_timeout", socket.heartbeat_timeout),
            ("socket.history_patience", socket.history_patience),
            ("socket.write_timeout", socket.write_timeout),
            ("socket.close_timeout", socket.close_timeout),
            ("limits.opening_grace", limits.opening_grace),
            ("sse.heartbeat", sse.heartbeat),
            ("history.timeout", history.timeout),
        ] {
            self.positive(key, duration.get().is_zero());
        }
        if !(SMALLEST_HEADER..=LARGEST_HEADER).contains(&http.max_header) {
            self.fault("http.max_header", format!("must be from {SMALLEST_HEADER} to {LARGEST_HEADER}"));
        }
        if limits.inbound_bytes.as_u64() > 0 && limits.inbound_bytes < SMALLEST_INBOUND {
            self.fault("limits.inbound_bytes", format!("must be at least {SMALLEST_INBOUND}, which is read at once"));
        }
        if ring.total < ring.bytes {
            self.fault("ring.total", "must be at least ring.bytes");
        }
        if config.uplink.unfinished < uplink::SMALLEST_UNFINISHED {
            let least = uplink::SMALLEST_UNFINISHED;
            self.fault("uplink.unfinished", format!("must be at least {least}, which the largest message takes"));
        }
        if config.words.total < config.words.queue_bytes {
            self.fault("words.total", "must be at least words.queue_bytes");
        }
        if drain.period > LONGEST_DRAIN {
            self.fault("drain.period", format!("must be at most {LONGEST_DRAIN}: the process is to end within 25 s"));
        }
    }

    fn jwt(&mut self, jwt: &JwtConfig) {
        let secret = jwt.secret.expose().len();
        if secret > 0 && secret < SHORTEST_SECRET {
            self.fault("jwt.secret", "must be 32 bytes at least: a shorter one can be found by trying");
        }
        let jwks = jwt.jwks.as_deref();
        if jwks.is_some_and(|place| place.is_empty() || place.contains("://") && identity::jwks_url(place).is_none()) {
            self.fault("jwt.jwks", "must be the path of a file, or an http(s) URL");
        }
        for (key, duration) in [
            ("jwt.refresh", jwt.refresh),
            ("jwt.refresh_min", jwt.refresh_min),
            ("jwt.timeout", jwt.timeout),
            ("jwt.wait", jwt.wait),
        ] {
            self.positive(key, duration.get().is_zero());
        }
        if jwt.leeway > LONGEST_LEEWAY {
            self.fault("jwt.leeway", format!("must be at most {LONGEST_LEEWAY}"));
        }
        for (key, claim) in [
            ("jwt.user_claim", &jwt.user_claim),
            ("jwt.role_claim", &jwt.role_claim),
            ("jwt.sessions_claim", &jwt.sessions_claim),
        ] {
            if claim.is_empty() {
                self.fault(key, "must name a claim");
            }
        }
        for claim in &jwt.admission_claims {
            if claim.is_empty() || admission::CLAIMS.contains(&claim.as_str()) {
                self.fault("jwt.admission_claims", format!("`{claim}`: user, role and sessions are always told"));
            }
        }
    }

    fn admission(&mut self, admission: &AdmissionConfig) {
        self.positive("admission.max_kept", admission.max_kept == 0);
        self.positive("admission.max_questions", admission.max_questions == 0);
        self.positive("admission.timeout", admission.timeout.get().is_zero());
        if admission.timeout > LONGEST_QUESTION {
            self.fault("admission.timeout", format!("must be at most {LONGEST_QUESTION}: somebody waits"));
        }
        for (key, reuse) in [("reuse", admission.reuse), ("reuse_refusal", admission.reuse_refusal)] {
            if reuse > LONGEST_REUSE {
                let text = format!("must be at most {LONGEST_REUSE}: so long nobody can be kept out who was let in");
                self.fault(format!("admission.{key}"), text);
            }
        }
    }

    fn positive(&mut self, key: &str, zero: bool) {
        if zero {
            self.fault(key, "must be greater than zero");
        }
    }

    fn listener(&mut self, key: &str, listener: &ListenerConfig, builtin_routes: usize, builtin_forwards: usize) {
        for origin in &listener.origins {
            if origin != "*"
                && let Err(error) = origin.parse::<Allowed>()
            {
                self.fault(format!("{key}.origins"), error.to_string());
            }
        }
        for host in &listener.hosts {
            if let Err(error) = host.parse::<Host>() {
                self.fault(format!("{key}.hosts"), error.to_string());
            }
        }
        if listener.proxy_protocol != ProxyProtocol::Off && listener.trusted_proxies.is_empty() {
            self.fault(format!("{key}.proxy_protocol"), "needs trusted_proxies: nobody else is believed");
        }
        if let Some(folder) = &listener.avatars
            && let Err(error) = pictures::read(folder)
        {
            self.fault(format!("{key}.avatars"), error.to_string());
        }
        if !is_plain_path(&listener.avatars_path) || listener.avatars_path == "/" {
            self.fault(format!("{key}.avatars_path"), "must be a path such as /static/agent-skins");
        }
        for (option, message) in options::faults_of_listener(listener) {
            self.fault(format!("{key}.{option}"), message);
        }
        if listener.routes.is_empty() && listener.forwards.is_empty() && listener.files.is_none() {
            self.fault(
                key,
                "has neither `builtin` nor routes nor forwards nor `static`: there is nothing to be had there",
            );
        }
        let mut patterns = HashSet::new();
        let mut told: Vec<&RouteConfig> = Vec::new();
        let index =
            |at: usize, builtin: usize| at.checked_sub(builtin).map_or("builtin".to_owned(), |at| at.to_string());
        for (at, route) in listener.routes.iter().enumerate() {
            let key = format!("{key}.routes[{}]", index(at, builtin_routes));
            self.route(&key, route, listener.auth);
            self.pattern(&format!("{key}.path"), &route.path, &mut patterns);
            if route.presence_asked(listener).is_some() {
                let other = told.iter().find(|other| other.presence_path == route.presence_path);
                self.presence_path(&format!("{key}.presence_path"), route, other.copied(), listener, &mut patterns);
                told.push(route);
            }
        }
        for (at, forward) in listener.forwards.iter().enumerate() {
            let key = format!("{key}.forwards[{}]", index(at, builtin_forwards));
            self.forward(&key, forward);
            for path in &forward.paths {
                self.pattern(&format!("{key}.paths"), path, &mut patterns);
            }
        }
    }

    fn pattern(&mut self, key: &str, path: &str, seen: &mut HashSet<Pattern>) {
        match path.parse::<Pattern>() {
            Err(error) => self.fault(key, format!("`{path}`: {error}")),
            Ok(pattern) => {
                if !seen.insert(pattern) {
                    self.fault(key, format!("`{path}` is there twice on this listener"));
                }
            }
        }
    }

    fn route(&mut self, key: &str, route: &RouteConfig, auth: Auth) {
        if let Ok(pattern) = route.path.parse::<Pattern>() {
            let by_query = route.admit.is_some() && pattern.is_literal();
            if !pattern.has_session() && !by_query {
                self.fault(format!("{key}.path"), "must have {sid} as one of its segments");
            }
        }
        self.admits(key, route);
        for (name, text) in uplink::faults_of_route(route, auth, self.inbound) {
            self.fault(format!("{key}.{name}"), text);
        }
        for (name, text) in replay::faults_of_route(route) {
            self.fault(format!("{key}.{name}"), text);
        }
        if !is_stream(&route.stream) {
            self.fault(format!("{key}.stream"), "must be a stream's name: letters, digits, '_' or '-', at most 64");
        }
        if route.alias.as_deref().is_some_and(|bucket| !is_stream(bucket)) {
            self.fault(format!("{key}.alias"), "must be a bucket's name: letters, digits, '_' or '-', at most 64");
        }
        if route.roots.is_empty() {
            self.fault(format!("{key}.roots"), "must name one root at least");
        }
        for root in route.roots.iter().filter(|root| subject::RESERVED.contains(&root.as_str())) {
            self.fault(format!("{key}.roots"), format!("`{root}` is Herald's own: no engine's events are called so"));
        }
        for (name, all) in [("hidden", &route.hidden), ("snapshot", &route.snapshot)] {
            for topics in all.iter().filter(|topics| !route.roots.contains(&topics.root)) {
                self.fault(format!("{key}.{name}"), format!("`{topics}`: `{}` is none of its roots", topics.root));
            }
        }
        if route.start == StartConfig::Snapshot && route.snapshot.is_empty() {
            self.fault(format!("{key}.start"), "needs snapshot topics");
        }
        for (option, message) in options::faults_of_route(route) {
            self.fault(format!("{key}.{option}"), message);
        }
    }

    /// Where is asked who is there on a route. `other`: another one that is asked about at the same path, as the same question.
    fn presence_path(
        &mut self,
        key: &str,
        route: &RouteConfig,
        other: Option<&RouteConfig>,
        listener: &ListenerConfig,
        seen: &mut HashSet<Pattern>,
    ) {
        let path = &route.presence_path;
        let has_session = |path: &String| path.parse::<Pattern>().is_ok_and(|pattern| pattern.has_session());
        if has_session(path) != has_session(&route.path) {
            self.fault(key, "must have {sid} as one of its segments where `path` has it, and only there");
        }
        match other {
            None => self.pattern(key, path, seen),
            Some(other) if presence::ask_the_same(route, other, listener) => {}
            Some(other) => {
                let text =
                    format!("`{path}` asks about `{}` too, which is of another root or has other rules", other.path);
                self.fault(key, text);
            }
        }
    }

    fn admits(&mut self, key: &str, route: &RouteConfig) {
        if route.admit.is_none() && !route.admit_query.is_empty() {
            self.fault(format!("{key}.admit_query"), "needs `admit`: nobody is asked");
        }
        for name in &route.admit_query {
            let plain = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !plain {
                self.fault(
                    format!("{key}.admit_query"),
                    "must be names of 1 to 64 printable characters without blanks",
                );
            } else if admission::FIELDS.contains(&name.as_str()) || name == identity::token::PARAMETER {
                self.fault(
                    format!("{key}.admit_query"),
                    format!("`{name}` can't be handed over: it means something else"),
                );
            }
        }
        if route.session.is_empty() {
            self.fault(format!("{key}.session"), "must be a parameter's name");
        }
    }

    fn forward(&mut self, key: &str, forward: &ForwardConfig) {
        let named = !forward.name.is_empty() && forward.name.len() <= 64;
        if !named || !forward.name.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.fault(format!("{key}.name"), "must be 1 to 64 printable characters without blanks");
        }
        if forward.service.is_none() {
            self.fault(format!("{key}.service"), "must name the service that answers");
        }
        if forward.paths.is_empty() {
            self.fault(format!("{key}.paths"), "must name one path at least");
        }
        let stripped = |path: &String| path.strip_prefix(&forward.strip).is_some_and(|rest| rest.starts_with('/'));
        let plain = forward.strip.is_empty() || is_plain_path(&forward.strip);
        if !plain || !forward.paths.iter().all(stripped) {
            self.fault(format!("{key}.strip"), "must be a path that all of its paths begin with");
        }
        if !forward.free.is_empty() && !forward.commands {
            self.fault(format!("{key}.free"), "is for forwards marked `commands`: others are not limited");
        }
        let patterns: Vec<Pattern> = forward.paths.iter().filter_map(|path| path.parse().ok()).collect();
        let own = |path: &String| is_plain_path(path) && patterns.iter().any(|pattern| pattern.matches(path).is_some());
        if !forward.free.iter().all(own) {
            self.fault(format!("{key}.free"), "must be whole paths that are among its paths");
        }
        if forward.health && (forward.commands || !forward.paths.iter().all(|path| is_plain_path(path))) {
            self.fault(
                format!("{key}.health"),
                "is for whole paths without commands: nobody is asked for a token there",
            );
        }
        if forward.session.is_empty() {
            self.fault(format!("{key}.session"), "must be a parameter's name");
        }
        if forward.timeout.get().is_zero() || forward.timeout.get() > LONGEST_FORWARD {
            self.fault(format!("{key}.timeout"), "must be longer than zero and at most 10m");
        }
    }
}

/// What remains of the 25 s a planned end may take is for closing handshakes and requests in flight.
const LONGEST_DRAIN: HumanDuration = HumanDuration::from_secs(18);
/// A request waits in memory, its client in front of a blank page: longer than this is a mistake.
const LONGEST_FORWARD: Duration = Duration::from_secs(600);

/// A handshake waits, and with it a person; and a planned end for both.
const LONGEST_QUESTION: HumanDuration = HumanDuration::from_secs(10);
/// A longer memory is another engine's, with a mind of its own.
const LONGEST_REUSE: HumanDuration = HumanDuration::from_secs(600);

/// As long as the hash (RFC 7518, section 3.2).
const SHORTEST_SECRET: usize = 32;
/// Clocks that differ by more are wrong.
const LONGEST_LEEWAY: HumanDuration = HumanDuration::from_secs(600);

/// JetStream's rule for stream and bucket names, a little stricter: no odd characters.
fn is_stream(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// An absolute path without parameters, query or a slash at its end.
fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && path.parse::<Pattern>().is_ok_and(|pattern| pattern.is_literal())
}
