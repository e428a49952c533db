"""After every operation, and after failures, no copy of a data key is in the daemon's memory (R13).

The test knows each key: it takes the CiphertextBlob out of what was stored and has claviger-kms open
it from its own database. Then it reads every page of the daemon.
"""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import sqlite3
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "lib"))
from claviger_stack import Stack, UnixConnection, program  # noqa: E402

# AddressSanitizer keeps freed memory aside and maps terabytes of shadow: that is not the daemon.
SANITIZED = b"__asan_init" in pathlib.Path(program("clavigerd")).read_bytes()


def memory_of(pid):
    """Every readable page, as one piece for each mapping."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if "r" not in rights or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                yield line.strip(), memory.read(end - start)
            except OSError:
                continue  # guard pages and the like


def find(pid, secret):
    """Where any 16 bytes of the secret are: an allocator writes its own over the first of a freed
    block."""
    parts = [secret[at:at + 16] for at in range(0, len(secret) - 15, 16)]
    return [where for where, piece in memory_of(pid) if any(part in piece for part in parts)]


def header_of(message):
    """Message id and the one encrypted data key (message format version 2)."""
    message_id, at = message[3:35], 35
    aad, = struct.unpack_from(">H", message, at)
    at += 2 + aad + 2  # and the count of keys
    for _ in range(3):  # provider, provider information, the key
        size, = struct.unpack_from(">H", message, at)
        value = message[at + 2:at + 2 + size]
        at += 2 + size
    return message_id, value


def hkdf_sha512(key, salt, info, size):
    block, out = b"", b""
    prk = hmac.new(salt, key, hashlib.sha512).digest()
    for counter in range(1, size // 64 + 2):
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
    return out[:size]


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
        try:
            next(memory_of(cls.pid))
        except PermissionError:
            raise unittest.SkipTest("this machine does not let root read a process's memory")

    def stored(self, name):
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            for key, blob in store.execute("select name, blob from state"):
                if key.endswith(name):
                    return key, blob
        raise KeyError(name)

    def secrets_of(self, message):
        """The data key of a message and the key derived from it."""
        message_id, encrypted = header_of(message)
        key = self.stack.reveal(base64.b64encode(encrypted).decode())
        self.assertEqual(len(key), 32)
        return {"data key": key,
                "message key": hkdf_sha512(key, message_id, b"\x04\x78DERIVEKEY", 32)}

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
        secrets = self.secrets_of(self.put("plain", os.urandom(100000)))
        self.assert_gone(secrets)
        status, _, _ = self.stack.api("GET", "/v1/state/plain")
        self.assertEqual(status, 200)
        self.assert_gone(secrets)

    def test_no_key_is_left_after_a_message_that_fails_half_way(self):
        message = bytearray(self.put("torn", os.urandom(100000)))
        secrets = self.secrets_of(bytes(message))
        message[60000] ^= 1
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            store.execute("update state set blob = ? where name = ?",
                          (bytes(message), self.stored("torn")[0]))
        status, _, answer = self.stack.api("GET", "/v1/state/torn")
        self.assertEqual((status, json.loads(answer)["code"]), (422, "seal-authentication"))
        self.assert_gone(secrets)

    def test_no_key_is_left_after_an_agent_that_goes_away(self):
        secrets = self.secrets_of(self.put("large", os.urandom(3000000)))
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
