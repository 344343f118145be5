"""The cargo examples that measure one property each: run by name, or as the works W9 and W10, then read back from their tables."""

import re
import subprocess

from bench import machine
from bench.stage import Failed, ROOT

# Name: package, what it tells.
EXAMPLES = {
    "bursts": ("gm-bridge", "what batches do for bursts through gm-bridge: stored per second, first and last event seen"),
    "cold": ("ws-edge",
             "resume, snapshot and replay of sessions that nobody has in memory, from 4 million events; --storm: all at once"),
    "crowd": ("ws-edge", "what it costs two edges that people come and go, by how many are connected"),
    "comeback": ("ws-edge", "2,000 sockets come back at once to an edge that has nothing of their sessions in memory"),
    "durability": ("herald-runtime", "what is stored per second and how soon, single publishes and batches, by how often NATS syncs"),
    "flood": ("ws-edge", "what floods cost those who watch, beside what it costs to share a machine with them"),
    "load": ("lobby", "what the lobby carries: labyrinths, joins, readiness to viewers, a hot session, idle viewers, long lists"),
    "players": ("gm-bridge", "how many players one NATS, one bridge and one edge carry; from Game Master or engine to the client"),
    "presence": ("ws-edge", "what it costs to know who is there when somebody comes or goes, by how many are there"),
    "slow": ("ws-edge", "what clients that never read cost those who do: from publishing to arrival, with and without"),
}

# Recorded: a player's session brings about so many events per second.
EVENTS_PER_PLAYER = 1.2
LIMIT_S = 900


def run_alone(folder, name, flags, nats_server, environment):
    """Runs an example as it is, its output for people; its exit code."""
    return subprocess.run([folder / "examples" / name, *flags], cwd=ROOT,
                          env={**environment, "HERALD_NATS_SERVER": str(nats_server)}).returncode


def output(stage, name, flags):
    """The lines of an example, run to its end."""
    argv = [stage.program("examples") / name, *flags]
    child = stage.start(name, argv, {"HERALD_NATS_SERVER": str(stage.nats_server)}, all_lines=True)
    try:
        code = child.wait(LIMIT_S)
        if code:
            raise Failed(f"{name} ended with exit code {code}{child.last_words()}")
        return list(child.lines)
    finally:
        child.end()


def milliseconds(text):
    """In µs; None for what did not happen in the time measured."""
    return None if text == "NaN" else float(text) * 1000


DURABILITY = re.compile(r"^(?P<setup>.+?)\s+(?P<sessions>\d+)\s+(?P<batch>\d+)\s+(?P<rate>[\d.]+)\s+(?P<p50>[\d.]+)\s+(?P<p99>[\d.]+)"
                        r"\s+[\d.]+\s+\S+$")


def durability(lines):
    """What nats-server stores: a run per line of its table."""
    for found in filter(None, map(DURABILITY.match, lines)):
        rate = float(found["rate"])
        how = "one by one" if found["batch"] == "1" else f"batches of {found['batch']}"
        yield {
            "peer": "nats-server", "case": f"{found['setup']}: {found['sessions']} sessions, {how}",
            "events_per_s": rate, "players": rate / EVENTS_PER_PLAYER,
            "p50_us": milliseconds(found["p50"]), "p99_us": milliseconds(found["p99"]),
        }


BURSTS = re.compile(r"^(?P<setup>.+?)\s+(?P<sessions>\d+)\s+(?P<burst>\d+)\s+(?P<batch>never|always)\s+(?P<rate>[\d.]+)\s+"
                    r"(?P<p50>[\d.]+|NaN) / (?P<p99>[\d.]+|NaN)\s+(?P<last50>[\d.]+|NaN) / (?P<last99>[\d.]+|NaN)\s+(?P<batched>\d+)%$")


def bursts(lines):
    """What gm-bridge gets through: a run per line of its table. The times are those of a burst's first event."""
    for found in filter(None, map(BURSTS.match, lines)):
        rate = float(found["rate"])
        how = "one by one" if found["batch"] == "never" else "in batches"
        at_once = "single events" if found["burst"] == "1" else f"{found['burst']} at once"
        yield {
            "peer": "gm-bridge", "case": f"{found['setup']}: {found['sessions']} sessions, {at_once}, {how}",
            "events_per_s": rate, "players": rate / EVENTS_PER_PLAYER,
            "p50_us": milliseconds(found["p50"]), "p99_us": milliseconds(found["p99"]),
            "last_p50_us": milliseconds(found["last50"]), "last_p99_us": milliseconds(found["last99"]),
        }


COLD = re.compile(r"^(?P<way>\S.*?)\s+(?P<at_once>\d+) \|\s+(?P<first50>[\d.]+)\s+(?P<first99>[\d.]+)\s+(?P<firstmax>[\d.]+) \|"
                  r"\s+(?P<p50>[\d.]+)\s+(?P<p99>[\d.]+)\s+(?P<max>[\d.]+) \|\s+(?P<nats>[\d.]+) ms\s+(?P<edge>[\d.]+) ms")


def cold(lines):
    """What a fresh edge reads back: a run per line of its table, from the knock to the last event."""
    for found in filter(None, map(COLD.match, lines)):
        yield {
            "peer": "ws-edge", "case": f"{found['way']}, {found['at_once']} at once",
            "first_p50_us": milliseconds(found["first50"]), "first_p99_us": milliseconds(found["first99"]),
            "p50_us": milliseconds(found["p50"]), "p99_us": milliseconds(found["p99"]), "max_us": milliseconds(found["max"]),
            "nats_cpu_us": milliseconds(found["nats"]), "edge_cpu_us": milliseconds(found["edge"]),
        }


CROWD = re.compile(r"^\s*(?P<there>\d+)\s+(?P<told>nobody|everybody)\s+(?P<edge>-?[\d.]+) \([^)]*\)\s+(?P<other>-?[\d.]+) \(")


def crowd(lines):
    """What a change of who is there costs two edges: a run per line of its table."""
    for found in filter(None, map(CROWD.match, lines)):
        yield {
            "peer": "ws-edge", "case": f"{int(found['there']):,} people, {found['told']} told",
            "cpu_us_per_change": float(found["edge"]), "other_cpu_us_per_change": float(found["other"]),
        }


READERS = {"durability": durability, "bursts": bursts, "cold": cold, "crowd": crowd}


def runs(stage, name, work, rounds):
    """Measures a work by its examples. They take their rounds themselves, and tell medians."""
    for example, flags in work["examples"]:
        own, flags = rounds if "ROUNDS" in flags else 1, [str(rounds) if word == "ROUNDS" else word for word in flags]
        stage.say(f"{name}: {example} {' '.join(flags)}")
        load_average = machine.load_average()
        try:
            found = list(READERS[example](output(stage, example, flags)))
            if not found:
                raise Failed(f"{example} printed no table that could be read")
        except Failed as failed:
            stage.say(f"FAILED: {failed}")
            found = [{"peer": work["peers"][0], "case": example, "exact": False, "failed": str(failed).splitlines()[0]}]
        for run in found:
            # The examples judge themselves: they read back what was acknowledged, and panic where something is lost, doubled or
            # out of order.
            yield {"exact": True, **run, "work": name, "round": 0, "own_rounds": own, "load_average": load_average}
