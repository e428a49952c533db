"""State across releases: a new policy reads what the old one sealed only where it says so."""
import copy
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack, policy_pcr  # noqa: E402

KEY = "agent-state"
NAMES = ["a", "b", "wallets/1", "wallets/2"]


class Release(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.close)
        self.stack.prepare()
        self.policy = self.stack.default_policy()
        self.policy["keys"][KEY]["encryption_context"]["policy"] = "${policy}"
        self.first = self.context_of(self.stack.write_policy(self.policy))
        self.stack.start_nsm()
        self.stack.start_parent()
        self.stack.start_enclave()
        for name in NAMES:
            self.assertEqual(self.put(name, name.encode())[0], 201)

    def context_of(self, text: bytes) -> dict:
        """The whole context of this policy's state: what a successor lists."""
        return {"Purpose": "AgentSecrets", "enclave": "agent-runtime", "policy": policy_pcr(text)}

    def release(self, predecessors: list) -> dict:
        """Boot an enclave with another policy; its context."""
        policy = copy.deepcopy(self.policy)
        policy["attestation"]["max_age_s"] = 61 + len(predecessors)
        if predecessors:
            policy["keys"][KEY]["predecessors"] = predecessors
        text = self.stack.write_policy(policy)
        self.stack.restart_enclave()
        return self.context_of(text)

    def put(self, name, body):
        return self.stack.api("PUT", f"/v1/state/{name}", body)

    def get(self, name):
        status, headers, body = self.stack.api("GET", f"/v1/state/{name}")
        return status, headers.get("ETag"), body

    def reseal(self, *more):
        done = self.stack.run("claviger", "reseal", "--agent", self.stack.address("agent"), *more,
                              check=False)
        return done.returncode, done.stdout.strip(), done.stderr

    def test_without_a_predecessor_it_is_refused_and_kept(self):
        self.release([])
        status, _, body = self.get("a")
        self.assertEqual((status, json.loads(body)["code"]), (422, "seal-context"))
        self.assertIn("policy", json.loads(body)["detail"])
        status, out, err = self.reseal()
        self.assertEqual((status, out), (7, "0 resealed, 0 sealed by this release already, 4 failed"))
        self.assertIn("seal-context", err)
        self.stack.write_policy(self.policy)
        self.stack.restart_enclave()
        self.assertEqual(self.get("a"), (200, '"1"', b"a"))

    def test_with_a_predecessor_it_is_read_and_sealed_anew(self):
        second = self.release([{"Purpose": "Other"}, self.first])
        for name in NAMES:
            self.assertEqual(self.get(name), (200, '"1"', name.encode()))
        self.assertEqual(self.put("b", b"new")[0], 200)

        # Begun, and gone on with later.
        self.assertEqual(self.reseal("--prefix", "wallets/")[1],
                         "2 resealed, 0 sealed by this release already, 0 failed")
        self.assertEqual(self.reseal()[1], "1 resealed, 3 sealed by this release already, 0 failed")
        self.assertEqual(self.reseal(),
                         (0, "0 resealed, 4 sealed by this release already, 0 failed", ""))
        self.assertEqual(self.get("wallets/1"), (200, '"2"', b"wallets/1"))

        # The next release needs to know this one only.
        self.release([second])
        self.assertEqual(self.get("a"), (200, '"2"', b"a"))
        self.assertEqual(self.get("b"), (200, '"2"', b"new"))

    def test_a_predecessor_with_one_pair_wrong_opens_nothing(self):
        for wrong in ({**self.first, "policy": "00" * 48}, {**self.first, "more": "x"},
                      {k: v for k, v in self.first.items() if k != "Purpose"}):
            with self.subTest(wrong=wrong):
                self.release([wrong])
                self.assertEqual(self.get("a")[0], 422)

    def test_malformed_predecessors_are_refused_by_name(self):
        for wrong, place in (({"a": "b"}, "keys.agent-state.predecessors"),
                             ([1], "keys.agent-state.predecessors[0]"),
                             ([{}, {"a": 1}], "keys.agent-state.predecessors[1].a"),
                             ([{"claviger:name": "x"}], "keys.agent-state.predecessors[0]"),
                             ([{}] * 9, "keys.agent-state.predecessors")):
            with self.subTest(wrong=wrong):
                self.policy["keys"][KEY]["predecessors"] = wrong
                self.stack.write_policy(self.policy, grant=False)
                self.stack.start_nsm()
                self.stack.running["clavigerd"].kill()
                daemon = self.stack.start_enclave(ready=False)
                self.assertNotEqual(daemon.wait_end(), 0)
                self.assertIn(place, daemon.log)


if __name__ == "__main__":
    unittest.main(verbosity=2)
