"""claviger-kms: attested calls, their documents and their answers."""
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import Case, Lab, Recipient, b64, unb64  # noqa: E402

class Recipients(Case):
    """Attested calls."""

    def setUp(self):
        self.key = self.lab.key()

    def test_a_data_key_comes_only_for_the_recipient(self):
        for spec in ({"KeySpec": "AES_256"}, {"KeySpec": "AES_128"}, {"NumberOfBytes": 1024},
                     {"NumberOfBytes": 1}):
            answer = self.lab.ok("GenerateDataKey",
                                 {"KeyId": self.key, **spec, **self.lab.for_recipient()})
            self.assertEqual(set(answer), {"CiphertextBlob", "CiphertextForRecipient", "KeyId"})
            opened = self.lab.recipient.open(answer["CiphertextForRecipient"])
            plain = self.lab.ok("Decrypt", {"CiphertextBlob": answer["CiphertextBlob"]})
            self.assertEqual(b64(opened), plain["Plaintext"])
            self.assertEqual(answer["KeyId"], self.key)

    def test_every_data_key_is_new(self):
        request = {"KeyId": self.key, "NumberOfBytes": 32}
        first = self.lab.ok("GenerateDataKey", request)
        second = self.lab.ok("GenerateDataKey", request)
        self.assertNotEqual(first["Plaintext"], second["Plaintext"])
        self.assertNotEqual(first["CiphertextBlob"], second["CiphertextBlob"])

    def test_decrypt_gives_the_same_key_to_another_recipient(self):
        context = {"Purpose": "AgentSecrets"}
        made = self.lab.ok("GenerateDataKey", {"KeyId": self.key, "KeySpec": "AES_256",
                                               "EncryptionContext": context,
                                               **self.lab.for_recipient()})
        other = Recipient(self.lab.dir, 4096, "other")
        answer = self.lab.ok("Decrypt", {
            "CiphertextBlob": made["CiphertextBlob"], "EncryptionContext": context,
            "KeyId": self.key, **self.lab.for_recipient(self.lab.document(other.spki))})
        self.assertNotIn("Plaintext", answer)
        self.assertEqual(other.open(answer["CiphertextForRecipient"]),
                         self.lab.recipient.open(made["CiphertextForRecipient"]))

    def test_a_data_key_pair_comes_only_for_the_recipient(self):
        for spec in ("RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521",
                     "ECC_SECG_P256K1"):
            answer = self.lab.ok("GenerateDataKeyPair", {
                "KeyId": self.key, "KeyPairSpec": spec, **self.lab.for_recipient()})
            self.assertNotIn("PrivateKeyPlaintext", answer)
            private = self.lab.recipient.open(answer["CiphertextForRecipient"])
            public = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform",
                                     "DER"], input=private, capture_output=True, check=True)
            self.assertEqual(public.stdout, unb64(answer["PublicKey"]))
            plain = self.lab.ok("Decrypt", {"CiphertextBlob": answer["PrivateKeyCiphertextBlob"]})
            self.assertEqual(unb64(plain["Plaintext"]), private)
            self.assertEqual(answer["KeyPairSpec"], spec)

    def test_random_bytes_come_only_for_the_recipient(self):
        answer = self.lab.ok("GenerateRandom", {"NumberOfBytes": 77, **self.lab.for_recipient()})
        self.assertEqual(set(answer), {"CiphertextForRecipient"})
        self.assertEqual(len(self.lab.recipient.open(answer["CiphertextForRecipient"])), 77)

    def test_a_shared_secret_is_that_of_openssl(self):
        for spec, curve in (("ECC_NIST_P256", "P-256"), ("ECC_NIST_P384", "P-384"),
                            ("ECC_NIST_P521", "P-521")):
            key = self.lab.key(KeySpec=spec, KeyUsage="KEY_AGREEMENT")
            ours = self.lab.dir / "ours.pem"
            subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                            f"ec_paramgen_curve:{curve}", "-out", ours], check=True,
                           capture_output=True)
            spki = subprocess.run(["openssl", "pkey", "-in", ours, "-pubout", "-outform", "DER"],
                                  check=True, capture_output=True).stdout
            theirs = self.lab.dir / "theirs.der"
            theirs.write_bytes(unb64(self.lab.ok("GetPublicKey", {"KeyId": key})["PublicKey"]))
            expected = subprocess.run(["openssl", "pkeyutl", "-derive", "-inkey", ours, "-peerkey",
                                       theirs, "-peerform", "DER"], check=True,
                                      capture_output=True).stdout
            request = {"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": b64(spki)}
            plain = self.lab.ok("DeriveSharedSecret", request)
            self.assertEqual(unb64(plain["SharedSecret"]), expected)
            answer = self.lab.ok("DeriveSharedSecret", request | self.lab.for_recipient())
            self.assertNotIn("SharedSecret", answer)
            self.assertEqual(self.lab.recipient.open(answer["CiphertextForRecipient"]), expected)

    def test_the_answer_takes_every_shape_that_kms_uses(self):
        for shape, tag in (("one", 0xA0), ("many", 0xA0), ("primitive", 0x80)):
            self.assertEqual(self.lab.admin("PUT", "/cms", {"shape": shape})[0], 200)
            answer = self.lab.ok("GenerateDataKey", {"KeyId": self.key, "NumberOfBytes": 32,
                                                     **self.lab.for_recipient()})
            cms = unb64(answer["CiphertextForRecipient"])
            self.assertEqual(cms[:4], b"\x30\x80\x06\x09")
            self.assertEqual(cms[431], tag)
            self.assertEqual(len(self.lab.recipient.open(answer["CiphertextForRecipient"])), 32)

    def test_a_request_without_recipient_gets_the_plaintext(self):
        answer = self.lab.ok("GenerateDataKey", {"KeyId": self.key, "NumberOfBytes": 32})
        self.assertEqual(set(answer), {"CiphertextBlob", "KeyId", "Plaintext"})

    def refuse(self, document, sentence):
        status, answer = self.lab.call("GenerateDataKey", {
            "KeyId": self.key, "NumberOfBytes": 32, **self.lab.for_recipient(document)})
        self.assertEqual((status, answer["__type"]), (400, "ValidationException"))
        self.assertIn(sentence, answer["message"])

    def test_a_forged_document_is_refused(self):
        document = bytearray(self.lab.document())
        document[-1] ^= 1
        self.refuse(bytes(document), "not signed")

    def test_a_document_cut_short_or_with_more_behind_it_is_refused(self):
        document = self.lab.document()
        self.refuse(document[:-1], "not valid")
        self.refuse(document + b"\0", "not valid")
        self.refuse(b"\xa0", "not valid")

    def test_a_document_of_another_root_is_refused(self):
        with Lab() as other:
            self.refuse(other.document(self.lab.recipient.spki), "cabundle[0]")

    def test_a_document_without_a_usable_key_is_refused(self):
        elliptic = subprocess.run(
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 |"
            " openssl pkey -pubout -outform DER", shell=True, check=True,
            capture_output=True).stdout
        short = Recipient(self.lab.dir, 1024, "short")
        for key in (None, b"\x30\x00", elliptic, short.spki, self.lab.recipient.spki + b"\0"):
            self.refuse(self.lab.document(key), "public key")

    def test_documents_older_than_five_minutes_are_refused(self):
        document = self.lab.document()
        for seconds, refused in ((295, False), (303, True), (-70, True)):
            status, answer = self.lab.at("GenerateRandom", {
                "NumberOfBytes": 8, **self.lab.for_recipient(document)}, seconds=seconds)
            self.assertEqual(status, 400 if refused else 200, answer)
            if refused:
                self.assertEqual(answer["__type"], "ValidationException")

    def test_a_malformed_recipient_is_refused_by_member(self):
        good = self.lab.for_recipient()["Recipient"]
        rows = [
            ({**good, "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_1"}, "ValidationException"),
            ({"AttestationDocument": good["AttestationDocument"]}, "ValidationException"),
            ({"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, "ValidationException"),
            ({**good, "AttestationDocument": "not base64!"}, "SerializationException"),
            ({**good, "AttestationDocument": ""}, "ValidationException"),
            ("a text", "SerializationException"),
        ]
        for recipient, name in rows:
            with self.subTest(recipient=str(recipient)[:60]):
                self.assert_error(name, "GenerateRandom",
                                  {"NumberOfBytes": 8, "Recipient": recipient})


if __name__ == "__main__":
    unittest.main()
