"""The front ends that speak other projects' calls, with raw requests and a published client."""
import base64
import contextlib
import json
import shutil
import subprocess
import unittest

from common import Case, policy_of  # also finds tests/lib
from claviger_stack import UnixConnection

# The SDK calls the curves optional, and loads them all the same.
DSTACK_SDK = ["@phala/dstack-sdk@0.5.8", "@noble/curves@1"]

NODE = """
const { DstackClient } = require('@phala/dstack-sdk');
(async () => {
  const client = new DstackClient(process.argv[1]);
  const hex = (bytes) => Buffer.from(bytes).toString('hex');
  const out = { reachable: await client.isReachable() };
  const one = await client.getKey('wallet/eth', 'pay');
  out.key = hex(one.key);
  out.chain = one.signature_chain.length;
  out.again = hex((await client.getKey('wallet/eth', 'pay')).key);
  out.purpose = hex((await client.getKey('wallet/eth', 'other')).key);
  out.ed25519 = hex((await client.getKey('wallet/eth', 'pay', 'ed25519')).key);
  out.quote = (await client.getQuote(Buffer.from('hello'))).quote;
  out.info = await client.info();
  out.denied = await client.getQuote(Buffer.alloc(65)).then(() => '', (e) => e.message);
  console.log(JSON.stringify(out));
})().catch((e) => { console.error(e); process.exit(1); });
"""


class Fronts(Case):
    @classmethod
    def policy(cls, stack):
        stack.enclave_arguments = ["--dstack", stack.address("dstack"), "--rofl",
                                   stack.address("rofl"), "--front-key", "agent-state"]
        policy = policy_of(stack)
        policy["agents"][0]["may"] = ["derive:agent-state/dstack/*", "derive:agent-state/rofl/a*",
                                      "attest:agent-state"]
        return policy

    def front(self, socket, path, body):
        with contextlib.closing(UnixConnection(str(self.stack.dir / socket))) as connection:
            connection.request("POST", path, json.dumps(body).encode(),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def test_dstack_keys_depend_on_path_purpose_and_algorithm(self):
        asks = [{"path": p, "purpose": u, "algorithm": a}
                for p in ("", "a", "b") for u in ("", "x") for a in ("secp256k1", "ed25519")]
        keys = [self.front("dstack.sock", "/GetKey", ask)[1]["key"] for ask in asks]
        self.assertEqual(len(set(keys)), len(asks))
        self.assertTrue(all(len(key) == 64 for key in keys))
        self.assertEqual(self.front("dstack.sock", "/GetKey", asks[3])[1]["key"], keys[3])
        status, answer = self.front("dstack.sock", "/GetKey", {"algorithm": "rsa"})
        self.assertEqual((status, answer["code"]), (400, "derive-invalid"))
        self.assertEqual(answer["error"], answer["detail"])

    def test_rofl_keys_are_of_the_kind_asked_for(self):
        sizes = {"raw-256": 32, "raw-384": 48, "ed25519": 32, "secp256k1": 32}
        keys = set()
        for kind, size in sizes.items():
            status, answer = self.front("rofl.sock", "/rofl/v1/keys/generate",
                                        {"key_id": "a key", "kind": kind})
            self.assertEqual((status, set(answer)), (200, {"key"}), answer)
            self.assertEqual(len(bytes.fromhex(answer["key"])), size)
            keys.add(answer["key"][:64])
        self.assertEqual(len(keys), len(sizes))
        for body, expected in (({"key_id": "a", "kind": "rsa"}, "derive-invalid"),
                               ({"key_id": "a"}, "json-missing"),
                               ({"key_id": "b", "kind": "raw-256"}, "capability-missing")):
            status, answer = self.front("rofl.sock", "/rofl/v1/keys/generate", body)
            self.assertEqual(answer["code"], expected)

    def test_each_socket_speaks_its_own_calls_alone(self):
        for socket, path in (("dstack.sock", "/v1/identity"), ("rofl.sock", "/GetKey"),
                             ("agent.sock", "/GetKey"), ("agent.sock", "/rofl/v1/keys/generate"),
                             ("dstack.sock", "/v1/keys/derive")):
            status, answer = self.front(socket, path, {})
            self.assertEqual((status, answer["code"]), (404, "api-route"))

    def test_the_published_dstack_sdk_runs_unchanged(self):
        npm, node = shutil.which("npm"), shutil.which("node")
        if npm is None or node is None:
            self.skipTest("npm and node are not installed")
        installed = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix",
             str(self.stack.dir), *DSTACK_SDK], capture_output=True, timeout=120, check=False)
        if installed.returncode != 0:
            self.skipTest("the npm registry cannot be reached")
        done = subprocess.run([node, "-e", NODE, str(self.stack.dir / "dstack.sock")],
                              cwd=self.stack.dir, capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        self.assertTrue(out["reachable"])
        self.assertEqual((out["key"], out["chain"]), (out["again"], 0))
        self.assertEqual(len({out["key"], out["purpose"], out["ed25519"]}), 3)
        self.assertEqual(out["info"]["tcb_info"]["mrtd"], self.stack.pcrs["0"])
        self.assertTrue(out["denied"])
        document = self.stack.dir / "quote.bin"
        document.write_bytes(bytes.fromhex(out["quote"]))
        self.stack.run("claviger", "inspect", str(document))


class Kmstool(Case):
    IGNORED = ["--region", "us-east-1", "--proxy-port", "8000", "--aws-access-key-id", "AKIA",
               "--aws-secret-access-key", "x", "--aws-session-token", "y"]

    def kmstool(self, *arguments, check=True):
        done = self.stack.run("kmstool_enclave_cli", *arguments, *self.IGNORED, "--socket",
                              str(self.stack.dir / "agent.sock"), check=check)
        lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        return done, {name: base64.b64decode(value) for name, value in lines.items()}

    def test_a_generated_key_is_decrypted_again(self):
        arn = self.stack.keys["agent-state"]
        for spec, size in (("AES-256", 32), ("AES-128", 16)):
            _, made = self.kmstool("genkey", "--key-id", arn, "--key-spec", spec)
            self.assertEqual(len(made["PLAINTEXT"]), size)
            _, opened = self.kmstool("decrypt", "--ciphertext",
                                     base64.b64encode(made["CIPHERTEXT"]).decode())
            self.assertEqual(opened, {"PLAINTEXT": made["PLAINTEXT"]})

    def test_random_bytes_have_the_length_asked_for(self):
        _, one = self.kmstool("genrandom", "--length", "40")
        _, two = self.kmstool("genrandom", "--length", "40")
        self.assertEqual(len(one["PLAINTEXT"]), 40)
        self.assertNotEqual(one, two)

    def test_what_the_policy_does_not_allow_is_refused(self):
        for arguments, code in (
                (("genkey", "--key-id", self.stack.keys["other"]), "policy-no-key"),
                (("decrypt", "--ciphertext", "AAAA"), "InvalidCiphertextException"),
                (("decrypt",), "usage"), (("genkey", "--key-spec", "RSA"), "usage"),
                (("encrypt",), "usage")):
            done, _ = self.kmstool(*arguments, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"({code})", done.stderr)


if __name__ == "__main__":
    unittest.main()
