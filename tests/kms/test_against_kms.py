"""The client in C against claviger-kms: what one encrypts the other opens, and every refusal that a
key, a policy, a role or an outage can cause reaches the caller by KMS's own name, with its cause.
"""
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from kms_client import PCRS, Client, Lab  # noqa: E402
from kms_lab import ROOT, b64, unb64  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "enclave"))
from test_memory import SANITIZED, find  # noqa: E402

# Errors that KMS answers without a sentence.
SILENT = ("InvalidCiphertextException", "UnknownOperationException", "SerializationException")
CONTEXT = {"Purpose": "AgentSecrets"}


class AgainstKms(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())
        cls.client = Client(cls.lab)
        cls.key = cls.lab.key()

    def setUp(self):
        self.lab.admin("DELETE", "/rules")
        self.lab.admin("PUT", "/cms", {"shape": "one"})

    def data_key(self, key=None, client=None, **more):
        return (client or self.client).call("GenerateDataKey", key_id=key or self.key, bytes=32,
                                            context=CONTEXT, **more)

    def decrypt(self, blob, key=None, context=None, client=None, **more):
        return (client or self.client).call("Decrypt", key_id=key or self.key, ciphertext=blob,
                                            context=context or CONTEXT, **more)

    def reveal(self, blob):
        return unb64(self.lab.run("claviger-kms", "reveal", str(self.lab.kms_dir), "--blob",
                                  blob).stdout.strip())

    def agreed(self, key, curve):
        """A fresh public key on the curve, and what OpenSSL derives with it and the KMS key."""
        mine, theirs = self.lab.dir / "mine.pem", self.lab.dir / "theirs.der"
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                        f"ec_paramgen_curve:{curve}", "-out", mine], check=True,
                       capture_output=True)
        spki = subprocess.run(["openssl", "pkey", "-in", mine, "-pubout", "-outform", "DER"],
                              check=True, capture_output=True).stdout
        theirs.write_bytes(unb64(self.lab.ok("GetPublicKey", {"KeyId": key})["PublicKey"]))
        secret = subprocess.run(["openssl", "pkeyutl", "-derive", "-inkey", mine, "-peerkey",
                                 theirs, "-peerform", "DER"], check=True,
                                capture_output=True).stdout
        return spki, secret

    def refused(self, answer, name, *words):
        self.assertEqual(answer["code"], name, answer)
        for word in (name, *words):
            self.assertIn(word, answer["sentence"])
        self.assertIn("request id ", answer["sentence"])

    def policy(self, key, *statements):
        """The key's policy: administration for the account, and these."""
        administration = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Resource": "*",
                          "Action": ["kms:Put*", "kms:Get*", "kms:Describe*", "kms:Enable*",
                                     "kms:Disable*", "kms:Schedule*", "kms:Encrypt"]}
        document = {"Version": "2012-10-17", "Statement": [administration, *statements]}
        self.lab.ok("PutKeyPolicy", {"KeyId": key, "PolicyName": "default",
                                     "Policy": json.dumps(document)})

    def allow(self, **conditions):
        statement = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Resource": "*",
                     "Action": ["kms:GenerateDataKey", "kms:Decrypt"]}
        if conditions:
            statement["Condition"] = {"StringEqualsIgnoreCase": conditions}
        return statement

    # -- the five operations ------------------------------------------------------------------

    def test_a_data_key_is_the_one_in_its_blob_and_decrypt_returns_it(self):
        for shape in ("one", "many", "primitive"):
            self.lab.admin("PUT", "/cms", {"shape": shape})
            made = self.data_key()
            self.assertEqual(made["code"], "ok", made)
            digest = hashlib.sha256(self.reveal(made["ciphertext"])).hexdigest()
            self.assertEqual(made["sha256"], digest)
            self.assertEqual(self.decrypt(made["ciphertext"])["sha256"], digest)

    def test_decrypt_opens_what_another_client_encrypted(self):
        text = b"encrypted by an administrator"
        blob = self.lab.ok("Encrypt", {"KeyId": self.key, "Plaintext": b64(text),
                                       "EncryptionContext": CONTEXT})["CiphertextBlob"]
        self.assertEqual(self.decrypt(blob)["sha256"], hashlib.sha256(text).hexdigest())

    def test_random_bytes_are_as_many_as_asked_and_new_each_time(self):
        seen = set()
        for n in (1, 32, 1024):
            answer = self.client.ok("GenerateRandom", bytes=n)
            self.assertEqual(answer["length"], n)
            seen.add(answer["sha256"])
        self.assertEqual(len(seen), 3)

    def test_a_data_key_pair_comes_with_its_public_half_and_a_blob_that_opens_to_the_private(self):
        for spec in ("ECC_NIST_P256", "ECC_NIST_P384", "RSA_2048"):
            made = self.client.ok("GenerateDataKeyPair", key_id=self.key, pair_spec=spec,
                                  context=CONTEXT)
            private = self.reveal(made["ciphertext"])
            self.assertEqual(made["sha256"], hashlib.sha256(private).hexdigest())
            public = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform",
                                     "DER"], input=private, capture_output=True, check=True).stdout
            self.assertEqual(unb64(made["public_key"]), public)

    def test_a_shared_secret_is_the_one_the_other_side_derives(self):
        for spec, curve in (("ECC_NIST_P256", "P-256"), ("ECC_NIST_P384", "P-384"),
                            ("ECC_NIST_P521", "P-521")):
            key = self.lab.key(KeySpec=spec, KeyUsage="KEY_AGREEMENT")
            spki, secret = self.agreed(key, curve)
            for _ in range(2):
                answer = self.client.ok("DeriveSharedSecret", key_id=key, public_key=b64(spki))
                self.assertEqual(answer["sha256"], hashlib.sha256(secret).hexdigest())

    @unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
    def test_no_plaintext_is_left_in_memory_after_any_operation(self):
        text = os.urandom(4096)
        blob = self.lab.ok("Encrypt", {"KeyId": self.key, "Plaintext": b64(text),
                                       "EncryptionContext": CONTEXT})["CiphertextBlob"]
        key = self.lab.key(KeySpec="ECC_NIST_P521", KeyUsage="KEY_AGREEMENT")
        public, secret = self.agreed(key, "P-521")
        pair = self.client.ok("GenerateDataKeyPair", key_id=self.key, pair_spec="RSA_2048",
                              context=CONTEXT)
        self.assertEqual(self.decrypt(blob)["sha256"], hashlib.sha256(text).hexdigest())
        self.client.ok("DeriveSharedSecret", key_id=key, public_key=b64(public))
        made = self.data_key()
        for what, plaintext in (("a data key", self.reveal(made["ciphertext"])),
                                ("a private key", self.reveal(pair["ciphertext"])[-600:]),
                                ("a plaintext", text), ("a shared secret", secret)):
            with self.subTest(what=what):
                self.assertEqual(find(self.client.process.pid, plaintext), [])

    # -- refusals -----------------------------------------------------------------------------

    def test_another_context_is_told_as_such_and_the_blob_stays_good(self):
        blob = self.data_key()["ciphertext"]
        self.refused(self.decrypt(blob, context={"Purpose": "Other"}),
                     "InvalidCiphertextException", "encryption context")
        self.assertEqual(self.decrypt(blob)["code"], "ok")

    def test_a_blob_of_another_key(self):
        blob = self.data_key()["ciphertext"]
        self.refused(self.decrypt(blob, key=self.lab.key()), "IncorrectKeyException",
                     "another key")

    def test_a_changed_blob(self):
        blob = bytearray(unb64(self.data_key()["ciphertext"]))
        blob[-1] ^= 1
        self.refused(self.decrypt(b64(bytes(blob))), "InvalidCiphertextException", "changed")

    def test_a_key_that_is_not_there(self):
        missing = self.key[:-12] + "000000000000"
        self.refused(self.data_key(missing), "NotFoundException", missing)

    def test_a_disabled_key_and_one_pending_deletion(self):
        key = self.lab.key()
        self.lab.ok("DisableKey", {"KeyId": key})
        self.refused(self.data_key(key), "DisabledException", "enable")
        self.lab.ok("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
        self.refused(self.data_key(key), "KMSInvalidStateException", "pending deletion")

    def test_a_key_for_another_use(self):
        key = self.lab.key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        self.refused(self.data_key(key), "InvalidKeyUsageException", "KeyUsage")

    def test_an_image_that_the_key_policy_does_not_name(self):
        key = self.lab.key()
        self.policy(key, self.allow(**{"kms:RecipientAttestation:ImageSha384": "00" * 48}))
        self.refused(self.data_key(key), "AccessDeniedException", f" PCR0={PCRS['0'][:16]}",
                     f" PCR16={self.client.pcr16[:16]}")
        self.policy(key, self.allow(**{"kms:RecipientAttestation:ImageSha384": PCRS["0"],
                                       "kms:RecipientAttestation:PCR16": self.client.pcr16}))
        self.assertEqual(self.data_key(key)["code"], "ok")

    def test_an_explicit_deny(self):
        key = self.lab.key()
        deny = {"Effect": "Deny", "Principal": "*", "Action": "kms:GenerateDataKey",
                "Resource": "*"}
        self.policy(key, self.allow(), deny)
        self.refused(self.data_key(key), "AccessDeniedException", "Deny")

    def test_a_caller_of_another_account(self):
        stranger = Client(self.lab, self.lab.principal("arn:aws:iam::999988887777:user/other"),
                          name="stranger")
        self.refused(self.data_key(client=stranger), "AccessDeniedException",
                     "the key is of account 123456789012, the caller of 999988887777")

    def test_a_secret_key_that_is_wrong_and_an_id_that_is_unknown(self):
        wrong = Client(self.lab, self.lab.credentials | {"SecretAccessKey": "x" * 40},
                       name="wrong-secret")
        self.refused(self.data_key(client=wrong), "InvalidSignatureException", "secret key")
        unknown = Client(self.lab, self.lab.credentials | {"AccessKeyId": "AKIA" + "Q" * 16},
                         name="unknown-id")
        self.refused(self.data_key(client=unknown), "UnrecognizedClientException", "credentials")

    def test_a_session_token_that_expired(self):
        session = self.lab.principal(
            "arn:aws:sts::123456789012:assumed-role/agent/session", session_seconds=1)
        session.pop("Expiration", None)  # so that the client has to ask
        late = Client(self.lab, session, name="late")
        time.sleep(1.5)
        self.refused(self.data_key(client=late), "ExpiredTokenException", "session token")

    @unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
    def test_calls_leave_no_copy_of_the_credentials(self):
        session = self.lab.principal("arn:aws:sts::123456789012:assumed-role/agent/memory",
                                     session_seconds=3600)
        client = Client(self.lab, session, name="memory")
        secrets = [session[name].encode() for name in ("Token", "SecretAccessKey")]
        self.assertEqual(self.data_key(client=client)["code"], "ok")
        # Held for use by each of the two clients of the process, in guarded memory.
        held = [find(client.process.pid, secret) for secret in secrets]
        self.assertEqual([len(places) for places in held], [2, 2])
        for fresh in (False, True):
            self.assertEqual(self.data_key(client=client, fresh=fresh)["code"], "ok")
            self.refused(self.data_key(self.key[:-12] + "0" * 12, client, fresh=fresh),
                         "NotFoundException")
            self.assertEqual([find(client.process.pid, secret) for secret in secrets], held)

    def test_a_clock_that_is_off(self):
        try:
            self.lab.admin("PUT", "/clock", {"offset_ms": 20 * 60 * 1000})
            answer = self.data_key()
        finally:
            self.lab.admin("PUT", "/clock", {"offset_ms": 0})
        self.assertEqual(answer["code"], "InvalidSignatureException", answer)
        self.assertIn("clock", answer["sentence"])

    # -- outages ------------------------------------------------------------------------------

    def test_each_error_of_the_table_is_reported_by_its_name_with_its_cause(self):
        page = pathlib.Path(os.environ["CLAVIGER_SOURCE"], "docs", "kms-errors.md").read_text()
        rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (.*?) \| (.*?) \|$", page, re.M)
        self.assertGreaterEqual(len(rows), 30)
        for name, retried, cause, cure in rows:
            with self.subTest(name=name):
                self.lab.admin("POST", "/rules", {"error": name, "message": "so KMS says",
                                                  "count": 1})
                said = () if name in SILENT else ("so KMS says",)
                self.refused(self.data_key(), name, *said, cause, self.key)
                if retried == "no":
                    continue
                self.lab.admin("POST", "/rules", {"error": name, "count": 1})
                self.assertEqual(self.data_key(retry=True)["code"], "ok")

    def test_a_key_of_another_region(self):
        key = self.key.replace("us-east-1", "eu-west-1")
        self.refused(self.data_key(key), "NotFoundException",
                     "the key is of region eu-west-1, the endpoint of us-east-1")

    def test_what_passes_is_retried_until_it_has_passed(self):
        for rule in ({"error": "ThrottlingException", "count": 2},
                     {"error": "KMSInternalException", "count": 2},
                     {"status": 503, "count": 1}, {"drop": True, "count": 1},
                     {"drop": True, "after": True, "count": 1}):
            self.lab.admin("POST", "/rules", rule)
            answer = self.data_key(retry=True)
            self.assertEqual(answer["code"], "ok", (rule, answer))

    def test_answers_that_must_not_be_taken(self):
        other = self.lab.key()
        for members, code in (({"Plaintext": "AAAA"}, "kms-plaintext"),
                              ({"KeyId": other}, "kms-key-mismatch"),
                              ({"KeyId": None}, "kms-response"),
                              ({"CiphertextForRecipient": None}, "kms-response"),
                              ({"CiphertextForRecipient": "AAAA"}, "cms-format"),
                              ({"CiphertextBlob": "!"}, "kms-response")):
            self.lab.admin("POST", "/rules", {"operation": "GenerateDataKey", "count": 1,
                                              "answer": members})
            self.assertEqual(self.data_key()["code"], code, members)
        self.assertEqual(self.data_key()["code"], "ok")

    def test_a_kms_that_stops_and_comes_back(self):
        lab = self.lab
        port = f"tcp:127.0.0.1:{lab.port}"
        self.assertEqual(self.data_key()["code"], "ok")
        lab.kms.kill()
        self.assertEqual(self.data_key()["code"], "kms-connect")
        lab.kms = lab.start_kms(port)
        self.assertEqual(self.data_key(retry=True)["code"], "ok")


if __name__ == "__main__":
    unittest.main()
