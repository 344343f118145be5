"""What the instruction counts are compared to, and how."""

import unittest
import unittest.mock

import instructions

HERE = {"rustc": "rustc 1.95.0", "host": "x86_64-unknown-linux-gnu", "libc": "glibc 2.36"}
BASELINE = {**HERE, "instructions": {"intake": 1000.0, "fan-out": 50.0}}


def compared(here=None, **costs):
    lines, good = instructions.compare(BASELINE, {**HERE, **(here or {})}, {"intake": 1000.0, "fan-out": 50.0} | costs)
    return "\n".join(lines), good


class Comparing(unittest.TestCase):
    def test_more_than_a_tenth_above_fails_and_says_where(self):
        text, good = compared(intake=1101.0)
        self.assertFalse(good)
        self.assertRegex(text, r"(?m)^intake +1,000\.0 +1,101\.0 +\+10\.1%  MORE THAN 10% ABOVE$")
        self.assertIn(instructions.WRITE, text)
        self.assertTrue(compared(intake=1099.0)[1])

    def test_far_below_passes_and_asks_for_a_new_baseline(self):
        text, good = compared(intake=800.0)
        self.assertTrue(good)
        self.assertIn("-20.0%  below: take the baseline down", text)
        self.assertNotIn("take the baseline down", compared()[0])

    def test_another_compiler_has_a_wider_margin_and_is_named(self):
        text, good = compared({"rustc": "rustc 1.96.0"}, intake=1200.0)
        self.assertTrue(good)
        self.assertIn("another rustc (rustc 1.95.0, here rustc 1.96.0): up to 25%", text)
        self.assertFalse(compared({"rustc": "rustc 1.96.0"}, intake=1260.0)[1])

    def test_a_phase_that_only_one_side_knows_fails(self):
        text, good = compared(more=7.0)
        self.assertFalse(good)
        self.assertIn("not in the baseline", text)
        lines, good = instructions.compare(BASELINE, HERE, {"intake": 1000.0})
        self.assertFalse(good)
        self.assertTrue(lines[2].endswith("gone"))


class Measuring(unittest.TestCase):
    def answers(self, argv, _limit, _env=None, capture=None):
        """A program with one phase: a thousand instructions to start, and seven for each of two operations a round."""
        if argv[0] == "cargo":
            return 0, ""
        if argv[0] != "valgrind":
            return 0, "intake 10 30\n"
        rounds = int(argv[-1])
        return 0, f"==7== Command: x\n{2 * rounds}\n==7== \n==7== I  refs:      {1000 + 14 * rounds:,}\n"

    def test_the_start_cancels_out(self):
        self.assertEqual(instructions.measure(self.answers, "valgrind"), {"intake": 7.0})

    def test_a_program_that_fails_is_no_measurement(self):
        def fails(argv, *_, **more):
            return (101, "panicked") if argv[0] == "valgrind" else self.answers(argv, *_, **more)

        with self.assertRaisesRegex(instructions.Failed, "panicked"):
            instructions.measure(fails, "valgrind")

    def test_without_valgrind_and_without_rights_it_says_so(self):
        with unittest.mock.patch("shutil.which", return_value=None), self.assertRaisesRegex(instructions.NotRun, "install it"):
            instructions.find_valgrind(self.answers, print)


if __name__ == "__main__":
    unittest.main()
