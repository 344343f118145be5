"""Tables, charts, and what is read back from the examples' output."""

import unittest
import xml.etree.ElementTree as xml

from bench import examples, figures, measure, plots, report, rounds, svg, works

TABLE = {"W1": {"what": "some | thing", "load": {}, "columns": ["p50_us"], "goals": [("ratio_to_floor", "<=", 1.2)]},
         "W8s": {"what": "growth", "load": {}, "peers": works.PAIR, "plot": ("sessions", "sessions"),
                 "cases": [works.case("10", sessions=10), works.case("1,000", sessions=1000)]}}


def results():
    runs = []
    for turn in range(2):
        runs += [{"work": "W1", "case": "", "peer": peer, "round": turn, "cpu_us_per_delivery": cpu + turn, "p50_us": 250,
                  "exact": peer != "uws", "lost": 5 if peer == "uws" else 0, "load_average": 1.5}
                 for peer, cpu in (("floor", 5), ("ws-edge", 6), ("uws", 9))]
        runs += [{"work": "W8s", "case": case, "peer": peer, "round": turn, "cpu_us_per_delivery": cpu, "exact": True}
                 for case, cpu in (("10", 5.0), ("1,000", 8.0)) for peer in works.PAIR]
    return figures.results([figures.completed(each) for each in runs], TABLE)


class Tables(unittest.TestCase):
    def test_a_table_shows_figures_ratios_and_what_is_not_exact(self):
        text = report.on_terminal(results(), TABLE)
        self.assertIn("5.5 (5-6)", text)
        self.assertRegex(text, r"ws-edge +6\.5 \(6-7\) +1\.18 +0\.25 +yes")
        self.assertIn("NO: 5 lost", text)
        self.assertIn("goal: x floor <= 1.2: reached (1.18)", text)

    def test_the_markdown_has_a_row_per_result_and_links_its_charts(self):
        found = results()
        facts, charts = {"CPU": "x", "cores": 2}, plots.charts(found, TABLE)
        text = report.as_markdown(found, TABLE, facts, {"nats": "it is away"}, charts)
        self.assertEqual(sum("| floor |" in line for line in text.splitlines()), 3)
        for part in ("| CPU | x |", "Not measured: `nats`, as it is away.", "![ratios.svg](ratios.svg)",
                     "![W8s](growth-sessions.svg)", "2 rounds"):
            self.assertIn(part, text)

    def test_a_second_yardstick_has_its_own_column(self):
        table = {"W": {"what": "", "load": {}, "peers": works.ALL, "notes": ["it waits"]}}
        runs = [{"work": "W", "case": "", "peer": peer, "round": 0, "cpu_us_per_delivery": cpu, "exact": True}
                for peer, cpu in (("floor", 4), ("floor-stream", 8), ("ws-edge", 10))]
        text = report.on_terminal(figures.results([figures.completed(each) for each in runs], table), table)
        self.assertIn("x floor-stream", text)
        self.assertRegex(text, r"ws-edge +10 +2\.5 +1\.25 ")
        self.assertIn("it waits", text)

    def test_a_work_of_other_rounds_says_so(self):
        members = [{"rounds": 3}, {"rounds": 1, "own_rounds": 3}]
        self.assertEqual(report.notes({}, members, 3), [])
        self.assertEqual(report.notes({"notes": ["x"]}, [{"rounds": 1}], 3), ["x", "of 1 round"])

    def test_figures_are_short(self):
        values = (None, 0.19234, 5.3, 12.34, 15432, 3_950_000)
        self.assertEqual([svg.short(value) for value in values], ["-", "0.192", "5.3", "12.3", "15,432", "3.95 M"])


class Charts(unittest.TestCase):
    def test_charts_are_well_formed_and_hold_every_point(self):
        for name, chart in plots.charts(results(), TABLE).items():
            root = xml.fromstring(chart)
            self.assertTrue(root.tag.endswith("svg"))
            if name == "growth-sessions.svg":
                self.assertEqual(len(root.findall("{*}circle")), 4)
                self.assertEqual(len(root.findall("{*}polyline")), 2)

    def test_odd_values_make_a_chart_too(self):
        for curves in ({}, {"a": [(1, 0.0)]}, {"a": [(1, 2.0)], "b & c": [(10, 2000.0)]}):
            for log_y in (False, True):
                xml.fromstring(svg.lines("<title>", "x", "y", curves, log_y))
        cut = xml.fromstring(svg.bars("t", [("W", {"a": 84.0, "b": None})], ["a", "b"], 6.0, mark=1.0))
        self.assertIn("84 »", "".join(cut.itertext()))

    def test_nothing_measured_makes_no_chart(self):
        self.assertEqual(plots.charts([], TABLE), {})


class Examples(unittest.TestCase):
    def test_the_table_of_durability_is_read(self):
        found, = examples.durability([
            "load 1.0 2.0", "                  sessions  batch   events/s    p50 ms    p99 ms repeated  syncs/event",
            "R3, 10s                100     10      98765      1.25      9.50     0.00        0.000"])
        self.assertEqual(found["case"], "R3, 10s: 100 sessions, batches of 10")
        self.assertEqual((found["events_per_s"], found["p50_us"], found["p99_us"]), (98765, 1250, 9500))
        self.assertAlmostEqual(found["players"], 98765 / 1.2)

    def test_the_table_of_bursts_is_read(self):
        found, = examples.bursts([
            "one node, always         20   100 always      6664      2.90 / 9.10    16.00 / 30.00       99%"])
        self.assertEqual(found["case"], "one node, always: 20 sessions, 100 at once, in batches")
        self.assertEqual((found["peer"], found["events_per_s"], found["last_p99_us"]), ("gm-bridge", 6664, 30_000))

    def test_what_did_not_happen_in_time_has_no_figure_but_a_line(self):
        found, = examples.bursts([
            "one node, always         20   100  never      1743    19.85 / 21.32        NaN / NaN        0%"])
        self.assertEqual((found["p50_us"], found["last_p50_us"]), (19_850, None))

    def test_the_table_of_cold_is_read(self):
        found, = examples.cold([
            "resume, 20 behind          50 |     4.1     9.9    12.0 |     5.0    11.0    14.5 |    1.5 ms    0.3 ms |      100    30"])
        self.assertEqual(found["case"], "resume, 20 behind, 50 at once")
        self.assertEqual((found["p50_us"], found["p99_us"], found["nats_cpu_us"]), (5000, 11_000, 1500))


class Order(unittest.TestCase):
    def test_each_round_begins_with_another_peer(self):
        self.assertEqual([rounds.by_turns(["a", "b", "c"], turn) for turn in range(4)],
                         [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]])

    def test_reads_of_history_are_told_apart_by_kind(self):
        page = ('herald_history_read_seconds_count{kind="page"} 3\nherald_history_read_seconds_count{kind="shelf"} 40\n'
                'herald_history_read_seconds_count{kind="proof"} 5\nherald_history_shared_reads_total 7\n')
        self.assertEqual(measure.reads([page, page]),
                         {"history_reads": 6, "shelf_reads": 80, "lookups": 10, "shared_reads": 14})

    def test_a_case_may_leave_peers_out(self):
        self.assertEqual(works.peers({"peers": works.EDGE}, ["nats", "ws-edge"]), ["ws-edge"])

    def test_flags_are_spelled_as_the_generator_reads_them(self):
        self.assertEqual(measure.flags({"connect_rate": True, "rate": 5, "idle": False, "size": None}), ["--connect-rate", "--rate", "5"])


if __name__ == "__main__":
    unittest.main()
