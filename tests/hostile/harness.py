"""Runs attacks of one group as test cases. After each, the enclave is alive, has asked KMS nothing
outside its policy, and serves an honest request; at the end the parent has seen no secret."""
import re
import sys
import unittest

from attacks import ATTACKS
from stage import Stage
from witnessed import EtcdStage, ReceiptStage

# What a group's attacks need beside the usual; a stage says itself where it cannot be.
STAGES = {"witness_etcd": EtcdStage, "witness_receipts": ReceiptStage}


class Case(unittest.TestCase):
    """A group's attacks share one stage."""

    stage: Stage
    make = Stage

    @classmethod
    def setUpClass(cls) -> None:
        cls.stage = cls.make()
        try:
            cls.stage.start()
        except BaseException:
            cls.stage.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        try:
            cls.stage.check_secrets()
        finally:
            cls.stage.close()


def run_attack(attack):
    def test(self) -> None:
        try:
            attack(self.stage)
        finally:
            self.stage.check()
    return test


def main(group: str) -> None:
    tests = {}
    for number, (of, name, attack) in enumerate(ATTACKS):
        if of == group:
            slug = re.sub(r"\W+", "_", name).strip("_")
            test = run_attack(attack)
            test.__doc__ = name
            tests[f"test_{number:03}_{slug}"] = test
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(type(
        group, (Case,), {**tests, "make": STAGES.get(group, Stage)}))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    sys.exit(0 if result.wasSuccessful() else 1)
