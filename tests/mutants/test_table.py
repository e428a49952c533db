"""The table of sabotages fits the tree: each line stands once where the table says, the sabotage
changes it, and each test that has to notice exists. `make check-mutants` judges them."""
import os
import pathlib
import re
import unittest

from mutants import MUTANTS

ROOT = pathlib.Path(os.environ["CLAVIGER_SOURCE"])
TESTS = ROOT / "tests"


class Table(unittest.TestCase):
    def test_each_line_stands_once_in_its_file(self):
        for name, file, line, sabotage, _ in MUTANTS:
            with self.subTest(name):
                self.assertEqual((ROOT / file).read_text().count(line), 1, line)
                self.assertNotEqual(line, sabotage)

    def test_each_name_is_one_sabotage(self):
        names = [mutant[0] for mutant in MUTANTS]
        self.assertEqual(len(names), len(set(names)))

    def test_each_test_that_must_notice_exists(self):
        for name, _, _, _, tests in MUTANTS:
            self.assertTrue(tests, name)
            for test in tests:
                with self.subTest(name, test=test):
                    self.check_test(test)

    def check_test(self, test):
        script, *case = test.split()
        if not script.endswith(".py"):
            room, what = script.split("/")
            self.assertTrue((TESTS / room / f"test_{what}.c").exists())
            return
        text = (TESTS / script).read_text()
        for dotted in case:
            for part in dotted.split("."):
                self.assertRegex(text, rf"(class|def) {re.escape(part)}\b")


if __name__ == "__main__":
    unittest.main(verbosity=2)
