"""claviger-kms: faults on demand, the audit record, the database, the command line."""
import json
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, HOST, PCRS, USER, Case, Lab, b64, sign, unb64  # noqa: E402

class Operations(Case):
    """Faults on demand, the audit record, the database and the command line."""

    def test_a_rule_hits_as_often_as_it_says(self):
        rule = {"operation": "ListKeys", "error": "ThrottlingException", "count": 2,
                "message": "Rate exceeded"}
        self.assertEqual(self.lab.admin("POST", "/rules", rule)[0], 200)
        self.assertEqual(self.lab.admin("GET", "/rules"), (200, [rule]))
        self.lab.ok("ListAliases")
        for _ in range(2):
            self.assertEqual(self.lab.call("ListKeys"), (400, {
                "__type": "ThrottlingException", "message": "Rate exceeded"}))
        self.lab.ok("ListKeys")
        self.assertEqual(self.lab.admin("GET", "/rules"), (200, []))

    def test_errors_have_their_http_status(self):
        for name, status in (("KMSInternalException", 500), ("KeyUnavailableException", 500),
                             ("DependencyTimeoutException", 503),
                             ("ServiceUnavailableException", 503), ("LimitExceededException", 400)):
            self.lab.admin("POST", "/rules", {"error": name, "count": 1})
            found = self.lab.call("ListKeys")
            self.assertEqual((found[0], found[1]["__type"]), (status, name))
        self.lab.admin("POST", "/rules", {"status": 429, "count": 1})
        self.assertEqual(self.lab.call("ListKeys")[0], 429)

    def test_latency_outage_and_wrong_answers(self):
        self.lab.admin("POST", "/rules", {"latency_ms": 300, "count": 1})
        start = time.monotonic()
        self.lab.ok("ListKeys")
        self.assertGreater(time.monotonic() - start, 0.29)
        self.lab.admin("POST", "/rules", {"drop": True, "count": 1})
        with self.assertRaises((ConnectionError, OSError)):
            self.lab.call("ListKeys")
        key = self.lab.key()
        self.lab.admin("POST", "/rules", {"operation": "GenerateDataKey", "count": 1, "answer": {
            "KeyId": "arn:aws:kms:us-east-1:000000000000:key/x", "CiphertextBlob": None}})
        answer = self.lab.ok("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1})
        self.assertEqual(answer["KeyId"], "arn:aws:kms:us-east-1:000000000000:key/x")
        self.assertNotIn("CiphertextBlob", answer)

    def test_an_answer_lost_after_the_deed(self):
        self.lab.admin("POST", "/rules", {"operation": "CreateAlias", "drop": True, "after": True,
                                          "count": 1})
        key = self.lab.key()
        with self.assertRaises((ConnectionError, OSError)):
            self.lab.call("CreateAlias", {"AliasName": "alias/lost", "TargetKeyId": key})
        self.assertEqual(self.lab.ok("DescribeKey", {"KeyId": "alias/lost"})["KeyMetadata"]["Arn"],
                         key)

    def test_the_admin_route_refuses_nonsense(self):
        rows = [("POST", "/rules", {"operation": "Nonsense"}, 400),
                ("POST", "/rules", {"error": "NonsenseException"}, 400),
                ("POST", "/rules", {"error": "voucher-spent"}, 400),
                ("POST", "/rules", {"unknown": 1}, 400), ("POST", "/rules", None, 400),
                ("POST", "/rules", {"latency_ms": -1}, 400),
                ("PUT", "/cms", {"shape": "round"}, 400), ("PUT", "/clock", {}, 400),
                ("POST", "/credentials", {"arn": "nonsense"}, 400),
                ("GET", "/nonsense", None, 404), ("GET", "/audit?after=x", None, 400)]
        for method, path, body, status in rows:
            with self.subTest(path=path, body=body):
                self.assertEqual(self.lab.admin(method, path, body)[0], status)
        self.assertEqual(self.lab.admin("GET", "/health"),
                         (200, {"status": "ok", "region": "us-east-1"}))

    def test_every_request_is_recorded(self):
        key = self.lab.key()
        before = self.lab.audit()[-1]["sequence"]
        context = {"Purpose": "AgentSecrets"}
        self.lab.ok("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 32,
                                        "EncryptionContext": context, **self.lab.for_recipient()})
        self.lab.call("Encrypt", {"KeyId": key, "Plaintext": b64(b"secret"),
                                  "EncryptionContext": {"a": 1}})
        self.lab.raw({"content-type": "application/x-amz-json-1.1", "host": HOST,
                      "x-amz-target": "TrentService.Decrypt"}, b"{}")
        attested, refused, unsigned = self.lab.audit(before)
        self.assertEqual(self.lab.admin("GET", f"/audit?after={before}")[1],
                         [attested, refused, unsigned])
        self.assertEqual(attested["eventName"], "GenerateDataKey")
        self.assertEqual(attested["userIdentity"]["arn"], USER)
        self.assertEqual(attested["requestParameters"], {
            "keyId": key, "numberOfBytes": 32, "encryptionContext": context})
        self.assertEqual(attested["resources"], [
            {"ARN": key, "accountId": ACCOUNT, "type": "AWS::KMS::Key"}])
        recipient = attested["additionalEventData"]["recipient"]
        self.assertEqual(unb64(recipient["attestationDocumentEnclaveImageDigest"]).hex(),
                         PCRS["0"])
        self.assertEqual(unb64(recipient["attestationDocumentEnclavePCR8"]).hex(), PCRS["8"])
        self.assertTrue(recipient["attestationDocumentModuleId"])
        self.assertEqual(attested["sourceIPAddress"], "127.0.0.1")
        self.assertNotIn("errorCode", attested)
        self.assertEqual(refused["errorCode"], "SerializationException")
        self.assertNotIn(b64(b"secret"), json.dumps(refused))
        self.assertEqual((unsigned["errorCode"], unsigned["userIdentity"]),
                         ("MissingAuthenticationTokenException", {"type": "Unknown"}))

    def test_a_request_that_is_not_text_is_recorded_too(self):
        self.lab.ok("ListKeys")
        before = self.lab.audit()[-1]["sequence"]
        for agent, target in (("\xff\xfe" + "a" * 5000, "TrentService.Decrypt"),
                              ("plain", "TrentService.\xe9")):
            self.lab.raw({"content-type": "application/x-amz-json-1.1", "host": HOST,
                          "user-agent": agent, "x-amz-target": target}, b"{}")
        first, second = self.lab.audit(before)
        self.assertEqual(first["userAgent"], "??" + "a" * 1022)
        self.assertEqual(second["eventName"], "?")
        # As large as a request may be: the list is still read.
        text = "\\u0001" * 174700
        body = ('{"Description":"%s"}' % text).encode()
        self.lab.raw(sign(self.lab.credentials, HOST, "CreateKey", body), body)
        self.assertEqual(len(self.lab.audit(before)), 3)

    def test_reveal_opens_without_asking_anyone(self):
        made = self.lab.ok("GenerateDataKey", {"KeyId": self.lab.key(), "NumberOfBytes": 32,
                                               "EncryptionContext": {"a": "b"}})
        out = self.lab.run("claviger-kms", "reveal", str(self.lab.kms_dir), "--blob",
                           made["CiphertextBlob"])
        self.assertEqual(out.stdout.strip(), made["Plaintext"])

    def test_keys_survive_a_kill(self):
        with Lab() as lab:
            key = lab.key()
            blob = lab.ok("Encrypt", {"KeyId": key, "Plaintext": b64(b"kept")})["CiphertextBlob"]
            lab.kms.kill()
            lab.start_kms()
            self.assertEqual(unb64(lab.ok("Decrypt", {"CiphertextBlob": blob})["Plaintext"]),
                             b"kept")
            self.assertEqual(lab.kms.process.returncode, -9)

    def test_the_command_line(self):
        rows = [((), 2), (("serve",), 2), (("nonsense", "x"), 2), (("--nonsense",), 2),
                (("--help",), 0), (("--version",), 0), (("init", str(self.lab.kms_dir)), 2),
                (("serve", str(self.lab.dir), "--listen", "tcp:127.0.0.1:0",
                  "--attestation-root", str(self.lab.nsm_dir / "root.pem")), 2),
                (("serve", str(self.lab.kms_dir), "--listen", "nonsense",
                  "--attestation-root", str(self.lab.nsm_dir / "root.pem")), 2),
                (("reveal", str(self.lab.kms_dir), "--blob", "AAAA"), 8),
                (("credentials", str(self.lab.kms_dir), "--arn", "nonsense"), 2)]
        for arguments, status in rows:
            with self.subTest(arguments=arguments):
                done = self.lab.run("claviger-kms", *arguments, check=False)
                self.assertEqual(done.returncode, status, done.stderr)
                if status:
                    self.assertRegex(done.stderr, r"^claviger-kms: .* \([\w-]+\)\n$")

    def test_sigterm_ends_with_status_0(self):
        with Lab() as lab:
            self.assertEqual(lab.kms.stop(), 0)


if __name__ == "__main__":
    unittest.main()
