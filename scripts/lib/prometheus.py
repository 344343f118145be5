"""A real Prometheus that scrapes the services of a run and answers the queries of dashboard and alerts."""

import itertools
import json
import math
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import observability
from net import free_port, get
from processes import wait_until

# Seconds: a download, and Prometheus' start.
DOWNLOAD_S, READY_S = 180, 60
# What Grafana puts in its place: a few scrapes.
RATE_INTERVAL = "20s"
# A quantile of nothing is no number, and nobody was blocked, or has asked for the past.
MAY_BE_NOTHING = ("herald_blocked_lag_bytes", "herald_replay_request_seconds")


class Broken(Exception):
    """The text is what the person at the terminal needs to know."""


def find(home):
    """The path of a Prometheus on this machine: on the PATH, or brought into `home` before; else None."""
    brought = home / "prometheus" / "usr" / "bin" / "prometheus"
    return shutil.which("prometheus") or (str(brought) if brought.exists() else None)


def bring(home, say):
    """Debian's, unpacked into `home`: its path, and None; or None, and why there is none."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None, "prometheus is not on the PATH, and this is no Debian to take it from"
    say("downloading Debian's prometheus to .herald/prometheus (unpacked there, not installed)")
    with tempfile.TemporaryDirectory(dir=home) as folder:
        try:
            # apt checks it by the signatures that it trusts.
            subprocess.run(["apt-get", "--quiet=2", "download", "prometheus"], cwd=folder, check=True, timeout=DOWNLOAD_S,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            package = next(Path(folder).glob("prometheus_*.deb"))
            subprocess.run(["dpkg-deb", "--extract", str(package), f"{folder}/tree"], check=True, timeout=DOWNLOAD_S)
        except (subprocess.SubprocessError, StopIteration):
            return None, "apt-get did not bring prometheus"
        Path(folder, "tree").rename(home / "prometheus")
    return find(home), None


def configure(folder, targets):
    """Our prometheus.yml and alerts, with the addresses that the services have here by job, and scraped more often."""
    text = observability.CONFIG.read_text()
    text = re.sub(r"(scrape|evaluation)_interval: \S+", r"\1_interval: 1s", text)
    for job, addresses in targets.items():
        text, changed = re.subn(rf'(job_name: {job}\n(?:.*\n)*?.*targets: )\["[^"]*"\]', rf'\1{json.dumps(addresses)}', text)
        assert changed == 1, job
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(observability.ALERTS, folder)
    return folder / "prometheus.yml"


def promtool(program, *arguments):
    """Has the promtool beside a Prometheus look at something, if there is one."""
    tool = Path(program).with_name("promtool")
    if not tool.exists():
        return
    done = subprocess.run([str(tool), *map(str, arguments)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Broken(f"promtool {arguments[0]} {arguments[1]}: {done.stdout}{done.stderr}")


def answered(query, values):
    numbers = [value for value in values if not math.isnan(value)]
    return bool(numbers) or bool(values) and any(name in query for name in MAY_BE_NOTHING)


class Prometheus:
    def __init__(self, processes, program, folder, targets):
        """Starts `program`, which scrapes `targets` (addresses by job), with its data in `folder`."""
        config, port = configure(folder, targets), free_port()
        promtool(program, "check", "config", config)
        processes.start("prometheus", [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'prometheus'}",
                                       f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"])
        self.processes, self.url = processes, f"http://127.0.0.1:{port}"
        if not wait_until(lambda: get(f"{self.url}/-/ready")[0] == 200, READY_S, processes):
            raise Broken(f"prometheus was not ready within {READY_S} s")
        # What it has not seen at rest has no rate. (It takes some seconds to find out what to scrape.)
        scraped = sum(map(len, targets.values()))
        if not wait_until(lambda: sum(self.ask("count(up > 0)")) >= scraped, READY_S, processes):
            raise Broken(f"prometheus did not scrape {scraped} services within {READY_S} s")

    def ask(self, query):
        """The values of a query; none where it is not answered."""
        query = query.replace("$__rate_interval", RATE_INTERVAL)
        status, body = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        if status != 200:
            raise Broken(f"{query}: {status} {body}")
        return [float(series["value"][1]) for series in json.loads(body)["data"]["result"]]

    def ask_all(self, asked, seconds, meanwhile):
        """Asks (where, query) of each until all are answered, or time is up; what was answered. A rate is seen only of what goes on:
        `meanwhile` is called with a number before each round."""
        found, rounds = {}, itertools.count()

        def look():
            meanwhile(next(rounds))
            for where, query in asked:
                if not answered(query, found.get((where, query), [])):
                    found[where, query] = self.ask(query)
            return all(answered(query, found[where, query]) for where, query in asked)

        wait_until(look, seconds, self.processes, pause=1)
        return found

    def broken_rules(self):
        """What is wrong with the alert rules, in Prometheus' own words."""
        _, body = get(f"{self.url}/api/v1/rules")
        rules = [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]]
        faults = [f"alert: {rule['name']}: {rule.get('lastError') or rule['health']}" for rule in rules if rule["health"] == "err"]
        missing = len(observability.of_alerts()) - len(rules)
        return faults + ([f"{missing} alerts were not loaded"] if missing else [])
