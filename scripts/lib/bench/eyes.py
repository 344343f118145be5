"""Those who watch an edge: somebody asks for its metrics once a second, and somebody takes its spans."""

import threading

from bench import stage
from collector import Collector

# Seconds between two looks, as a Prometheus in a hurry has them.
INTERVAL_S = 1


class Eyes:
    """A context manager. Without `watched` in the case, nobody looks."""

    def __init__(self, case):
        self.collector = Collector() if case.get("watched") else None
        self.done, self.thread = threading.Event(), None

    @property
    def environment(self):
        """By which an edge sends its spans."""
        return {"HERALD_TRACES__ENDPOINT": self.collector.url} if self.collector else {}

    def look_at(self, urls):
        """Asks for these pages from now on."""
        if self.collector:
            self.thread = threading.Thread(target=self._look, args=(urls,), daemon=True)
            self.thread.start()

    def _look(self, urls):
        while not self.done.wait(INTERVAL_S):
            for url in urls:
                stage.get(url)

    def found(self):
        """What became of it, to be kept with the figures."""
        return {"span_bytes": self.collector.received} if self.collector else {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        if self.thread:
            self.thread.join()
        if self.collector:
            self.collector.close()
