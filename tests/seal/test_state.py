"""Sealing under the policy, from the gate to the KMS: what one message is bound to (R16 to R18)."""
import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack, program  # noqa: E402

KEY = "agent-state"


class Tool:
    """One run of state_tool: one boot of an enclave."""

    def __init__(self, stack: Stack, policy: pathlib.Path | None = None):
        stack.start_nsm()
        self.process = subprocess.Popen(
            [program("state_tool"), stack.nsm_address(), str(policy or stack.policy_file),
             str(stack.baseline), f"tcp:{stack.kms_target}",
             str(stack.kms_dir / "credentials.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, *words) -> str:
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


class State(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.addClassCleanup(cls.stack.close)
        cls.stack.prepare()
        cls.policy = cls.stack.default_policy()
        cls.policy["keys"]["same-key"] = {
            "key_id": cls.stack.keys[KEY], "operations": ["GenerateDataKey", "Decrypt"],
            "encryption_context": {"Purpose": "Others"}}
        cls.policy["keys"]["shared"] = {
            **cls.policy["keys"][KEY], "max_encrypted_data_keys": 2}
        cls.policy["keys"]["decrypt-only"] = {
            "key_id": cls.stack.keys["other"], "operations": ["Decrypt"],
            "encryption_context": {"Purpose": "Reading"}}
        cls.policy["keys"]["cached"] = {
            "key_id": cls.stack.keys[KEY], "operations": ["GenerateDataKey", "Decrypt"],
            "encryption_context": {"Purpose": "Caching"},
            "cache": {"max_age_s": 2, "max_messages": 3, "max_bytes": 100000}}
        cls.policy["keys"]["hot"] = {
            "key_id": cls.stack.keys[KEY], "operations": ["GenerateDataKey", "Decrypt"],
            "encryption_context": {"Purpose": "Hot"},
            "cache": {"max_age_s": 60, "max_messages": 1000000, "max_bytes": 1 << 40}}
        cls.stack.write_policy(cls.policy)
        cls.tool = Tool(cls.stack)
        cls.addClassCleanup(lambda: cls.tool.close())
        cls.plain = cls.stack.dir / "plain"
        cls.sealed = cls.stack.dir / "sealed"
        cls.opened = cls.stack.dir / "opened"

    def setUp(self):
        self.plain.write_bytes(b"the state of an agent")
        self.opened.unlink(missing_ok=True)
        self.assertEqual(self.tool("seal", KEY, "wallet", 7, self.plain, self.sealed), "ok")

    def refused(self, slug, *words):
        answer = self.tool(*words)
        self.assertEqual(answer.split(":")[0], slug, answer)
        self.assertFalse(self.opened.exists(), "something was written")
        return answer

    def encrypted_key(self, key, name, size=10):
        """Seal once; the data key as KMS encrypted it, which tells data keys apart."""
        self.plain.write_bytes(os.urandom(size))
        self.assertEqual(self.tool("seal", key, name, 0, self.plain, self.sealed), "ok")
        message = self.sealed.read_bytes()
        arn = self.stack.keys[KEY].encode()
        start = message.index(arn) + len(arn)
        length = int.from_bytes(message[start:start + 2], "big")
        return message[start + 2:start + 2 + length]

    def test_without_a_cache_every_message_has_a_data_key_of_its_own(self):
        self.assertEqual(len({self.encrypted_key(KEY, "n") for _ in range(3)}), 3)

    def test_a_cached_data_key_serves_its_messages_and_no_more(self):
        found = [self.encrypted_key("cached", "counted") for _ in range(7)]
        self.assertEqual([found.index(key) for key in found], [0, 0, 0, 3, 3, 3, 6])

    def test_a_cached_data_key_serves_its_bytes_and_no_more(self):
        found = [self.encrypted_key("cached", "weighed", 50000) for _ in range(3)]
        self.assertEqual([found.index(key) for key in found], [0, 0, 2])
        self.assertNotEqual(self.encrypted_key("cached", "heavy", 100001),
                            self.encrypted_key("cached", "heavy", 1))

    def test_a_cached_data_key_grows_too_old(self):
        first = self.encrypted_key("cached", "aged")
        time.sleep(2.1)
        self.assertNotEqual(first, self.encrypted_key("cached", "aged"))

    def test_a_cached_data_key_serves_its_own_context_only(self):
        self.assertNotEqual(self.encrypted_key("cached", "one"),
                            self.encrypted_key("cached", "two"))

    def test_what_a_cached_data_key_sealed_opens_after_a_restart(self):
        for _ in range(2):
            self.encrypted_key("cached", "kept")
        type(self).tool.close()
        type(self).tool = Tool(self.stack)
        self.assertEqual(self.tool("unseal", "cached", "kept", 0, self.sealed, self.opened), "ok")
        self.assertEqual(self.opened.read_bytes(), self.plain.read_bytes())

    def test_a_cached_data_key_spares_the_calls_to_kms(self):
        self.plain.write_bytes(bytes(1024))
        answer = self.tool("repeat", 5000, "hot", "n", self.plain, self.sealed)
        print(f"messages of 1 KiB with a cached data key: {answer}",
              file=sys.stderr)
        self.assertEqual(self.tool.process.stdout.readline(), "ok\n")
        self.assertGreater(float(answer.split()[0]), 50)

    def test_every_size_comes_back(self):
        for size in (0, 1, 4095, 4096, 4097, 1 << 20):
            self.plain.write_bytes(os.urandom(size))
            self.assertEqual(self.tool("seal", KEY, "n", 1, self.plain, self.sealed), "ok")
            self.assertEqual(self.tool("unseal", KEY, "n", 1, self.sealed, self.opened), "ok")
            self.assertEqual(self.opened.read_bytes(), self.plain.read_bytes())

    def test_it_opens_after_a_restart(self):
        type(self).tool.close()
        type(self).tool = Tool(self.stack)
        self.assertEqual(self.tool("unseal", KEY, "wallet", 7, self.sealed, self.opened), "ok")
        self.assertEqual(self.opened.read_bytes(), b"the state of an agent")

    def test_another_name_is_refused_and_named(self):
        answer = self.refused("seal-context", "unseal", KEY, "purse", 7, self.sealed, self.opened)
        self.assertIn('expected claviger:name "purse", found "wallet"', answer)

    def test_another_generation_is_refused_and_named(self):
        answer = self.refused("seal-context", "unseal", KEY, "wallet", 8, self.sealed, self.opened)
        self.assertIn('expected claviger:generation "8", found "7"', answer)

    def test_another_context_of_the_same_key_is_refused_without_its_values(self):
        answer = self.refused("seal-context", "unseal", "same-key", "wallet", 7, self.sealed,
                              self.opened)
        self.assertIn("Purpose", answer)
        self.assertNotIn("AgentSecrets", answer)

    def test_another_key_is_refused(self):
        self.refused("seal-key", "unseal", "decrypt-only", "wallet", 7, self.sealed, self.opened)

    def test_sealing_with_a_key_that_may_not_is_refused(self):
        self.refused("policy-operation", "seal", "decrypt-only", "n", 1, self.plain, self.opened)

    def test_names_that_are_not_names_are_refused(self):
        for name in ("/a", "a/", "a//b", "a..b", "..", "a*b", "\u00e4", "x" * 129):
            self.refused("state-name", "seal", KEY, name, 1, self.plain, self.opened)

    def test_a_changed_header_is_refused_before_kms_and_after(self):
        message = self.sealed.read_bytes()
        for old, new, slug in (
                (b"wallet", b"purses", "seal-context"),
                (b"aws-kms", b"aws-kmz", "seal-key"),
                (b"Purpose", b"Purposf", "seal-context"),
                (self.stack.keys[KEY].encode(), self.stack.keys["other"].encode(), "seal-key")):
            self.sealed.write_bytes(message.replace(old, new, 1))
            self.refused(slug, "unseal", KEY, "wallet", 7, self.sealed, self.opened)

    def test_a_data_key_named_twice_is_refused_before_kms(self):
        message = self.sealed.read_bytes()
        start = message.index(b"\x00\x01\x00\x07aws-kms")
        arn = self.stack.keys[KEY].encode()
        end = message.index(arn) + len(arn)
        end += 2 + int.from_bytes(message[end:end + 2], "big")
        entry = message[start + 2:end]
        self.sealed.write_bytes(message[:start] + b"\x00\x02" + entry + entry + message[end:])
        self.refused("seal-data-keys", "unseal", KEY, "wallet", 7, self.sealed, self.opened)
        answer = self.refused("seal-key", "unseal", "shared", "wallet", 7, self.sealed,
                              self.opened)
        self.assertIn("found 2", answer)

    def test_a_data_key_of_another_message_is_refused(self):
        """Wrapped-key substitution: both data keys are genuine, of other names."""
        first = self.sealed.read_bytes()
        self.assertEqual(self.tool("seal", KEY, "purses", 7, self.plain, self.sealed), "ok")
        second = self.sealed.read_bytes()
        arn = self.stack.keys[KEY].encode()
        start = first.index(arn) + len(arn)
        length = 2 + int.from_bytes(first[start:start + 2], "big")
        self.assertEqual(first[start:start + 2], second[start:start + 2])
        self.sealed.write_bytes(first[:start] + second[start:start + length]
                                + first[start + length:])
        self.refused("InvalidCiphertextException", "unseal", KEY, "wallet", 7, self.sealed,
                     self.opened)

    def test_a_changed_body_opens_to_nothing(self):
        message = bytearray(self.sealed.read_bytes())
        for at in (-1, -17, -38, -54):
            changed = bytearray(message)
            changed[at] ^= 1
            self.sealed.write_bytes(changed)
            self.refused("seal-authentication", "unseal", KEY, "wallet", 7, self.sealed,
                         self.opened)

    def test_cut_and_lengthened_messages_are_refused(self):
        message = self.sealed.read_bytes()
        self.sealed.write_bytes(message[:-1])
        self.refused("truncated", "unseal", KEY, "wallet", 7, self.sealed, self.opened)
        self.sealed.write_bytes(message + b"x")
        self.refused("seal-trailing", "unseal", KEY, "wallet", 7, self.sealed, self.opened)
        self.sealed.write_bytes(b"")
        self.refused("truncated", "unseal", KEY, "wallet", 7, self.sealed, self.opened)


if __name__ == "__main__":
    unittest.main(verbosity=2)
