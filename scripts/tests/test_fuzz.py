"""Which tests are fuzzing targets, and what a run of one says."""

import importlib.util
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parents[1] / "fuzz")
LOADER = SourceFileLoader("fuzz", SCRIPT)
fuzz = importlib.util.module_from_spec(importlib.util.spec_from_loader("fuzz", LOADER))
LOADER.exec_module(fuzz)


class Listing(unittest.TestCase):
    def test_targets_are_the_tests_in_modules_of_that_name(self):
        text = ("fuzz::subjects: test\nidentity::verify::fuzz::tokens: test\nidentity::verify::tests::fuzz_is_none: test\n"
                "fuzzy::other: test\nsse::tests::fuzz: test\n\n5 tests, 0 benchmarks\n")
        self.assertEqual(fuzz.targets(text), [("subjects", "fuzz::subjects"), ("tokens", "identity::verify::fuzz::tokens")])

    def test_what_a_target_says_is_found_among_the_rest(self):
        text = "\nrunning 1 test\nfuzz tokens: 10000 inputs by seed 7 in 1.0 s\ntest verify::fuzz::tokens ... ok\n"
        self.assertEqual(fuzz.SAID.search(text)[1], "10000 inputs by seed 7 in 1.0 s")


if __name__ == "__main__":
    unittest.main()
