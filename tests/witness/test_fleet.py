"""Several enclaves and one witness: crashes between store and commit, and races for a generation.

CLAVIGER_CRASHES sets how many kills (default 6), CLAVIGER_RACE_SECONDS how long two enclaves race
(default 8).
"""
import contextlib
import http.client
import json
import os
import random
import sqlite3
import threading
import time
import unittest

from common import BINARY, Case, EtcdStack
from claviger_stack import Process, UnixConnection

CRASHES = int(os.environ.get("CLAVIGER_CRASHES", "6"))
RACE_SECONDS = float(os.environ.get("CLAVIGER_RACE_SECONDS", "8"))
SEED = int(os.environ.get("CLAVIGER_SEED", str(random.randrange(1 << 32))))
NAME = "/v1/state/shared"


class Second:
    """One more enclave of the same policy, behind the same parent."""

    def __init__(self, stack: EtcdStack):
        self.dir = stack.dir / "second"
        self.dir.mkdir()
        boot = self.dir / "pcrs.json"
        boot.write_text(json.dumps(stack.pcrs))
        nsm, agent = f"unix:{self.dir}/nsm.sock", f"unix:{self.dir}/agent.sock"
        self.nsm = Process("claviger-nsm", ["serve", str(stack.nsm_dir), "--pcrs", str(boot),
                                            "--listen", nsm], self.dir).wait_ready()
        self.daemon = Process("clavigerd", [
            "--policy", str(stack.policy_file), "--nsm", nsm, "--control",
            f"unix:{self.dir}/control.sock", "--services", stack.address("services"), "--relay",
            stack.address("relay"), "--agent", agent, *stack.enclave_arguments],
            self.dir).wait_ready()

    def api(self, method, path, body=None, headers=None):
        with contextlib.closing(UnixConnection(str(self.dir / "agent.sock"))) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def close(self):
        self.daemon.kill()
        self.nsm.kill()


class Writer(threading.Thread):
    """Replaces the state as fast as it is answered; knows what was acknowledged and in doubt."""

    def __init__(self, api, mark: str):
        super().__init__()
        self.api, self.mark = api, mark
        self.acknowledged: dict[int, bytes] = {}  # by generation
        self.tried: set[bytes] = set()
        self.other: list = []
        self.stopping = False

    def run(self):
        number = 0
        while not self.stopping:
            number += 1
            body = f"{self.mark} {number}".encode()
            self.tried.add(body)
            try:
                status, headers, answer = self.api("PUT", NAME, body)
            except (OSError, http.client.HTTPException):
                return
            if status in (200, 201):
                self.acknowledged[int(headers["ETag"].strip('"'))] = body
            elif json.loads(answer)["code"] not in ("state-conflict", "store-unavailable"):
                self.other.append(answer)


class Crashes(Case):
    def test_the_last_acknowledged_state_outlives_kills_between_store_and_commit(self):
        print(f"seed {SEED}", flush=True)
        dice = random.Random(SEED)
        self.assertIn(self.stack.api("PUT", NAME, b"at first")[0], (200, 201))
        before = b"at first"
        for turn in range(CRASHES):
            writer = Writer(self.stack.api, f"turn {turn}")
            writer.start()
            time.sleep(dice.uniform(0.05, 0.6))
            self.stack.running["clavigerd"].kill()
            writer.stopping = True
            writer.join()
            self.stack.restart_enclave()
            status, headers, body = self.stack.api("GET", NAME)
            self.assertEqual(status, 200, body)
            found = int(headers["ETag"].strip('"'))
            if writer.acknowledged:
                last = max(writer.acknowledged)
                self.assertIn(found, (last, last + 1))
                if found == last:
                    self.assertEqual(body, writer.acknowledged[last])
            self.assertIn(body, {before, *writer.tried})
            self.assertEqual(writer.other, [])
            before = body

    def test_a_put_that_was_stored_and_not_committed_is_finished_by_whoever_comes_next(self):
        """The daemon dies as soon as the store has it."""
        stack = self.stack
        stack.api("PUT", NAME, b"before")
        put = threading.Thread(target=self.attempt, args=("PUT", NAME, b"in doubt"))
        before = self.stored_generation()
        put.start()
        deadline = time.monotonic() + 20
        while self.stored_generation() == before and time.monotonic() < deadline:
            time.sleep(0.001)
        stack.running["clavigerd"].kill()
        put.join()
        stack.restart_enclave()
        status, headers, body = stack.api("GET", NAME)
        self.assertEqual((status, body), (200, b"in doubt"))
        self.assertEqual(int(headers["ETag"].strip('"')), before + 1)

    def attempt(self, method, path, body):
        try:
            self.stack.api(method, path, body)
        except (OSError, http.client.HTTPException):
            pass

    def stored_generation(self) -> int:
        with contextlib.closing(sqlite3.connect(self.stack.dir / "store.db")) as store:
            return store.execute("SELECT generation FROM state WHERE name = ?",
                                 ("agent-state/shared",)).fetchone()[0]


class Races(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.second = Second(cls.stack)

    @classmethod
    def tearDownClass(cls):
        cls.second.close()
        super().tearDownClass()

    def test_of_two_enclaves_that_put_at_once_one_commits_each_generation(self):
        writers = [Writer(self.stack.api, "first"), Writer(self.second.api, "second")]
        for writer in writers:
            writer.start()
        readers = []
        deadline = time.monotonic() + RACE_SECONDS
        while time.monotonic() < deadline:
            for api in (self.stack.api, self.second.api):
                status, headers, body = api("GET", NAME)
                if status == 200:
                    readers.append((int(headers["ETag"].strip('"')), body))
                else:
                    self.assertIn(json.loads(body)["code"], ("state-not-found", "state-conflict"))
        for writer in writers:
            writer.stopping = True
            writer.join()
            self.assertEqual(writer.other, [])
        first, second = (writer.acknowledged for writer in writers)
        self.assertEqual(set(first) & set(second), set(), "a generation was acknowledged twice")
        self.assertTrue(first and second)
        seen = {**first, **second}
        for generation, body in readers:
            self.assertEqual(seen.setdefault(generation, body), body,
                             "two contents of one generation")
        self.assertEqual([entry[0] for entry in readers], sorted(entry[0] for entry in readers),
                         "a reader went back")

    def test_both_derive_from_one_root_that_was_made_once(self):
        ask = json.dumps({"path": "p", "purpose": "q", "algorithm": "ed25519"}).encode()
        answers, threads = [], []
        for api in (self.stack.api, self.second.api):
            threads.append(threading.Thread(target=lambda a=api: answers.append(
                a("POST", "/v1/keys/derive", ask, {"Content-Type": "application/json"}))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answer[0] for answer in answers], [200, 200], answers)
        self.assertEqual(answers[0][2], answers[1][2])

    def test_what_one_deletes_is_gone_for_the_other(self):
        self.stack.api("PUT", "/v1/state/both", b"x")
        self.assertEqual(self.second.api("GET", "/v1/state/both")[2], b"x")
        self.assertEqual(self.second.api("DELETE", "/v1/state/both")[0], 204)
        self.assertEqual(self.stack.api("GET", "/v1/state/both")[0], 404)


@unittest.skipIf(BINARY is None, "etcd is not installed")
class Members(unittest.TestCase):
    def test_a_cluster_of_three_outlives_one_and_a_minority_acknowledges_nothing(self):
        with EtcdStack(3) as stack:
            stack.start()
            stack.begin()
            self.assertEqual(stack.api("PUT", NAME, b"three")[0], 201)
            stack.cluster.kill(0)
            self.assertEqual(stack.api("PUT", NAME, b"two")[0], 200)
            self.assertEqual(stack.api("GET", NAME)[2], b"two")
            stack.cluster.kill(1)
            status, _, answer = stack.api("PUT", NAME, b"one")
            self.assertEqual((status, json.loads(answer)["code"]), (503, "witness-unavailable"))


if __name__ == "__main__":
    unittest.main()
