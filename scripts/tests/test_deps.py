"""How what is not ours is judged where no other tool does it."""

import datetime
import importlib.util
import json
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADER = SourceFileLoader("deps", str(ROOT / "scripts" / "deps"))
deps = importlib.util.module_from_spec(importlib.util.spec_from_loader("deps", LOADER))
LOADER.exec_module(deps)

HASH = "--hash=sha256:" + "0" * 64


def day(text):
    return datetime.datetime.fromisoformat(f"{text}T00:00:00+00:00")


class Releases(unittest.TestCase):
    def test_cargos_index_says_when_a_crate_was_released(self):
        lines = [{"vers": "1.0.0", "yanked": False, "pubtime": "2024-05-17T00:00:00Z"},
                 {"vers": "1.0.1", "yanked": True, "pubtime": "2024-06-01T00:00:00Z"}, {"vers": "0.9.0", "yanked": False}]
        cached = b"\3\2\0\0\0etag\0" + b"\0".join(b"%s\0%s" % (it["vers"].encode(), json.dumps(it).encode()) for it in lines)
        self.assertEqual(deps.releases(cached), {"1.0.0": day("2024-05-17")}, "yanked ones and those without a date are none")
        names = [deps.index_file(name) for name in ("h", "md", "ppp", "Serde_Json")]
        self.assertEqual(names, ["1/h", "2/md", "3/p/ppp", "se/rd/serde_json"])

    def test_who_has_been_quiet_for_long_needs_a_reason_and_others_must_not_have_one(self):
        lock = [("old", "1.0.0"), ("new", "2.0.0"), ("odd", "1.0.0")]
        found = {"old": {"1.0.0": day("2023-01-01")}, "new": {"2.0.0": day("2026-01-01")}}
        finished, deps.FINISHED = deps.FINISHED, {}
        try:
            faults = deps.quiet({"old", "new", "odd"}, lock, found)
            self.assertEqual([fault.split(":")[0] for fault in faults], ["old"])
            deps.FINISHED = {"old": "it is finished", "odd": "who knows"}
            self.assertEqual(deps.quiet({"old", "new", "odd"}, lock, found), [])
            deps.FINISHED = {"old": "", "new": "", "gone": ""}
            faults = deps.quiet({"old", "new", "odd"}, lock, found)
            self.assertEqual([fault.split(":")[0] for fault in faults], ["new", "gone"])
        finally:
            deps.FINISHED = finished
        self.assertEqual(len(deps.quiet({"old"}, lock, {})), 1, "where nothing is known, that is said")

    def test_a_newer_release_than_any_in_use_is_named(self):
        found = {"a": {"1.10.0": day("2026-01-01"), "1.9.0": day("2025-01-01"), "2.0.0-rc.1": day("2026-02-01")}}
        self.assertEqual(deps.behind({"a"}, [("a", "1.10.0"), ("a", "1.9.0")], found), [])
        self.assertIn("there is 1.10.0", deps.behind({"a"}, [("a", "1.9.0")], found)[0])


class Pins(unittest.TestCase):
    def test_a_tool_of_pypi_is_pinned_to_a_version_and_to_its_files(self):
        good = f"# what it is\na==1.0 \\\n    {HASH} \\\n    {HASH}\nb-c==2.0; python_version < \"3.11\" \\\n    {HASH}\n"
        self.assertEqual(deps.pip_faults("x", good), [])
        for bad in (f"a>=1.0 {HASH}", "a==1.0", f"a {HASH}", "--index-url somewhere\na==1.0 " + HASH, "# nothing"):
            self.assertTrue(deps.pip_faults("x", bad), bad)

    def test_a_package_of_npm_has_a_hash_and_a_licence_that_is_allowed(self):
        def faults(**package):
            lock = {"lockfileVersion": 3, "packages": {"": {}, "node_modules/x": {"integrity": "sha512-a", **package}}}
            return deps.npm_faults("lock", lock, {"MIT", "ISC"})

        for good in ("MIT", "(MIT OR GPL-3.0)", "MIT AND ISC", "GPL-3.0 OR (MIT AND ISC)"):
            self.assertEqual(faults(license=good), [], good)
        for bad in ({"license": "GPL-3.0"}, {"license": "MIT AND GPL-3.0"}, {}, {"license": "MIT", "integrity": "sha1-a"}):
            self.assertEqual(len(faults(**bad)), 1, bad)
        self.assertEqual(len(deps.npm_faults("lock", {"lockfileVersion": 1}, set())), 1)

    def test_a_tool_of_which_nothing_is_delivered_may_have_the_licence_it_has(self):
        def faults(name, **package):
            package = {"integrity": "sha512-a", "license": "MPL-2.0", **package}
            return deps.npm_faults("lock", {"lockfileVersion": 3, "packages": {f"node_modules/{name}": package}}, {"MIT"})

        for name in ("axe-core", "lightningcss", "lightningcss-linux-x64-gnu"):
            self.assertEqual(faults(name, dev=True), [], name)
        for name, package in (("axe-core", {}), ("axe-corella", {"dev": True}), ("axe-core", {"dev": True, "license": "GPL-3.0"})):
            self.assertEqual(len(faults(name, **package)), 1, (name, package))

    def test_the_licences_are_those_of_deny_toml(self):
        allowed = deps.licences((ROOT / "deny.toml").read_text())
        self.assertIn("MIT", allowed)
        self.assertIn("Apache-2.0 WITH LLVM-exception", allowed)
        self.assertNotIn("GPL-3.0", allowed)


if __name__ == "__main__":
    unittest.main()
