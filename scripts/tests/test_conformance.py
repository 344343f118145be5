"""How the reports of the Autobahn cases are judged."""

import importlib.util
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parents[1] / "conformance")
LOADER = SourceFileLoader("conformance", SCRIPT)
conformance = importlib.util.module_from_spec(importlib.util.spec_from_loader("conformance", LOADER))
LOADER.exec_module(conformance)


def report(behavior="OK", close="OK"):
    return {"behavior": behavior, "behaviorClose": close, "reportfile": "x.json"}


class Verdict(unittest.TestCase):
    def judged(self, reports, expected):
        lines = []
        conformance.OUT.line, before = lines.append, conformance.OUT.line
        try:
            return conformance.judge(reports, expected), lines
        finally:
            conformance.OUT.line = before

    def test_only_what_the_protocol_allows_passes(self):
        reports = {"1.1.1": report(), "1.1.10": report("NON-STRICT"), "7.1.1": report("INFORMATIONAL", "INFORMATIONAL"),
                   "2.1": report("FAILED"), "10.1.1": report("OK", "WRONG CODE"), "1.1.2": report("UNIMPLEMENTED")}
        failed, lines = self.judged(reports, 6)
        self.assertEqual((failed, lines[-1]), (3, "3 passed, 3 failed"))
        self.assertIn("| 1.* | framing | 2 | 1 | 1, 0 |", lines)
        self.assertTrue(any("10.1.1 failed: OK, closing WRONG CODE" in line for line in lines))

    def test_a_case_without_a_report_has_failed(self):
        self.assertEqual(self.judged({"1.1.1": report()}, 3)[1][-1], "1 passed, 2 failed")


if __name__ == "__main__":
    unittest.main()
