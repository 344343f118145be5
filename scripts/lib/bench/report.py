"""What people read: a table per work, on the terminal and in results.md."""

from bench import figures, works
from bench.svg import short

# How a field is headed, and what turns it into that unit.
HEADS = {
    "cpu_us_per_delivery": ("CPU/delivery µs", 1),
    "cpu_us_per_event": ("CPU/event µs", 1),
    "cpu_us_per_change": ("CPU/change µs", 1),
    "other_cpu_us_per_change": ("of the other edge, µs", 1),
    "ratio_to_floor": ("x floor", 1),
    "ratio_to_floor_stream": ("x floor-stream", 1),
    "deliveries_per_s": ("deliveries/s", 1),
    "events_per_s": ("events/s", 1),
    "events": ("events", 1),
    "p50_us": ("p50 ms", 1000),
    "p99_us": ("p99 ms", 1000),
    "max_us": ("max ms", 1000),
    "metric_to_first": ("x the first case's", 1),
    "p99_to_first": ("p99 x the first case's", 1),
    "first_p50_us": ("first event p50 ms", 1000),
    "first_p99_us": ("first event p99 ms", 1000),
    "nats_cpu_us": ("CPU of NATS each, ms", 1000),
    "edge_cpu_us": ("CPU of the edge each, ms", 1000),
    "rss_kib_per_connection": ("KiB/connection", 1),
    "rss_kib_after": ("RSS MiB", 1024),
    "rss_kib_growth": ("growth MiB", 1024),
    "idle_cpu_ms_per_s": ("idle CPU ms/s", 1),
    "connect_per_s": ("connections/s", 1),
    "seconds": ("s", 1),
    "cpu_s": ("CPU s", 1),
    "cpu_cores": ("cores used", 1),
    "caught_up_s": ("caught up s", 1),
    "history_reads": ("reads of the stream", 1),
    "shelf_reads": ("reads of the shelf", 1),
    "lookups": ("places looked up", 1),
    "shared_reads": ("reads shared", 1),
    "reopened": ("clients that came back", 1),
    "span_bytes": ("KiB of spans", 1024),
    "players": ("players at 1.2/s", 1),
}


def shown(field, record):
    value = record.get(field)
    return "-" if not figures.is_number(value) else short(value / HEADS[field][1])


def exactness(record):
    """`yes`, or what is wrong."""
    if record["exact"]:
        return "yes"
    wrong = [f"{record[fault]:,.0f} {fault}" for fault in ("lost", "doubled", "reordered", "foreign") if record.get(fault)]
    return "NO: " + (record.get("failed") or ", ".join(wrong) or "incomplete")


def columns(work):
    """The fields of a work's table: its metric, the ratio to the yardsticks that do it, then its own."""
    by = {figures.YARDSTICK: "ratio_to_floor", figures.STREAM_YARDSTICK: "ratio_to_floor_stream"}
    compared = [field for peer, field in by.items() if peer in work.get("peers", works.FOUR)]
    metric = works.metric(work)
    return [metric, *compared, *(field for field in work.get("columns", []) if field != metric)]


def rows(work, members):
    """Head and rows of a work's table."""
    fields = columns(work)
    cases = any(record["case"] for record in members)
    head = (["case"] if cases else []) + ["peer"] + [HEADS[field][0] for field in fields] + ["exact"]
    body = []
    for record in members:
        cells = [shown(field, record) for field in fields]
        if record.get("least") is not None and record["rounds"] > 1:
            by = HEADS[fields[0]][1]
            cells[0] += f" ({short(record['least'] / by)}-{short(record['most'] / by)})"
        body.append(([record["case"]] if cases else []) + [record["peer"], *cells, exactness(record)])
    return head, body


def plain(head, body):
    """Columns one below the other, for a terminal."""
    widths = [max(len(row[at]) for row in [head, *body]) for at in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [head, *body]]


def markdown(head, body):
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    return [line(head), line(["---"] * len(head)), *map(line, body)]


def goals(work, members):
    """What was to be reached, and whether it was."""
    said = []
    for record in members:
        for field, sense, value, reached in figures.verdict(work, record):
            of_whom = f" ({record['case']})" if record["case"] else ""
            head, unit = HEADS[field]
            came = "reached" if reached else "NOT reached"
            said.append(f"goal{of_whom}: {head} {sense} {short(value / unit)}: {came} ({shown(field, record)})")
    return said


def notes(work, members, rounds):
    """What is to be known beside the figures: the work's notes, and its rounds where they are not those of all."""
    took = sorted({record.get("own_rounds") or record["rounds"] for record in members})
    return work.get("notes", []) + [f"of {number} round{'s' if number != 1 else ''}" for number in took if number != rounds]


def of_work(results, name):
    return [record for record in results if record["work"] == name]


def on_terminal(results, table):
    """All tables as text."""
    said = []
    for name, work in table.items():
        members = of_work(results, name)
        if members:
            said += ["", f"{name}: {work['what']}", *("  " + line for line in plain(*rows(work, members)))]
            said += [f"  {line}" for line in goals(work, members) + work.get("notes", [])]
    return "\n".join(said)


def as_markdown(results, table, facts, absent, charts):
    """The whole of results.md."""
    # Of most; works that had others say so.
    counts = [record["rounds"] for record in results if "own_rounds" not in record]
    rounds = max(set(counts), key=counts.count, default=0)
    loads = [record["load_average"] for record in results if figures.is_number(record.get("load_average"))]
    said = [
        "# What was measured", "",
        "By `./scripts/bench --write`; how, and what the works are: [README](README.md). All fields: [results.json](results.json).", "",
        *markdown(["", ""], [[key, str(value)] for key, value in facts.items()]), "",
        f"Medians of {rounds} rounds unless said otherwise, in brackets the least and the most of the first column. The load average (1 min) before a "
        f"measurement was {short(figures.median(loads))} in the median, at most {short(max(loads, default=None))}, whoever made it. Works "
        "without a section were not measured then.", "",
    ]
    said += [f"Not measured: `{peer}`, as {why}." for peer, why in absent.items()]
    said += [f"![{name}]({name})" for name in charts if name == "ratios.svg"] + [""]
    for name, work in table.items():
        members = of_work(results, name)
        if not members:
            continue
        said += [f"## {name}: {work['what']}", "", *markdown(*rows(work, members)), ""]
        # Works that were measured at another time say so.
        said += sorted({f"* measured at commit {record['commit']}, {record['date']}" for record in members
                        if "commit" in record and (record["commit"], record["date"]) != (facts.get("commit"), facts.get("date"))})
        said += [f"* {line}" for line in goals(work, members) + notes(work, members, rounds)] + [""]
        if "plot" in work and f"growth-{work['plot'][0]}.svg" in charts:
            said += [f"![{name}](growth-{work['plot'][0]}.svg)", ""]
    while said[-1] == "":
        said.pop()
    return "\n".join(said) + "\n"
