"""What is read of the client's tests."""

import unittest

import client_tests


class Reading(unittest.TestCase):
    def test_versions_of_node_are_told_apart(self):
        self.assertEqual([client_tests.node_version(text) for text in ("v20.20.2\n", "v8.1.0", "", "node: not found")], [20, 8, 0, 0])

    def test_passed_and_failed_tests_are_counted_whatever_they_print(self):
        spec = "✔ a (1ms)\npass 3\nℹ tests 5\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 0\n"
        self.assertEqual(client_tests.counted(spec), (3, 2))
        self.assertEqual(client_tests.counted("# pass 7\n# fail 0\n"), (7, 0))
        self.assertEqual(client_tests.counted("no test ran\n"), (0, 0))


if __name__ == "__main__":
    unittest.main()
