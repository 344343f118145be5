"""That dashboard and alerts ask for what there is, as the README has it."""

import json
import re
import unittest

import observability

PAGE = """\
# HELP herald_a_total Something
# TYPE herald_a_total counter
herald_a_total{reason="x",way="y"} 3
# TYPE herald_b_seconds histogram
herald_b_seconds_bucket{kind="k",le="0.5"} 1
herald_b_seconds_sum{kind="k"} 0.1
herald_b_seconds_count{kind="k"} 1
# TYPE herald_c_count gauge
herald_c_count 0
"""


class Queries(unittest.TestCase):
    def test_each_asks_for_a_metric_and_labels_of_the_readme(self):
        asked = observability.queries()
        self.assertGreater(len(asked), 60)
        self.assertEqual(observability.faults(asked, observability.documented(), "the README knows"), [])

    def test_every_metric_of_the_services_that_are_tried_is_asked_for(self):
        # Those that ./scripts/dashboard starts.
        documented = observability.documented(["shared", "ws-edge", "gm-bridge", "ingest"])
        asked = {observability.whole(metric, documented) for _, query in observability.queries()
                 for metric, _ in observability.selectors(query)}
        self.assertEqual(set(documented) - asked, set(), "nobody would see these")

    def test_each_names_a_metric(self):
        for where, query in observability.queries():
            named = observability.selectors(query) or query.startswith("up{")
            self.assertTrue(named, f"{where}: {query}")

    def test_alerts_say_what_they_mean(self):
        text = observability.ALERTS.read_text()
        names = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
        self.assertEqual(len(observability.of_alerts()), len(names))
        self.assertEqual(len(set(names)), len(names))
        for part in ("severity:", "summary:", "description:"):
            self.assertEqual(text.count(part), len(names), part)
        # What makes them fire; promtool runs these in ./scripts/dashboard.
        tried = re.findall(r"alertname=\"(\w+)\"", observability.ALERT_TESTS.read_text())
        self.assertEqual(tried, names)

    def test_panels_have_a_place_of_their_own_and_the_provisioned_source(self):
        panels = json.loads(observability.DASHBOARD.read_text())["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            taken |= cells
        source = (observability.FOLDER / "grafana/provisioning/datasources/herald.yml").read_text()
        used = {panel["datasource"]["uid"] for panel in panels if "datasource" in panel}
        self.assertEqual({f"uid: {uid}" for uid in used}, {re.search(r"uid: \w+", source)[0]})

    def test_prometheus_scrapes_the_ports_that_services_have(self):
        readme, config = observability.README.read_text(), observability.CONFIG.read_text()
        row = next(line for line in readme.splitlines() if line.startswith("| `operations.address` |"))
        for address, service in re.findall(r"`([\d.:]+)` \(([\w-]+)\)", row):
            self.assertIn(f'job_name: {service}', config)
            self.assertIn(f'targets: ["{address}"]', config)


class Reading(unittest.TestCase):
    def test_a_page_of_metrics_is_read(self):
        self.assertEqual(observability.shown([PAGE]), {
            "herald_a_total": {"reason", "way"}, "herald_b_seconds": {"kind", "le"}, "herald_c_count": set()})

    def test_what_is_not_shown_is_found(self):
        def faults(query):
            return observability.faults([("here", query)], observability.shown([PAGE]), "nobody shows")

        for good in ('sum by (reason) (rate(herald_a_total{way="y"}[5m]))', "herald_c_count",
                     "histogram_quantile(0.99, sum by (le, kind) (rate(herald_b_seconds_bucket[5m])))",
                     'sum by (job, instance) (increase(herald_a_total{reason=~"x|y"}[5m]))'):
            self.assertEqual(faults(good), [], good)
        self.assertEqual(faults("rate(herald_d_total[5m])"), ["here: nobody shows no herald_d_total"])
        self.assertEqual(faults("sum by (code) (herald_a_total)"), ["here: herald_a_total has no code"])
        self.assertEqual(faults('herald_c_count{way="y"}'), ["here: herald_c_count has no way"])

    def test_the_limit_of_an_alert_is_no_part_of_its_query(self):
        for _, query, limit in observability.of_alerts():
            self.assertNotRegex(query, r"[<>]\s*[\d.]+$")
            self.assertRegex(limit, r"^[<>]=? [\d.]+$")


if __name__ == "__main__":
    unittest.main()
