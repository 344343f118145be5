"""One measurement: a peer is started afresh, one case is done to it, it is ended."""

import json
import re

from bench import eyes, machine, peers, stage as stages
from bench.stage import Failed

# Beyond what a load takes by its flags: connecting 20,000 clients, and its last deliveries.
SLACK_S = 90
# How long an edge may read the past.
SETTLE_S = 120


def flags(load):
    """`sim load`'s flags: {"connect_rate": True, "rate": 5} is --connect-rate --rate 5."""
    words = []
    for name, value in load.items():
        if value is not False and value is not None:
            words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return words


def load(stage, running, wanted):
    """Runs `sim load` against a peer; what it found."""
    argv = [stage.program("sim"), "load", "--url", ",".join(running.urls), "--protocol", running.protocol,
            "--nats", f"127.0.0.1:{running.nats_port}", "--pid", ",".join(map(str, running.pids)), "--json", *flags(wanted)]
    child = stage.start("load", argv)

    def over():
        gone = next((peer for peer in running.children if peer.process.ended()), None)
        if gone:
            raise Failed(f"{gone.name} ended with exit code {gone.process.child.returncode}{gone.last_words()}")
        return child.process.ended()

    try:
        child.wait_for("its result", over, wanted.get("seconds", 10) + wanted.get("warmup", 2) + SLACK_S)
        child.process.printer.join(2)
        found = next((line for line in reversed(child.lines) if line.startswith("{")), None)
        if found is None:
            raise Failed(f"sim load ended with exit code {child.process.child.returncode}{child.last_words()}")
        return json.loads(found)
    finally:
        child.end()


# What a read of history is counted as, by the kind that the edge gives it: events read from the stream, or from the shelf, and
# questions after a single place.
KINDS = {"page": "history_reads", "snapshot": "history_reads", "shelf": "shelf_reads",
         "before": "lookups", "first": "lookups", "proof": "lookups", "end": "lookups"}
READ = re.compile(r'^herald_history_read_seconds_count\{[^}]*kind="(\w+)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE)
LOOKS_BACK = re.compile(r"^herald_shelf_looks_back\{[^}]*\} 1$", re.MULTILINE)
SHARED = re.compile(r"^herald_history_shared_reads_total(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


def reads(texts):
    """How often history was read, by these pages of metrics."""
    counted = dict.fromkeys([*KINDS.values(), "shared_reads"], 0)
    for text in texts:
        for kind, value in READ.findall(text):
            counted[KINDS[kind]] += float(value)
        counted["shared_reads"] += sum(map(float, SHARED.findall(text)))
    return counted


def metrics(running):
    """The pages of metrics of a peer that has some."""
    return [text for status, text in map(stages.get, running.metrics) if status == 200]


def settle(stage, running):
    """Waits until an edge has taken the stream's past into its shelf: once per process, in the background, and not what is
    measured."""
    running.children[0].wait_for("the end of the look back", lambda: not any(map(LOOKS_BACK.search, metrics(running))), SETTLE_S)


def sockets(stage, backbone, peer, work, case):
    """A case that `sim load` does."""
    with eyes.Eyes(case) as watching:
        case = {**case, "edge": {**case.get("edge", {}), **watching.environment}}
        running = peers.PEERS[peer](stage, backbone, work, case)
        try:
            settle(stage, running)
            before = reads(metrics(running))
            watching.look_at(running.metrics)
            found = load(stage, running, case["load"])
            if running.metrics:
                after = reads(metrics(running))
                found |= {name: after[name] - before[name] for name in after}
        finally:
            running.end()
    # The last spans have left with the edge.
    return {**found, **watching.found()}


def one(stage, backbone, peer, work, case):
    """A measurement with its circumstances; one that fails says so, and is not exact."""
    load_average = machine.load_average()
    try:
        found = sockets(stage, backbone, peer, work, case)
    except Failed as failed:
        stage.say(f"FAILED: {failed}")
        found = {"exact": False, "failed": str(failed).splitlines()[0]}
    return {**found, "load_average": load_average}
