"""The works, as data: what is done to a server, and which figure of it counts.

A work is measured case by case. `load` holds the flags of `sim load` that all its cases share, a case adds its own. What
else a work says:

    peers       who does it, in this order (FOUR); a case may name fewer
    coalesce    the yardstick and uws write together what came together
    metric      the field that is compared with the yardstick's (cpu_us_per_delivery)
    columns     the fields worth a column, besides the metric and its ratio
    goals       what ws-edge is to reach: (field, "<=" or ">=", value), of each case or of those that begin with a fourth
    edge        variables for ws-edge
    watched     of a case: the edge's metrics are asked for each second, and its spans taken (eyes.py)
    processes   of a case: so many of the peer, each with its share of the clients
    notes       sentences below its table
    quick       how many of its cases --quick does
    examples    with run "examples": which ones, and their flags
    run         who measures it, where that is not `sim load`: see rounds.py
    plot        (field along x, what it is called) of a growth curve
"""

import resource

# All that there are. `floor-stream` is the yardstick, fed by the stream as ws-edge is: what ws-edge costs beyond it is its own.
ALL = ("floor", "floor-stream", "ws-edge", "nats", "uws")
FOUR = ("floor", "ws-edge", "nats", "uws")
PAIR = ("floor", "ws-edge")
EDGE = ("ws-edge",)

# Descriptors that a server needs besides its clients' sockets.
SPARE = 600
# Connections that one process can have here; the most that ws-edge takes unless told otherwise is 20,000.
MOST_CLIENTS = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE)


def clients(wanted):
    return min(wanted, MOST_CLIENTS)


def case(label, **flags):
    return {"case": label, "load": flags}


RATE = ["deliveries_per_s"]
TIMES = ["p50_us", "p99_us"]

# One session that everybody watches, and many that a few watch.
HOT = {"sessions": 1, "clients": 1000, "seconds": 5}
MANY = {"sessions": 1000, "clients": 2, "seconds": 5}

# Everything that is limited by address or session at a public door, with limits that nobody reaches.
COUNTED = {f"HERALD_LIMITS__{key}": "1000000" for key in (
    "CONNECTIONS_PER_ADDRESS", "CONNECTIONS_PER_SESSION", "HANDSHAKES_PER_ADDRESS", "HANDSHAKES")}

# What ws-edge may hold in memory, in KiB: as it is delivered, and by the sizes of its code.
MIB = 1024
# A session's frames in one view (ring.bytes).
RING = 1 * MIB
# A part of the shelf is in memory until it is full and written (history/shelf.rs, PART).
SHELF_PART = 16 * MIB
# What a connection that can't be written to keeps (connection.rs, HELD_WHILE_BLOCKED).
HELD = 64
# A page of history (history.page), which a connection that fell off the ring is read back by.
PAGE = 256
# Reads of the stream at once (history.max_reads).
READS = 16


def burst_growth(events, event_bytes, connections):
    """The most that a burst may add: the ring, the shelf's copy of the events, those that wait in the intake (there each takes
    as much again for its subject and its place in the queue), and what each connection keeps."""
    burst = events * (event_bytes + 128) / 1024
    return RING + min(burst, SHELF_PART) + 2 * burst + connections * HELD


def stall_growth(stalled):
    """The most that clients which stop reading may add to a stream that goes on: the ring, a shelf's part that is filled while
    another one is written (and stays, for the next), what each of them keeps, and the pages that they are read back by."""
    return RING + 2 * SHELF_PART + stalled * HELD + READS * PAGE

WORKS = {
    "W1": {
        "what": "1 session x 1,000 clients, 100 events/s",
        "peers": ALL,
        "load": {**HOT, "rate": 100},
        "columns": TIMES,
        "goals": [("ratio_to_floor", "<=", 1.2)],
        "quick": 1,
    },
    "W1t": {
        "what": "W1 of ws-edge, and the same while its metrics are asked for each second and a hundredth of the events is traced",
        "peers": EDGE,
        "load": {**HOT, "rate": 100, "seconds": 10},
        "cases": [case("as it is"), {**case("watched", traced=0.01), "watched": True}],
        "columns": ["metric_to_first", *TIMES, "span_bytes"],
        "goals": [("metric_to_first", "<=", 1.03, "watched")],
    },
    "W1max": {
        "what": "the same, as fast as it goes",
        "load": HOT,
        # How many events are on their way to the slowest client decides how much can be written together.
        "cases": [case("100 on their way", window=100), case("900 on their way", window=900)],
        "coalesce": True,
        "columns": RATE,
        "goals": [("ratio_to_floor", "<=", 1.4), ("deliveries_per_s", ">=", 2_500_000)],
        "quick": 1,
    },
    "W2": {
        "what": "1,000 sessions x 2 clients, 5,000 events/s in all",
        "peers": ALL,
        "load": {**MANY, "rate": 5000},
        "columns": TIMES,
        "goals": [("ratio_to_floor", "<=", 1.25)],
        "quick": 1,
    },
    "W2max": {
        "what": "the same, as fast as it goes",
        "peers": ALL,
        "load": MANY,
        "cases": [case("1 on its way", window=1), case("8 on their way", window=8)],
        "coalesce": True,
        "columns": RATE,
        "goals": [("ratio_to_floor", "<=", 1.1)],
        "notes": ["The next event of a session is published when its slowest client has the one before: whoever reads the stream "
                  "waits for the store in each turn, a core subscription does not. Fewer events on their way are fewer "
                  "written together."],
        "quick": 1,
    },
    "W3": {
        "what": "10,000 connections that nothing is sent to",
        "metric": "rss_kib_per_connection",
        "columns": ["idle_cpu_ms_per_s", "connect_per_s"],
        "load": {"sessions": 1000, "clients": 10},
        "cases": [
            case("idle", idle=True, seconds=5),
            # 1 ms/s is a thousandth of a core: the epoch watcher's look every 2 s, and the clocks.
            {**case("idle without pings", idle=True, seconds=5), "peers": EDGE, "edge": {"HERALD_SOCKET__HEARTBEAT": "1h"}},
            case("connecting", connect_rate=True),
            {**case("connecting, counted", connect_rate=True), "peers": EDGE, "edge": COUNTED},
        ],
        "goals": [("rss_kib_per_connection", "<=", 5, "idle"), ("idle_cpu_ms_per_s", "<=", 1, "idle without pings"),
                  ("connect_per_s", ">=", 15_000, "connecting")],
        "notes": ["ws-edge pings each connection every 25 s: 400 pings a second, written, and their answers read; the yardstick "
                  "and uws (every 120 s) ping nobody in this time.",
                  "Counted: by address and session, with rates, as at a door that is open to the internet; nobody reaches a limit."],
        "quick": 3,
    },
    "W4": {
        "what": "one client, 25 events/s",
        "peers": ALL,
        "metric": "p50_us",
        "columns": ["p99_us"],
        "load": {"sessions": 1, "clients": 1, "rate": 25, "seconds": 12},
        "goals": [("ratio_to_floor", "<=", 1.2)],
        "quick": 1,
    },
    "W4gm": {
        "what": "from the Game Master's byte to the client's frame: sim gm, gm-bridge, JetStream, ws-edge, about 1,000 events/s",
        "metric": "p50_us",
        "columns": ["p99_us", "events_per_s", "events"],
        "run": "game_masters",
        "peers": EDGE,
        "load": {"game_masters": 20, "speed": 8, "article_bytes": 4000},
        "goals": [("p50_us", "<=", 1000), ("p99_us", "<=", 5000)],
    },
    "W5": {
        "what": "10,000 events at once to 100 clients",
        "metric": "seconds",
        "columns": ["cpu_us_per_delivery", "rss_kib_growth"],
        "load": {"sessions": 1, "clients": 100, "burst": 10_000},
        "coalesce": True,
        "goals": [("rss_kib_growth", "<=", burst_growth(10_000, 300, 100))],
        "quick": 1,
    },
    "W5s": {
        "what": "100 clients, 2,000 events/s of 1 kB; 10 of them stop reading for 8 s",
        "columns": ["rss_kib_growth", "p50_us", "p99_us", "p99_to_first", "reopened"],
        "load": {"sessions": 1, "clients": 100, "rate": 2000, "size": 1000, "seconds": 12},
        "cases": [case("none stalled"), case("10 stalled", stalled=10, stall_seconds=8)],
        "coalesce": True,
        "goals": [("p99_to_first", "<=", 1.2, "10 "), ("rss_kib_growth", "<=", stall_growth(10), "10 ")],
    },
    "W6": {
        "what": "5,000 clients of 500 sessions come back within 2 s, each 200 events behind",
        "metric": "caught_up_s",
        "columns": ["cpu_s", "history_reads", "shelf_reads", "lookups", "shared_reads", "rss_kib_growth"],
        "peers": EDGE,
        "load": {"sessions": 500, "clients": 10, "resume": 200},
        "cases": [case("kept in memory"), {**case("read from the shelf"), "edge": {"HERALD_RING__LINGER": "1ms"}},
                  {**case("read from the stream"), "edge": {"HERALD_RING__LINGER": "1ms", "HERALD_HISTORY__SHELF": "0B"}}],
        # Once per session, and once more for those who come when that read is over; not once per client.
        "goals": [("caught_up_s", "<=", 3), ("history_reads", "<=", 2 * 500)],
    },
    "W7": {
        "what": "events of 10,000 sessions, 50 of them watched",
        "metric": "cpu_us_per_event",
        "columns": ["events", "p50_us", "p99_us"],
        "peers": PAIR,
        "load": {"sessions": 10_000, "clients": 1, "watched": 50, "seconds": 5},
        "cases": [case("50,000 events/s", rate=50_000), case("100,000 events/s", rate=100_000),
                  {**case("50,000 events/s, no shelf", rate=50_000), "peers": EDGE, "edge": {"HERALD_HISTORY__SHELF": "0B"}}],
        "goals": [("cpu_us_per_event", "<=", 2)],
    },
    "W8s": {
        "what": "growth by sessions, 1 client each, 5,000 events/s in all",
        "columns": TIMES + ["rss_kib_after"],
        "peers": PAIR,
        "load": {"clients": 1, "rate": 5000, "seconds": 3},
        "cases": [case(f"{sessions:,} sessions", sessions=sessions) for sessions in (10, 100, 1000, 10_000)],
        "plot": ("sessions", "sessions"),
    },
    "W8c": {
        "what": "growth by clients of one session, 20,000 deliveries/s in all",
        "columns": TIMES + ["rss_kib_after"],
        "peers": PAIR,
        "load": {"sessions": 1, "seconds": 3, "sources": 2},
        "cases": [case(f"{clients(many):,} clients", clients=clients(many), rate=max(1, 20_000 // many))
                  for many in (10, 100, 1000, 10_000, 20_000)],
        "plot": ("clients", "clients of one session"),
    },
    "W8b": {
        "what": "growth by size of an event, 100 clients, 20 events/s",
        "columns": TIMES,
        "peers": PAIR,
        "load": {"sessions": 1, "clients": 100, "rate": 20, "seconds": 3},
        "cases": [case(f"{size:,} B", size=size) for size in (128, 512, 2048, 8192, 32_768, 65_536)],
        "plot": ("size", "bytes of an event"),
    },
    "W9": {
        "what": "the write side: stored through stream and bridge, one by one and in batches, synced every 10 s and always",
        "metric": "events_per_s",
        "columns": ["players", "p50_us", "p99_us"],
        "run": "examples",
        "peers": ("nats-server", "gm-bridge"),
        "examples": [("durability", ["--seconds", "1", "--rounds", "ROUNDS"]), ("bursts", ["--seconds", "1", "--rounds", "ROUNDS"])],
        "load": {},
    },
    "W10": {
        "what": "cold reads on a stream of 20,000 sessions x 200 events, by a fresh edge",
        "metric": "p50_us",
        "columns": ["p99_us", "max_us", "first_p50_us", "first_p99_us", "nats_cpu_us", "edge_cpu_us"],
        "run": "examples",
        "peers": EDGE,
        "examples": [("cold", ["--samples", "200"])],
        "load": {},
        "goals": [("p99_us", "<=", 50_000, "resume"), ("p99_us", "<=", 100_000, "snapshot")],
    },
    "W11": {
        "what": "one core against two, one process against two, one hot session against many: as fast as it goes, 1,000 connections",
        "columns": RATE + ["cpu_cores"],
        "peers": PAIR,
        "coalesce": True,
        "load": {"seconds": 4},
        "cases": [
            {**case(f"{shape}, {where}", **flags), **how}
            for shape, flags in (("one hot session", {"sessions": 1, "clients": 1000, "window": 900}),
                                 ("500 sessions", {"sessions": 500, "clients": 2, "window": 16}))
            for where, how in (("one core", {"cores": "0"}), ("two cores", {}), ("two processes", {"processes": 2}))
        ],
        "notes": ["Two processes serve half of the clients each, on two ports, from one stream; CPU is that of both."],
    },
    "W12": {
        "what": "400 changes/s of who is there, in sessions of 10, 1,000 and 10,000 connected people; two edges",
        "metric": "cpu_us_per_change",
        "columns": ["other_cpu_us_per_change"],
        "run": "examples",
        "peers": EDGE,
        "examples": [("crowd", ["--rounds", "ROUNDS"])],
        "load": {},
        "notes": ["A change is one user with a token coming (a whole handshake) or going. The other edge only hears of it. Everybody told: what a "
                  "session is told is bounded by the second (presence.deliveries), not by the change."],
    },
}

# Not a measurement: that the benchmark itself works. ./scripts/test runs it.
PROOF = {
    "W0": {
        "what": "proves that the benchmark works: 3 sessions x 4 clients, 200 events/s",
        "columns": TIMES,
        "peers": PAIR,
        "load": {"sessions": 3, "clients": 4, "rate": 200, "seconds": 1, "warmup": 1},
    },
}


def cases(work):
    """The cases of a work, with all flags of each; a work without any is its own only case."""
    return [{**each, "load": {**work["load"], **each["load"]}} for each in work.get("cases", [case("")])]


def metric(work):
    return work.get("metric", "cpu_us_per_delivery")


def peers(work, wanted):
    """Those of the work's, or of a case's, peers that are wanted; what belongs to no peer is always done."""
    return [peer for peer in work.get("peers", FOUR) if peer in wanted or peer not in ALL]
