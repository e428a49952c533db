"""The front ends that speak other projects' calls, and kmstool_enclave_cli."""
import base64
import contextlib
import json
import unittest

from common import Case, policy_of  # also finds tests/lib
from claviger_stack import UnixConnection

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
