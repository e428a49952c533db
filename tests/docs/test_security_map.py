"""docs/security.md names only what exists: each file, each function, each test."""
import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ["CLAVIGER_SOURCE"])
TEXT = (ROOT / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| (R\d+) \|(.*)\|$", TEXT, re.M)


def sources(folder, *endings):
    return "\n".join(path.read_text() for path in sorted((ROOT / folder).rglob("*"))
                     if path.suffix in endings)


class SecurityMap(unittest.TestCase):
    def test_each_requirement_has_one_row(self):
        numbers = [number for number, _ in ROWS]
        self.assertEqual(numbers, [f"R{i}" for i in range(1, 28)])

    def test_each_requirement_is_met_in_a_file_and_a_function(self):
        for number, row in ROWS:
            met = row.split("|")[-2]
            if "all of the above" in met:
                continue
            with self.subTest(requirement=number):
                self.assertRegex(met, r"`src/[\w./-]+`")
                self.assertRegex(met, r"`clv_\w+\(\)`")

    def test_each_file_exists(self):
        for path in re.findall(r"`((?:src|tools|docs|tests)/[\w./-]+)`", TEXT):
            with self.subTest(path=path):
                self.assertTrue((ROOT / path).exists(), path)

    def test_each_function_exists(self):
        code = sources("src", ".c", ".h") + sources("include", ".h")
        for name in re.findall(r"`(\w+)\(\)`", TEXT):
            with self.subTest(function=name):
                self.assertRegex(code, rf"\b{name}\(")

    def test_each_test_exists(self):
        tests = sources("tests", ".c", ".py")
        for number, row in ROWS:
            shown = row.split("|")[-1]
            names = re.findall(r"`(\w+)`", shown)
            self.assertTrue(names, f"{number} names no test")
            for name in names:
                with self.subTest(requirement=number, test=name):
                    self.assertRegex(tests, rf"(static void|def) {name}\(")


if __name__ == "__main__":
    unittest.main(verbosity=2)
