"""What compose/observability asks of Prometheus, and whether Herald shows what is asked for."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "compose" / "observability"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "herald.json"
ALERTS = FOLDER / "alerts.yml"
ALERT_TESTS = FOLDER / "alerts.test.yml"
CONFIG = FOLDER / "prometheus.yml"
README = ROOT / "README.md"

# A metric in a query, and what it is asked by; names of ours, and those that Prometheus' own libraries use for a process.
METRIC = re.compile(r"\b((?:herald|process)_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")
LIMIT = re.compile(r"\s+(?:==|!=|<=|>=|<|>)\s+[0-9.e+-]+$")
# What Prometheus adds to each series, and what histograms have.
OF_PROMETHEUS = {"job", "instance", "le"}
OF_HISTOGRAMS = ("_bucket", "_sum", "_count")


def of_dashboard():
    """(where, query) of each query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(f"dashboard: {panel['title']}", target["expr"]) for panel in panels for target in panel.get("targets", [])]


def of_alerts():
    """(where, query, limit) of each alert; what it fires at is cut off."""
    found = []
    for name, expression in re.findall(r"^ +- alert: (\w+)\n +expr: (.+)$", ALERTS.read_text(), re.MULTILINE):
        limit = LIMIT.search(expression)
        if not limit:
            raise ValueError(f"{name}: {expression}: no limit at its end")
        found.append((f"alert: {name}", expression[:limit.start()], limit[0].strip()))
    return found


def queries():
    """(where, query) of both."""
    return of_dashboard() + [(where, query) for where, query, _ in of_alerts()]


def selectors(query):
    """(metric, labels it is asked by) of a query; all labels that it groups by count for each of its metrics."""
    grouped = {label.strip() for labels in GROUPED.findall(query) for label in labels.split(",") if label.strip()}
    return [(metric, grouped | set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers or "")))
            for metric, matchers in METRIC.findall(query)]


def whole(metric, known):
    """The name of a metric without what histograms add."""
    if metric in known:
        return metric
    return next((metric[:-len(end)] for end in OF_HISTOGRAMS if metric.endswith(end) and metric[:-len(end)] in known), metric)


def documented(services=None):
    """Metric: its labels, as the README's tables have them; of these services, or of all."""
    text, found = README.read_text(), {}
    for service, table in re.findall(r"<!-- metrics:(\S+) -->\n(.*?)<!-- /metrics:", text, re.DOTALL):
        if services is not None and service not in services:
            continue
        for metric, labels in re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", table, re.MULTILINE):
            found.setdefault(metric, set()).update(re.findall(r"`(\w+)`", labels))
    # Of the sentence below them.
    found.update({metric: set() for metric in re.findall(r"`(process_\w+)`", text)})
    return found


def shown(pages):
    """Metric: its labels, as pages of metrics have them; of histograms, by their names without what they add."""
    found, histograms = {}, set()
    for page in pages:
        histograms |= set(re.findall(r"^# TYPE (\w+) histogram$", page, re.MULTILINE))
        for metric, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", page, re.MULTILINE):
            found.setdefault(whole(metric, histograms), set()).update(re.findall(r'(\w+)="', labels))
    return found


def faults(asked, known, what):
    """What is asked for that is not known: sentences."""
    found = []
    for where, query in asked:
        for metric, labels in selectors(query):
            name = whole(metric, known)
            if name not in known:
                found.append(f"{where}: {what} no {metric}")
            elif labels - OF_PROMETHEUS - known[name]:
                found.append(f"{where}: {metric} has no {', '.join(sorted(labels - OF_PROMETHEUS - known[name]))}")
    return found


def of_every_game(asked):
    """Those queries that a game answers by itself: without ingest, and without an engine that says who may come in."""
    return [(where, query) for where, query in asked if 'job="ingest"' not in query and "herald_admission_" not in query]


def unanswered(pages):
    """The queries that Prometheus could not answer from the pages of metrics of a game: sentences."""
    return faults(of_every_game(queries()), shown(pages), "nobody shows")
