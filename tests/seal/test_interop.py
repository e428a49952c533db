"""The message format against @aws-crypto/client-node, both ways, with a known data key.

Skipped where tests/npm has no node_modules (`npm ci` in tests/npm puts them there).
"""
import os
import shutil
import subprocess
import sys
import unittest

BUILD = os.environ["CLAVIGER_BUILD"]
NPM = os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "npm")
TOOL = os.path.join(BUILD, "tests", "seal", "seal_tool")
KEY = bytes(range(32)).hex()
ARN = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
CONTEXTS = [
    [],
    ["Purpose=AgentSecrets", "claviger:generation=7", "claviger:name=wallets/main"],
    ["a=", "Z=upper before lower", "\u00e4=\u00fc", "\ue000=bmp", "\U0001f511=astral"],
]


def run(arguments, data):
    done = subprocess.run(arguments, input=data, capture_output=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{arguments[:3]}: {done.stderr.decode()[-2000:]}")
    return done.stdout


def node(*arguments, data):
    return run(["node", os.path.join(NPM, "known_key.mjs"), *arguments], data)


def plaintext(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Interop(unittest.TestCase):
    def both_ways(self, size, frame, context):
        data = plaintext(size)
        ours = run([TOOL, "seal", KEY, ARN, str(frame), *context], data)
        self.assertEqual(node("decrypt", KEY, *context, data=ours), data)
        theirs = node("encrypt", KEY, ARN, str(frame), *context, data=data)
        self.assertEqual(run([TOOL, "unseal", KEY], theirs), data)

    def test_every_size_around_a_frame(self):
        for size in (0, 1, 4095, 4096, 4097, 1024 * 1024):
            with self.subTest(size=size):
                self.both_ways(size, 4096, CONTEXTS[1])

    def test_other_frame_lengths(self):
        for frame in (1, 17, 65536, 1024 * 1024):
            with self.subTest(frame=frame):
                self.both_ways(min(3 * frame + 5, 1500000), frame, CONTEXTS[1])

    def test_contexts_are_sorted_alike(self):
        for context in CONTEXTS:
            with self.subTest(context=context):
                self.both_ways(100, 4096, context)

    def test_a_hundred_mebibytes(self):
        self.both_ways(100 * 1024 * 1024, 65536, CONTEXTS[1])

    def test_a_changed_byte_is_refused_by_both(self):
        ours = bytearray(run([TOOL, "seal", KEY, ARN, "4096"], plaintext(5000)))
        ours[-20] ^= 1
        for arguments in (["node", os.path.join(NPM, "known_key.mjs"), "decrypt", KEY],
                          [TOOL, "unseal", KEY]):
            done = subprocess.run(arguments, input=bytes(ours), capture_output=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    if shutil.which("node") is None or not os.path.isdir(os.path.join(NPM, "node_modules")):
        print("skipped: tests/npm has no node_modules")
        sys.exit(77)
    unittest.main(verbosity=2)
