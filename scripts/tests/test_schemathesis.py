"""How the reports of schemathesis are counted."""

import importlib.util
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parents[1] / "schemathesis")
LOADER = SourceFileLoader("try_schemathesis", SCRIPT)
script = importlib.util.module_from_spec(importlib.util.spec_from_loader("try_schemathesis", LOADER))
LOADER.exec_module(script)

GOOD = '<testcase name="GET /health"/>'
BAD = '<testcase name="GET /api/state"><failure message="ST1">1. Case\n\n- Server error\n\n[500]\n- Server error</failure></testcase>'
BROKEN = '<testcase name="GET /sse/{sid}"><error>timed out</error></testcase>'
LEFT_OUT = '<testcase name="GET /x"><skipped/></testcase>'


def report(*cases):
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


class Verdict(unittest.TestCase):
    def test_failures_and_errors_have_failed_and_what_was_left_out_has_not_passed(self):
        passed, failures = script.tally(report(GOOD, BAD, BROKEN, LEFT_OUT), 1)
        self.assertEqual((passed, failures), (1, ["GET /api/state failed: Server error", "GET /sse/{sid} failed: timed out"]))

    def test_without_a_report_or_against_its_exit_code_nothing_has_passed(self):
        self.assertEqual(script.tally(report(GOOD), 0), (1, []))
        for text, code in ((report(GOOD), 1), ("", 0), ("", 2), (report(LEFT_OUT), 0)):
            self.assertEqual(len(script.tally(text, code)[1]), 1, (text, code))


if __name__ == "__main__":
    unittest.main()
