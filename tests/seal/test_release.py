"""State across releases: a new policy reads what the old one sealed only where it says so."""
import base64
import copy
import json
import pathlib
import re
import signal
import sqlite3
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack, policy_pcr, program  # noqa: E402
from terminal import Terminal  # noqa: E402

KEY = "agent-state"
NAMES = ["a", "b", "wallets/1", "wallets/2"]


def tally(resealed: int, already: int, failed: int) -> str:
    return (f"{resealed} resealed, {already} sealed by this release already, 0 deleted meanwhile, "
            f"{failed} failed")


class Release(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.close)
        self.stack.prepare()
        self.policy = self.stack.default_policy()
        self.policy["keys"][KEY]["encryption_context"]["policy"] = "${policy}"
        self.policy["agents"][0]["may"].append(f"attest:{KEY}")
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
        self.assertEqual((status, out), (7, tally(0, 0, 4)))
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
                         tally(2, 0, 0))
        self.assertEqual(self.reseal()[1], tally(1, 3, 0))
        self.assertEqual(self.reseal(),
                         (0, tally(0, 4, 0), ""))
        self.assertEqual(self.get("wallets/1"), (200, '"2"', b"wallets/1"))

        # The next release needs to know this one only.
        self.release([second])
        self.assertEqual(self.get("a"), (200, '"2"', b"a"))
        self.assertEqual(self.get("b"), (200, '"2"', b"new"))

    def stored(self, query: str):
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            return store.execute(query).fetchall()

    def resealed(self) -> int:
        return self.stored("select count(*) from state where generation = 2")[0][0]

    def wait_for_resealed(self, count: int) -> None:
        deadline = time.monotonic() + 120
        while self.resealed() < count:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    def calls_to_kms(self) -> int:
        trail = json.loads(self.stack.api("GET", "/v1/evidence")[2])["calls"]
        return trail[-1]["number"]

    def test_it_can_be_stopped_at_any_time_and_gone_on_with(self):
        more = [f"more/{i}" for i in range(8)]
        for name in more:
            self.assertEqual(self.put(name, name.encode())[0], 201)
        count = len(NAMES) + len(more)
        self.release([self.first])
        command = Terminal([program("claviger"), "reseal", "--agent", self.stack.address("agent")])
        self.wait_for_resealed(1)
        # Long enough for the bar to come, on any machine.
        daemon = self.stack.running["clavigerd"].process
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(0.7)
        daemon.send_signal(signal.SIGCONT)
        self.wait_for_resealed(4)
        self.assertLess(command.interrupt(), 0)
        self.assertRegex(command.shown, rf"\rresealing \[[#.]{{30}}\] +\d+% \d+ of {count}")

        done = self.resealed()
        self.assertLess(done, count)
        calls = self.calls_to_kms()
        status, out, _ = self.reseal()
        resealed, already = (int(n) for n in re.match(
            r"(\d+) resealed, (\d+) sealed by this release already, 0 deleted meanwhile, 0 failed",
            out).groups())
        self.assertEqual((status, resealed + already), (0, count))
        # The daemon ends what it had begun for the command that was stopped: one state at most.
        self.assertIn(already, (done, done + 1))
        # One call to open and one to seal for each: what was done before costs none. The state
        # that was under way may have its calls in between, and be met again by the second run.
        self.assertIn(self.calls_to_kms() - calls, range(2 * resealed, 2 * resealed + 5))
        self.assertEqual(self.stored("select distinct generation from state"), [(2,)])
        for name in more + NAMES:
            self.assertEqual(self.get(name), (200, '"2"', name.encode()))

    def test_a_store_of_several_pages_is_gone_through_whole(self):
        """Several answers of the parent. Headers alone tell what is this release's."""
        self.assertEqual(self.put("many/000", b"x")[0], 201)
        blob = self.stored("select blob from state where name like '%many/000'")[0][0]
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            for i in range(1, 1000):
                store.execute("insert into state (name, generation, blob) values (?, 1, ?)",
                              (f"{KEY}/many/{i:03}", blob.replace(b"many/000", b"many/%03d" % i)))
        self.assertEqual(self.reseal("--prefix", "many/")[:2],
                         (0, tally(0, 1000, 0)))

    def test_the_evidence_tells_what_was_opened_under_a_predecessor(self):
        self.release([self.first])
        self.assertEqual(self.get("a")[0], 200)
        trail = json.loads(self.stack.api("GET", "/v1/evidence")[2])["calls"]
        self.assertEqual([call["action"] for call in trail], ["Decrypt"])
        self.assertIn(self.first["policy"].encode(), base64.b64decode(trail[0]["operation"]))

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
