"""The benchmark from end to end, as small as it gets: programs, load, results. Builds what it needs."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = [sys.executable, ROOT / "scripts" / "bench", "W0", "--profile", "dev", "--peers", "floor,ws-edge", "--rounds", "1",
         "--json"]
LIMIT_S = 420
FIELDS = {"work", "case", "peer", "cpu_us_per_delivery", "ratio_to_floor", "exact", "connections", "events", "deliveries",
          "expected", "lost", "doubled", "reordered", "foreign", "seconds", "deliveries_per_s", "p50_us", "p99_us",
          "rss_kib_after", "load_average"}


def start():
    return subprocess.Popen([str(word) for word in BENCH], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def end(child):
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        child.communicate()


def children_of(pid):
    """The processes that a process has started and that still run."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = status.read_text().partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == pid:
                found.append(int(number))
        except (OSError, ValueError):
            pass
    return found


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


class EndToEnd(unittest.TestCase):
    def test_yardstick_and_edge_deliver_everything_and_the_results_have_their_fields(self):
        child = start()
        self.addCleanup(end, child)
        out, err = child.communicate(timeout=LIMIT_S)
        self.assertEqual(child.returncode, 0, err)
        results = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([result["peer"] for result in results], ["floor", "ws-edge"], err)
        for result in results:
            self.assertEqual(FIELDS - set(result), set(), result)
            self.assertTrue(result["exact"] and result["deliveries"] == result["expected"] > 0, result)
            self.assertEqual((result["work"], result["connections"]), ("W0", 12))
            self.assertGreater(result["cpu_us_per_delivery"], 0)
            self.assertGreater(result["ratio_to_floor"], 0)
        self.assertEqual(results[0]["ratio_to_floor"], 1)

    def test_a_benchmark_that_is_interrupted_ends_what_it_started(self):
        child = start()
        self.addCleanup(end, child)
        # The first measurement has begun when its nats-server, its peer and its load run: three children beside the watchdog.
        until, started = time.monotonic() + LIMIT_S, []
        while len(started) < 4:
            self.assertIsNone(child.poll())
            self.assertLess(time.monotonic(), until)
            started = children_of(child.pid)
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, err)
        self.assertEqual([pid for pid in started if runs(pid)], [])


if __name__ == "__main__":
    unittest.main()
