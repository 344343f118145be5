"""The order of things: round by round, in each round every peer of a case in turn.

Peer and backbone are started afresh for each measurement, so that none inherits another one's memory, clients or buffers;
memory could not be told otherwise. Nor does any inherit what was stored for those before: an edge reads the stream's past.
"""

from bench import examples, figures, game_masters, measure, peers, works
from bench.stage import backbone

# What measures the works that are not `sim load`'s: called with (stage, name, work, rounds), yields runs.
OTHERS = {"game_masters": game_masters.runs, "examples": examples.runs}


def by_turns(members, turn):
    """All of them, another one first each time."""
    at = turn % len(members) if members else 0
    return members[at:] + members[:at]


def of_work(stage, name, work, wanted, rounds):
    """Measures a work; yields its runs as they come."""
    if "run" in work:
        yield from OTHERS[work["run"]](stage, name, work, rounds)
        return
    members = [peer for peer in works.peers(work, wanted) if not peers.absent(stage, peer)]
    for turn in range(rounds):
        for case in works.cases(work):
            for peer in by_turns(works.peers(case, members) if "peers" in case else members, turn):
                with backbone(stage) as bed:
                    found = measure.one(stage, bed, peer, work, case)
                yield {**found, "work": name, "case": case["case"], "peer": peer, "round": turn}


def all_of(stage, table, names, wanted, rounds, each):
    """Measures the works of these names; `each` is called with every run. All runs."""
    runs = []
    for name in names:
        for run in of_work(stage, name, table[name], wanted, rounds):
            runs.append(figures.completed(run))
            each(runs[-1])
    return runs
