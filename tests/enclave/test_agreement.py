"""Derivation from a secret that KMS shares with a peer's public key (DeriveSharedSecret): the root is
stored nowhere, and the same after every boot. The test is the peer: it alone can know the root."""
import base64
import json
import os
import sqlite3
import subprocess
import sys
import unittest

from common import Case, policy_of  # also finds tests/lib
from test_memory import SANITIZED, find

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "vault"))
import derivation  # noqa: E402

ASK = {"algorithm": "ed25519", "purpose": "payments", "path": "wallet/main"}
CURVES = {"ECC_NIST_P256": ("P-256", 32), "ECC_NIST_P384": ("P-384", 48),
          "ECC_NIST_P521": ("P-521", 66)}


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True,
                          **more).stdout


class Agreement(Case):
    @classmethod
    def policy(cls, stack):
        policy = policy_of(stack)
        cls.roots, cls.contexts = {}, {}
        for spec, (curve, size) in CURVES.items():
            cls.add_key(stack, policy, spec, curve)
            assert len(cls.roots[spec]) == size
        policy["keys"]["stranger"] = {**policy["keys"]["ECC_NIST_P256"],
                                      "encryption_context": {"for": "somebody else"}}
        cls.contexts["stranger"] = {"for": "somebody else"}
        cls.roots["stranger"] = cls.roots["ECC_NIST_P256"]
        policy["agents"][0]["may"] += [f"{verb}:{key}" for key in cls.contexts
                                       for verb in ("derive", "sign", "seal")]
        return policy

    @classmethod
    def add_key(cls, stack, policy, spec, curve):
        """A KMS key for agreements, and the peer that this test is."""
        status, answer = stack.kms("CreateKey", {"KeySpec": spec, "KeyUsage": "KEY_AGREEMENT"})
        assert status == 200, answer
        arn = answer["KeyMetadata"]["Arn"]
        peer, theirs = stack.dir / f"{spec}.pem", stack.dir / f"{spec}.der"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-out",
                peer)
        theirs.write_bytes(base64.b64decode(stack.kms("GetPublicKey", {"KeyId": arn})[1]["PublicKey"]))
        cls.roots[spec] = openssl("pkeyutl", "-derive", "-inkey", peer, "-peerkey", theirs,
                                  "-peerform", "DER")
        public = openssl("pkey", "-in", peer, "-pubout", "-outform", "DER")
        stack.keys[spec] = arn
        cls.contexts[spec] = {"enclave": "agent-runtime"}
        policy["keys"][spec] = {"key_id": arn, "operations": ["DeriveSharedSecret"],
                                "peer_public_key": base64.b64encode(public).decode(),
                                "encryption_context": {"enclave": "${enclave}"}}

    def expected(self, key, ask):
        arn = self.stack.keys.get(key, self.stack.keys["ECC_NIST_P256"])
        return derivation.complete({"root": self.roots[key].hex(), "key_arn": arn,
                                    "context": self.contexts[key], "length": 32, **ask})

    def derived(self, key, ask=ASK):
        status, answer = self.json_api("POST", f"/v1/keys/derive?key={key}", ask)
        self.assertEqual(status, 200, answer)
        return answer

    def test_the_key_is_the_one_that_the_peer_computes_by_itself(self):
        keys = set()
        for key in self.contexts:
            for ask in (ASK, {**ASK, "path": "wallet/other"}, {**ASK, "algorithm": "raw"}):
                answer, expected = self.derived(key, ask), self.expected(key, ask)
                for member in ("key", "root_id"):
                    self.assertEqual(answer[member], expected[member], (key, ask))
                keys.add(answer["key"])
        self.assertEqual(len(keys), 3 * len(self.contexts))

    def test_it_is_the_same_after_a_boot_and_nothing_of_it_is_stored(self):
        before = self.derived("ECC_NIST_P384")
        self.stack.restart_enclave()
        self.assertEqual(self.derived("ECC_NIST_P384"), before)
        with sqlite3.connect(self.stack.dir / "store.db") as store:
            tables = [row[0] for row in
                      store.execute("select name from sqlite_master where type = 'table'")]
            rows = "".join(repr(row) for table in tables
                           for row in store.execute(f'select * from "{table}"'))
        self.assertNotIn("ECC_NIST", rows)
        self.assertTrue(tables)

    @unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
    def test_no_shared_secret_is_left_in_memory(self):
        self.derived("ECC_NIST_P521")
        pid = self.stack.running["clavigerd"].process.pid
        self.assertTrue(find(pid, self.stack.credentials["AccessKeyId"].encode()))
        self.assertEqual(find(pid, self.roots["ECC_NIST_P521"]), [])

    def test_it_seals_nothing_and_the_parent_has_nothing_to_set_up(self):
        self.refused(self.api("POST", "/v1/seal?name=a&key=ECC_NIST_P256", b"x"), 403,
                     "policy-operation")
        done = self.stack.setup({"keyId": self.stack.keys["ECC_NIST_P256"],
                                 "encryptionContext": {"enclave": "agent-runtime"}})
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("policy-operation", done.stderr)

    def test_kms_decides_by_its_own_key_policy(self):
        key = "ECC_NIST_P256"
        before = self.derived(key)
        root = {"AWS": f"arn:aws:iam::{self.stack.keys[key].split(':')[4]}:root"}

        def allow(pcr0):
            condition = {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": pcr0}}
            statements = [
                {"Effect": "Allow", "Principal": root, "Resource": "*",
                 "Action": ["kms:Put*", "kms:Get*"]},
                {"Effect": "Allow", "Principal": root, "Resource": "*",
                 "Action": "kms:DeriveSharedSecret", "Condition": condition}]
            status, answer = self.stack.kms("PutKeyPolicy", {
                "KeyId": self.stack.keys[key], "PolicyName": "default",
                "Policy": json.dumps({"Version": "2012-10-17", "Statement": statements})})
            self.assertEqual(status, 200, answer)

        allow("ab" * 48)
        try:
            status, problem = self.json_api("POST", f"/v1/keys/derive?key={key}", ASK)
            self.assertEqual(problem["code"], "AccessDeniedException", (status, problem))
            self.assertIn("PCR", problem["detail"])
        finally:
            allow(self.stack.pcrs["0"])
        self.assertEqual(self.derived(key), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
