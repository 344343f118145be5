"""Medians, ratios, goals: what a result says of its runs."""

import unittest

from bench import figures, works

TABLE = {
    "W": {"what": "", "load": {}, "goals": [("ratio_to_floor", "<=", 1.2), ("deliveries_per_s", ">=", 10, "fast")]},
    "R": {"what": "", "load": {}, "metric": "rss_kib_growth"},
}


def run(peer, turn, cpu, **more):
    of_work = {"work": "W", "case": "", "peer": peer, "round": turn}
    return figures.completed({**of_work, "cpu_us_per_delivery": cpu, "exact": True, **more})


class Medians(unittest.TestCase):
    def test_a_median_is_the_middle_one_or_the_mean_of_both(self):
        self.assertEqual(figures.median([3, 1, 2]), 2)
        self.assertEqual(figures.median([4, 1, 2, 3]), 2.5)
        self.assertIsNone(figures.median([]))

    def test_numbers_become_medians_truths_hold_only_together_and_what_is_missing_is_left_out(self):
        merged = figures.merged([
            {"n": 1, "exact": True, "peer": "x", "p": None}, {"n": 9, "exact": False, "peer": "x", "p": 7},
            {"n": 3, "exact": True, "peer": "x"}])
        self.assertEqual(merged, {"n": 3, "exact": False, "peer": "x", "p": 7})


class Results(unittest.TestCase):
    def test_a_ratio_is_taken_within_its_round(self):
        # The machine was twice as slow in the second round: the figures differ, the ratio does not.
        figures_of = [("floor", 0, 5), ("ws-edge", 0, 6), ("floor", 1, 10), ("ws-edge", 1, 12), ("floor", 2, 5), ("ws-edge", 2, 7)]
        floor, edge = figures.results([run(*each) for each in figures_of], TABLE)
        self.assertEqual((floor["ratio_to_floor"], edge["peer"]), (1, "ws-edge"))
        self.assertEqual((edge["cpu_us_per_delivery"], edge["least"], edge["most"]), (7, 6, 12))
        self.assertAlmostEqual(edge["ratio_to_floor"], 1.2)
        self.assertEqual(edge["rounds"], 3)

    def test_a_case_is_told_by_the_first_one_too(self):
        table = {"W": {"what": "", "load": {}, "cases": [works.case("calm"), works.case("stalled")]}}
        runs = [run("ws-edge", turn, 5, p99_us=p99 * (turn + 1)) | {"case": name}
                for turn in range(2) for name, p99 in (("calm", 100), ("stalled", 150))]
        self.assertEqual([each["p99_to_first"] for each in figures.results(runs, table)], [1, 1.5])

    def test_without_a_yardstick_there_is_no_ratio(self):
        edge = run("ws-edge", 0, 6)
        for runs in ([edge], [run("floor", 0, 0), edge], [run("floor", 1, 5), edge]):
            self.assertIsNone(figures.results(runs, TABLE)[-1]["ratio_to_floor"])

    def test_one_run_that_is_not_exact_makes_its_result_not_exact(self):
        edge, = figures.results([run("ws-edge", 0, 6), run("ws-edge", 1, 6, exact=False, lost=1)], TABLE)
        self.assertIs(edge["exact"], False)

    def test_a_run_that_failed_has_the_fields_of_a_result_all_the_same(self):
        failed = {"work": "W", "case": "", "peer": "ws-edge", "round": 0, "exact": False, "failed": "it ended"}
        edge, = figures.results([figures.completed(failed)], TABLE)
        self.assertEqual((edge["exact"], edge["cpu_us_per_delivery"], edge["ratio_to_floor"]), (False, None, None))

    def test_growth_is_from_the_beginning_to_the_peak(self):
        self.assertEqual(run("floor", 0, 1, rss_kib_before=100, rss_kib_peak=700, rss_kib_after=300)["rss_kib_growth"], 600)
        self.assertEqual(run("floor", 0, 1, cpu_s=3.0, seconds=2.0)["cpu_cores"], 1.5)


class Goals(unittest.TestCase):
    def test_a_goal_is_judged_for_ws_edge_where_it_holds(self):
        record = {"peer": "ws-edge", "case": "fast, one core", "ratio_to_floor": 1.3, "deliveries_per_s": 10}
        self.assertEqual([reached for *_, reached in figures.verdict(TABLE["W"], record)], [False, True])
        self.assertEqual(len(figures.verdict(TABLE["W"], {**record, "case": "slow"})), 1)
        self.assertEqual(figures.verdict(TABLE["W"], {**record, "peer": "uws"}), [])


class Table(unittest.TestCase):
    def test_every_work_is_complete_and_its_fields_have_heads(self):
        from bench import report
        from bench.rounds import OTHERS
        for name, work in {**works.WORKS, **works.PROOF}.items():
            with self.subTest(name):
                self.assertTrue(work["what"] and works.cases(work))
                self.assertLessEqual({works.metric(work), *work.get("columns", [])}, set(report.HEADS))
                for field, sense, *_ in work.get("goals", []):
                    self.assertTrue(field in report.HEADS and sense in ("<=", ">="))
                self.assertTrue(work.get("run", "examples") in OTHERS)
                labels = [each["case"] for each in works.cases(work)]
                self.assertEqual(len(labels), len(set(labels)))

    def test_a_case_has_the_flags_of_its_work_and_its_own(self):
        work = {"what": "", "load": {"rate": 5, "seconds": 1}, "cases": [works.case("a", rate=7)]}
        self.assertEqual(works.cases(work)[0]["load"], {"rate": 7, "seconds": 1})
        self.assertEqual(works.peers({"peers": ("floor", "gm-bridge")}, ["ws-edge"]), ["gm-bridge"])


if __name__ == "__main__":
    unittest.main()
