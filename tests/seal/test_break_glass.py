"""What we seal, @aws-crypto/client-node opens with nothing but permission from KMS; and back.

Skipped where tests/npm has no node_modules (`npm ci` in tests/npm puts them there).
"""
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import REGION, SOURCE, Stack, policy_pcr, program  # noqa: E402

NPM = SOURCE / "tests" / "npm"
CONTEXT = ["Purpose=AgentSecrets", "enclave=agent-runtime", "claviger:name=agent-state/n",
           "claviger:generation=0"]


class BreakGlass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = stack = Stack()
        cls.addClassCleanup(stack.close)
        stack.prepare()
        cls.arn = stack.keys["agent-state"]
        policy = stack.default_policy()
        policy["keys"]["shared"] = {
            **policy["keys"]["agent-state"], "encryption_context": {"Purpose": "Shared"},
            "max_encrypted_data_keys": 2}
        policy["agents"][0]["may"].append("unseal:shared")
        stack.write_policy(policy)
        stack.start_nsm()
        stack.start_parent()
        stack.start_enclave()
        account = cls.arn.split(":")[4]
        root = {"AWS": f"arn:aws:iam::{account}:root"}
        policy = {"Version": "2012-10-17", "Statement": [
            {"Sid": "enclave", "Effect": "Allow", "Principal": root, "Resource": "*",
             "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
             "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR16":
                           policy_pcr(stack.policy_file.read_bytes())}}},
            {"Sid": "people", "Effect": "Allow", "Principal": root, "Resource": "*",
             "Action": ["kms:GenerateDataKey", "kms:Decrypt", "kms:Encrypt",
                        "kms:PutKeyPolicy"]}]}
        status, answer = stack.kms("PutKeyPolicy", {
            "KeyId": cls.arn, "PolicyName": "default", "Policy": json.dumps(policy)})
        assert status == 200, answer

    def sdk(self, *arguments, data, check=True):
        credentials = self.stack.credentials
        port = self.stack.kms_target.rsplit(":", 1)[1]
        environment = {
            **os.environ, "AWS_ENDPOINT_URL_KMS": f"https://localhost:{port}",
            "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "NODE_EXTRA_CA_CERTS": str(self.stack.kms_dir / "ca.pem")}
        done = subprocess.run(["node", str(NPM / "kms_keyring.mjs"), *arguments], input=data,
                              capture_output=True, env=environment, timeout=300)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr.decode()[-1500:])
        return done.stdout

    def ours(self, verb, data):
        done = subprocess.run([program("claviger"), verb, "--key", "agent-state", "--name", "n", "--agent",
                               self.stack.address("agent")], input=data, capture_output=True,
                              timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_sizes_around_a_frame_both_ways(self):
        for size in (0, 1, 65535, 65536, 65537, 1 << 20):
            with self.subTest(size=size):
                data = os.urandom(size)
                self.assertEqual(
                    self.sdk("decrypt", self.arn, *CONTEXT, data=self.ours("seal", data)), data)
                theirs = self.sdk("encrypt", self.arn, "4096", *CONTEXT, data=data)
                self.assertEqual(self.ours("unseal", theirs), data)

    def test_a_hundred_mebibytes_both_ways(self):
        data = os.urandom(1 << 20) * 100
        times = [time.monotonic()]
        sealed = self.ours("seal", data)
        times.append(time.monotonic())
        theirs = self.sdk("encrypt", self.arn, "65536", *CONTEXT, data=data)
        times.append(time.monotonic())
        self.assertEqual(self.sdk("decrypt", self.arn, *CONTEXT, data=sealed), data)
        times.append(time.monotonic())
        self.assertEqual(self.ours("unseal", theirs), data)
        times.append(time.monotonic())
        took = [f"{b - a:.2f} s" for a, b in zip(times, times[1:])]
        print(f"100 MiB: claviger seal {took[0]}, unseal {took[3]}; client-node encrypt {took[1]}, "
              f"decrypt {took[2]} (each with the start of its program)", file=sys.stderr)

    def test_a_state_out_of_the_store_opens_without_us(self):
        data = os.urandom(10000)
        for generation in (1, 2):
            status, _, answer = self.stack.api("PUT", "/v1/state/kept?key=agent-state", data)
            self.assertIn(status, (200, 201), answer)
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            blob, = store.execute("select blob from state where name = 'agent-state/kept'").fetchone()
        context = ["Purpose=AgentSecrets", "enclave=agent-runtime",
                   "claviger:name=agent-state/kept", f"claviger:generation={generation}"]
        self.assertEqual(self.sdk("decrypt", self.arn, *context, data=blob), data)

    def test_a_message_of_theirs_under_another_context_is_refused_by_us(self):
        theirs = self.sdk("encrypt", self.arn, "4096", *CONTEXT[:3], "claviger:generation=1",
                          data=b"x")
        status, _, body = self.stack.api("POST", "/v1/unseal?name=n&key=agent-state", theirs)
        self.assertEqual((status, json.loads(body)["code"]), (422, "seal-context"))

    def test_more_data_keys_than_the_policy_allows_are_refused_by_us(self):
        """The default is one; the policy's key "shared" allows two."""
        two = ",".join((self.arn, self.stack.keys["other"]))
        three = ",".join((two, self.arn))
        shared = ["Purpose=Shared", "claviger:name=shared/n", "claviger:generation=0"]
        data = os.urandom(5000)
        for keys, context, key, expected in ((two, CONTEXT, "agent-state", "seal-data-keys"),
                                             (two, shared, "shared", None),
                                             (three, shared, "shared", "seal-data-keys")):
            with self.subTest(keys=keys.count(",") + 1, key=key):
                theirs = self.sdk("encrypt", keys, "4096", *context, data=data)
                status, _, body = self.stack.api("POST", f"/v1/unseal?name=n&key={key}", theirs)
                if expected is None:
                    self.assertEqual((status, body), (200, data))
                else:
                    self.assertEqual((status, json.loads(body)["code"]), (422, expected))

    def test_data_keys_of_other_keys_alone_are_refused_by_us(self):
        theirs = self.sdk("encrypt", self.stack.keys["other"], "4096", *CONTEXT, data=b"x")
        status, _, body = self.stack.api("POST", "/v1/unseal?name=n&key=agent-state", theirs)
        self.assertEqual((status, json.loads(body)["code"]), (422, "seal-key"))

    def test_a_message_of_theirs_in_a_signed_suite_is_refused_by_us(self):
        theirs = bytearray(self.sdk("encrypt", self.arn, "4096", *CONTEXT, data=b"x"))
        theirs[1:3] = b"\x05\x78"
        status, _, body = self.stack.api("POST", "/v1/unseal?name=n&key=agent-state",
                                         bytes(theirs))
        self.assertEqual(json.loads(body)["code"], "seal-suite", body)


if __name__ == "__main__":
    if shutil.which("node") is None or not (NPM / "node_modules").is_dir():
        print("skipped: tests/npm has no node_modules")
        sys.exit(77)
    unittest.main(verbosity=2)
