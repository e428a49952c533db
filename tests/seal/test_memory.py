"""No key is left in the daemon's memory by streams, by failures at each of their steps, nor by the
cache of data keys once its limits are reached (R12 to R14).
"""
import json
import os
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from agent_stream import DATA, END, FAULT, frame, read_frame, upgrade  # noqa: E402
from claviger_stack import Stack  # noqa: E402
from memory_scan import SANITIZED, find, secrets_of, skip_unless_readable  # noqa: E402

FRAME = 65536  # plaintext of a stream's frame
OVERHEAD = 4 + 12 + 16  # number, IV and tag of a frame that is not the last
MAX_AGE_S = 3


@unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
class SealMemory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack())
        cls.stack.prepare()
        policy = cls.stack.default_policy()
        state = policy["keys"]["agent-state"]
        policy["keys"]["cached"] = {
            **state, "encryption_context": {"Purpose": "Cached"},
            "cache": {"max_age_s": MAX_AGE_S, "max_messages": 3, "max_bytes": 1000}}
        policy["keys"]["long"] = {
            **state, "encryption_context": {"Purpose": "Long"},
            "cache": {"max_age_s": 600, "max_messages": 3, "max_bytes": 1000}}
        policy["keys"]["reading"] = {
            **state, "encryption_context": {"Purpose": "Reading"},
            "cache": {"max_age_s": 600, "max_messages": 3, "max_bytes": 100000}}
        policy["agents"][0]["may"] += [f"{verb}:{key}" for verb in ("seal", "unseal", "attest")
                                       for key in ("cached", "long", "reading")]
        cls.stack.write_policy(policy)
        cls.stack.start_nsm()
        cls.stack.start_parent()
        cls.stack.start_enclave()
        cls.pid = cls.stack.running["clavigerd"].process.pid
        skip_unless_readable(cls.pid)

    def places(self, secrets):
        return {name: len(find(self.pid, secret)) for name, secret in secrets.items()}

    def assert_places(self, secrets, data_key, message_key):
        """Where they are, once the last thread has unwound."""
        wanted = {"data key": data_key, "message key": message_key}
        deadline = time.monotonic() + 5
        while (found := self.places(secrets)) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(found, wanted)

    def seal(self, data, key="agent-state"):
        # Each test seals in a context of its own: a name is part of it.
        status, _, message = self.stack.api(
            "POST", f"/v1/seal?name={self._testMethodName}&key={key}", data)
        self.assertEqual(status, 200, message)
        return message

    def sealed_stream(self, plaintext):
        with upgrade(self.stack, "seal", "n") as stream:
            stream.sendall(frame(DATA, plaintext) + frame(END))
            message = b""
            while (got := read_frame(stream))[0] == DATA:
                message += got[1]
        self.assertEqual(got[0], END)
        return message

    def test_a_stream_that_seals_holds_its_own_key_alone_and_only_while_it_lasts(self):
        with upgrade(self.stack, "seal", "n") as stream:
            stream.sendall(frame(DATA, os.urandom(3 * FRAME)))
            kind, piece = read_frame(stream)
            self.assertEqual(kind, DATA)
            secrets = secrets_of(self.stack, piece)
            # The key schedule of AES begins with the key: the search does find what is there.
            self.assertEqual(self.places(secrets), {"data key": 0, "message key": 1})
            stream.sendall(frame(END))
            while (got := read_frame(stream)[0]) == DATA:
                pass
            self.assertEqual(got, END)
        self.assert_places(secrets, 0, 0)

    def test_a_stream_whose_agent_vanishes_leaves_none(self):
        for verb in ("seal", "unseal"):
            with self.subTest(verb=verb):
                message = self.sealed_stream(os.urandom(4 * FRAME))
                with upgrade(self.stack, verb, "n") as stream:
                    stream.sendall(frame(DATA, message[:3 * FRAME]))
                    kind, piece = read_frame(stream)
                    self.assertEqual(kind, DATA)
                    secrets = secrets_of(self.stack, piece if verb == "seal" else message)
                    self.assertEqual(self.places(secrets), {"data key": 0, "message key": 1})
                self.assert_places(secrets, 0, 0)

    def test_a_stream_that_fails_at_any_step_leaves_none(self):
        message = self.sealed_stream(os.urandom(3 * FRAME + 100))
        secrets = secrets_of(self.stack, message)
        header = len(message) - (24 + 100 + 16) - 3 * (FRAME + OVERHEAD)
        encrypted = message.index(b"arn:aws:kms") + len(self.stack.keys["agent-state"]) + 2

        def changed(at):
            return message[:at] + bytes([message[at] ^ 1]) + message[at + 1:]
        steps = {
            "version": changed(0),
            "context": message.replace(b"AgentSecrets", b"AgentSecretz", 1),
            "encrypted data key": changed(encrypted + 40),
            "message id": changed(3),
            "commitment": changed(header - 16 - 1),
            "header tag": changed(header - 1),
            "first frame": changed(header + 100),
            "second frame": changed(header + FRAME + OVERHEAD + 100),
            "final frame": changed(len(message) - 1),
            "cut in the header": message[:header - 1],
            "cut behind the header": message[:header],
            "cut in a frame": message[:header + FRAME],
            "cut between frames": message[:header + FRAME + OVERHEAD],
            "one byte more": message + b"x",
        }
        for step, wrong in steps.items():
            with self.subTest(step=step):
                with upgrade(self.stack, "unseal", "n") as stream:
                    stream.sendall(frame(DATA, wrong) + frame(END))
                    while (got := read_frame(stream)[0]) == DATA:
                        pass
                self.assertEqual(got, FAULT)
                self.assert_places(secrets, 0, 0)

    def test_a_cached_data_key_is_in_one_place_until_it_is_too_old(self):
        secrets = secrets_of(self.stack, self.seal(b"x", "cached"))
        self.assert_places(secrets, 1, 0)
        self.seal(b"y", "cached")
        self.assert_places(secrets, 1, 0)
        time.sleep(MAX_AGE_S)  # and nobody asks
        self.assert_places(secrets, 0, 0)

    def test_a_cached_data_key_goes_with_its_last_message_or_byte(self):
        for sizes in ((1, 1, 1), (500, 500)):
            with self.subTest(sizes=sizes):
                secrets = secrets_of(self.stack, self.seal(bytes(sizes[0]), "long"))
                for size in sizes[1:]:
                    self.assert_places(secrets, 1, 0)
                    self.seal(bytes(size), "long")
                self.assert_places(secrets, 0, 0)

    def unseal(self, message, data, key):
        status, _, body = self.stack.api(
            "POST", f"/v1/unseal?name={self._testMethodName}&key={key}", message)
        self.assertEqual((status, body), (200, data))

    def test_a_cached_data_key_that_opens_messages_goes_with_its_last_one(self):
        message = self.seal(b"x", "reading")
        secrets = secrets_of(self.stack, message)
        for places in (2, 2, 1):  # one was kept for sealing
            self.unseal(message, b"x", "reading")
            self.assert_places(secrets, places, 0)

    def calls_to_kms(self):
        trail = json.loads(self.stack.api("GET", "/v1/evidence?key=reading")[2])["calls"]
        return trail[-1]["number"]

    def test_a_cached_data_key_opens_its_bytes_and_no_more(self):
        data = bytes(40000)
        message = self.seal(data, "reading")
        before = self.calls_to_kms()
        for calls in (1, 1, 2, 2):  # two of three would be more than 100000 bytes
            self.unseal(message, data, "reading")
            self.assertEqual(self.calls_to_kms() - before, calls)

    def test_a_stream_takes_no_data_key_from_the_cache_and_leaves_it_none(self):
        with upgrade(self.stack, "seal", "n", "reading") as stream:
            stream.sendall(frame(DATA, b"x") + frame(END))
            message = read_frame(stream)[1]
            self.assertEqual(read_frame(stream)[0], END)
        secrets = secrets_of(self.stack, message)
        for _ in range(2):
            before = self.calls_to_kms()
            with upgrade(self.stack, "unseal", "n", "reading") as stream:
                stream.sendall(frame(DATA, message) + frame(END))
                self.assertEqual(read_frame(stream), (DATA, b"x"))
                self.assertEqual(read_frame(stream), (END, b""))
            self.assertEqual(self.calls_to_kms() - before, 1)
            self.assert_places(secrets, 0, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
