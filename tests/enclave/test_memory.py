"""After every operation, and after failures, no copy of a data key is in the daemon's memory (R13).

The test knows each key: it takes the CiphertextBlob out of what was stored and has claviger-kms open
it from its own database. Then it reads every page of the daemon.
"""
import json
import os
import sqlite3
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "lib"))
from claviger_stack import Stack, UnixConnection  # noqa: E402
from memory_scan import SANITIZED, find, secrets_of, skip_unless_readable  # noqa: E402

@unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack())
        cls.stack.prepare()
        policy = cls.stack.default_policy()
        policy["agents"][0]["may"].append("derive:agent-state/*")
        cls.stack.write_policy(policy)
        cls.stack.start_nsm()
        cls.stack.start_parent()
        cls.stack.start_enclave()
        cls.pid = cls.stack.running["clavigerd"].process.pid
        skip_unless_readable(cls.pid)

    def stored(self, name):
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            for key, blob in store.execute("select name, blob from state"):
                if key.endswith(name):
                    return key, blob
        raise KeyError(name)

    def assert_gone(self, secrets):
        # The answer leaves before the last thread has unwound.
        deadline = time.monotonic() + 5
        for name, secret in secrets.items():
            while (found := find(self.pid, secret)) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(found, [], f"the {name} is in memory")

    def put(self, name, body):
        status, _, answer = self.stack.api("PUT", f"/v1/state/{name}", body)
        self.assertEqual(status, 201, answer)
        return self.stored(name)[1]

    def test_the_search_finds_what_is_there(self):
        self.assertTrue(find(self.pid, self.stack.credentials["AccessKeyId"].encode()))
        # The credentials' secret is held for use: in guarded memory, and nowhere else.
        places = find(self.pid, self.stack.credentials["SecretAccessKey"].encode())
        self.assertEqual(len(places), 1, places)

    def test_no_key_is_left_after_sealing_and_unsealing(self):
        secrets = secrets_of(self.stack, self.put("plain", os.urandom(100000)))
        self.assert_gone(secrets)
        status, _, _ = self.stack.api("GET", "/v1/state/plain")
        self.assertEqual(status, 200)
        self.assert_gone(secrets)

    def test_no_key_is_left_after_a_message_that_fails_half_way(self):
        message = bytearray(self.put("torn", os.urandom(100000)))
        secrets = secrets_of(self.stack, bytes(message))
        message[60000] ^= 1
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            store.execute("update state set blob = ? where name = ?",
                          (bytes(message), self.stored("torn")[0]))
        status, _, answer = self.stack.api("GET", "/v1/state/torn")
        self.assertEqual((status, json.loads(answer)["code"]), (422, "seal-authentication"))
        self.assert_gone(secrets)

    def test_no_key_is_left_after_an_agent_that_goes_away(self):
        secrets = secrets_of(self.stack, self.put("large", os.urandom(3000000)))
        connection = UnixConnection(str(self.stack.dir / "agent.sock"))
        connection.request("GET", "/v1/state/large")
        connection.sock.recv(100)
        connection.close()
        self.assert_gone(secrets)

    def test_no_key_is_left_after_key_setup_and_derivation(self):
        done = self.stack.setup({"keyId": self.stack.keys["agent-state"]})
        self.assertEqual(done.returncode, 0, done.stderr)
        root = {"data key": self.stack.reveal(json.loads(done.stdout)["ciphertextBlob"])}
        self.assert_gone(root)
        status, _, answer = self.stack.api("POST", "/v1/keys/derive", json.dumps(
            {"path": "wallet/memory", "purpose": "test", "algorithm": "raw",
             "length": 64}).encode(), {"Content-Type": "application/json"})
        self.assertEqual(status, 200, answer)
        key = json.loads(answer)["key"]
        self.assert_gone({**root, "derived key": bytes.fromhex(key), "in hex": key.encode()})


if __name__ == "__main__":
    unittest.main(verbosity=2)
