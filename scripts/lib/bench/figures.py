"""From runs to results: medians per peer, and the ratio to the yardstick, taken round by round before its median."""

from bench import works

YARDSTICK = "floor"
# The yardstick, fed as ws-edge is.
STREAM_YARDSTICK = "floor-stream"


def median(values):
    """The middle one; between two, their mean. None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def merged(runs):
    """One record of several: the median of each number, all of each truth, the first of anything else."""
    fields = {}
    for run in runs:
        for field, value in run.items():
            fields.setdefault(field, []).append(value)
    record = {}
    for field, values in fields.items():
        known = [value for value in values if value is not None]
        if known and all(isinstance(value, bool) for value in known):
            record[field] = all(known)
        elif known and all(is_number(value) for value in known):
            record[field] = median(known)
        else:
            record[field] = known[0] if known else None
    return record


def completed(run):
    """A run with what follows from its fields."""
    before, after, peak = (run.get(f"rss_kib_{when}") for when in ("before", "after", "peak"))
    if before is not None and (peak or after) is not None:
        run["rss_kib_growth"] = max(0, (peak if peak is not None else after) - before)
    if run.get("cpu_s") and run.get("seconds"):
        run["cpu_cores"] = run["cpu_s"] / run["seconds"]
    run.setdefault("cpu_us_per_delivery", None)
    run["exact"] = bool(run.get("exact"))
    return run


def ratio(runs, yardsticks, metric):
    """The median over the rounds of these runs' figure by the yardsticks' of the same round; None where there is none."""
    of_round = {run["round"]: run.get(metric) for run in yardsticks}
    pairs = [(run.get(metric), of_round.get(run["round"])) for run in runs]
    return median([ours / floors for ours, floors in pairs if is_number(ours) and is_number(floors) and floors > 0])


def results(runs, table):
    """One record per work, case and peer, in the order in which they were first measured."""
    groups = {}
    for run in runs:
        groups.setdefault((run["work"], run["case"], run["peer"]), []).append(run)
    found = []
    for (work, case, peer), members in groups.items():
        first = groups.get((work, works.cases(table[work])[0]["case"], peer), [])
        metric = works.metric(table[work])
        record = {field: value for field, value in merged(members).items() if field != "round"}
        counted = [run[metric] for run in members if is_number(run.get(metric))]
        record |= {
            "metric": metric,
            "rounds": len(members),
            "least": min(counted, default=None),
            "most": max(counted, default=None),
            "metric_to_first": ratio(members, first, metric),
            "p99_to_first": ratio(members, first, "p99_us"),
            "ratio_to_floor": ratio(members, groups.get((work, case, YARDSTICK), []), metric),
            "ratio_to_floor_stream": ratio(members, groups.get((work, case, STREAM_YARDSTICK), []), metric),
        }
        found.append(record)
    return found


def verdict(work, record):
    """What ws-edge reached of the work's goals: (field, sense, value, whether it did), none for another peer."""
    said = []
    for field, sense, value, *only in work.get("goals", []):
        got = record.get(field)
        if record["peer"] != "ws-edge" or only and not record["case"].startswith(only[0]) or got is None:
            continue
        said.append((field, sense, value, got <= value if sense == "<=" else got >= value))
    return said
