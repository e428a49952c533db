"""claviger-kms: key specs, states, names, lists and parameters out of bounds."""
import hashlib
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, Case, b64, unb64  # noqa: E402

class Keys(Case):
    """Key specs, states, names and lists."""

    def test_symmetric_ciphertexts(self):
        key, other = self.lab.key(), self.lab.key()
        request = {"KeyId": key, "Plaintext": b64(b"hello"), "EncryptionContext": {"a": "1"}}
        blob = self.lab.ok("Encrypt", request)["CiphertextBlob"]
        for context, name in (({"a": "2"}, "InvalidCiphertextException"),
                              ({}, "InvalidCiphertextException")):
            self.assert_error(name, "Decrypt", {"CiphertextBlob": blob,
                                                "EncryptionContext": context})
        good = {"CiphertextBlob": blob, "EncryptionContext": {"a": "1"}}
        self.assertEqual(self.lab.ok("Decrypt", good), {
            "KeyId": key, "Plaintext": b64(b"hello"), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
        self.assert_error("IncorrectKeyException", "Decrypt", {**good, "KeyId": other})
        self.assert_error("InvalidCiphertextException", "Decrypt",
                          {"CiphertextBlob": b64(b"nonsense")})
        altered = bytearray(unb64(blob))
        altered[-1] ^= 1
        self.assert_error("InvalidCiphertextException", "Decrypt",
                          {**good, "CiphertextBlob": b64(bytes(altered))})
        moved = self.lab.ok("ReEncrypt", {
            "CiphertextBlob": blob, "SourceEncryptionContext": {"a": "1"},
            "DestinationKeyId": other, "DestinationEncryptionContext": {"b": "2"}})
        self.assertEqual((moved["SourceKeyId"], moved["KeyId"]), (key, other))
        self.assertEqual(unb64(self.lab.ok("Decrypt", {
            "CiphertextBlob": moved["CiphertextBlob"],
            "EncryptionContext": {"b": "2"}})["Plaintext"]), b"hello")
        self.assert_error("InvalidCiphertextException", "ReEncrypt", {
            "CiphertextBlob": blob, "DestinationKeyId": other})

    def test_rsa_encryption(self):
        key = self.lab.key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
        for algorithm in ("RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"):
            request = {"KeyId": key, "EncryptionAlgorithm": algorithm}
            blob = self.lab.ok("Encrypt", {**request, "Plaintext": b64(b"x")})["CiphertextBlob"]
            self.assertEqual(self.lab.ok("Decrypt", {**request, "CiphertextBlob": blob})
                             ["Plaintext"], b64(b"x"))
        self.assert_error("InvalidKeyUsageException", "Encrypt",
                          {"KeyId": key, "Plaintext": b64(b"x")})
        self.assert_error("ValidationException", "Decrypt",
                          {"CiphertextBlob": blob, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
        self.assert_error("InvalidCiphertextException", "Decrypt", {
            **request, "CiphertextBlob": b64(bytes(256))})
        self.assert_error("InvalidKeyUsageException", "GenerateDataKey",
                          {"KeyId": key, "NumberOfBytes": 32})

    def test_signatures_verify_with_openssl(self):
        rows = [("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256"), ("RSA_2048", "RSASSA_PSS_SHA_512"),
                ("ECC_NIST_P256", "ECDSA_SHA_256"), ("ECC_NIST_P384", "ECDSA_SHA_384"),
                ("ECC_NIST_P521", "ECDSA_SHA_512"), ("ECC_SECG_P256K1", "ECDSA_SHA_256")]
        for spec, algorithm in rows:
            with self.subTest(spec=spec, algorithm=algorithm):
                key = self.lab.key(KeySpec=spec, KeyUsage="SIGN_VERIFY")
                request = {"KeyId": key, "SigningAlgorithm": algorithm}
                raw = self.lab.ok("Sign", {**request, "Message": b64(b"message")})["Signature"]
                self.verify_with_openssl(key, algorithm, raw)
                digest = hashlib.new("sha" + algorithm[-3:], b"message").digest()
                good = {**request, "Signature": raw, "Message": b64(digest),
                        "MessageType": "DIGEST"}
                self.assertIs(self.lab.ok("Verify", good)["SignatureValid"], True)
                self.assert_error("KMSInvalidSignatureException", "Verify",
                                  {**good, "MessageType": "RAW"})
                self.assert_error("ValidationException", "Sign", {
                    **request, "Message": b64(digest[:-1]), "MessageType": "DIGEST"})
        self.assert_error("InvalidKeyUsageException", "Sign", {
            "KeyId": key, "SigningAlgorithm": "RSASSA_PSS_SHA_256", "Message": b64(b"x")})

    def verify_with_openssl(self, key, algorithm, signature):
        public, signed = self.lab.dir / "public.der", self.lab.dir / "signature"
        public.write_bytes(unb64(self.lab.ok("GetPublicKey", {"KeyId": key})["PublicKey"]))
        signed.write_bytes(unb64(signature))
        options = ["-sigopt", "rsa_padding_mode:pss"] if "PSS" in algorithm else []
        done = subprocess.run(["openssl", "dgst", f"-sha{algorithm[-3:]}", *options, "-keyform",
                               "DER", "-verify", public, "-signature", signed],
                              input=b"message", capture_output=True)
        self.assertEqual(done.stdout.strip(), b"Verified OK", done.stderr)

    def test_macs(self):
        for bits in (224, 256, 384, 512):
            key = self.lab.key(KeySpec=f"HMAC_{bits}", KeyUsage="GENERATE_VERIFY_MAC")
            request = {"KeyId": key, "MacAlgorithm": f"HMAC_SHA_{bits}", "Message": b64(b"m")}
            mac = self.lab.ok("GenerateMac", request)["Mac"]
            self.assertEqual(len(unb64(mac)), bits // 8)
            self.assertIs(self.lab.ok("VerifyMac", {**request, "Mac": mac})["MacValid"], True)
            self.assert_error("KMSInvalidMacException", "VerifyMac",
                              {**request, "Mac": mac, "Message": b64(b"n")})
        self.assert_error("InvalidKeyUsageException", "GenerateMac",
                          {**request, "MacAlgorithm": "HMAC_SHA_256"})

    def test_key_metadata(self):
        rows = [({}, "ENCRYPT_DECRYPT", "EncryptionAlgorithms", ["SYMMETRIC_DEFAULT"]),
                ({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}, "ENCRYPT_DECRYPT",
                 "EncryptionAlgorithms", ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]),
                ({"KeySpec": "ECC_NIST_P384", "KeyUsage": "SIGN_VERIFY"}, "SIGN_VERIFY",
                 "SigningAlgorithms", ["ECDSA_SHA_384"]),
                ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}, "KEY_AGREEMENT",
                 "KeyAgreementAlgorithms", ["ECDH"]),
                ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
                 "GENERATE_VERIFY_MAC", "MacAlgorithms", ["HMAC_SHA_256"])]
        for request, usage, member, algorithms in rows:
            made = self.lab.ok("CreateKey", request)["KeyMetadata"]
            found = self.lab.ok("DescribeKey", {"KeyId": made["KeyId"]})["KeyMetadata"]
            self.assertEqual(made, found)
            self.assertEqual((found["KeyUsage"], found[member]), (usage, algorithms))
            self.assertEqual(found["Arn"],
                             f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{found['KeyId']}")
        for request in ({"KeySpec": "NONSENSE"}, {"KeySpec": "RSA_2048"},
                        {"KeySpec": "HMAC_256", "KeyUsage": "SIGN_VERIFY"},
                        {"KeyUsage": "SIGN_VERIFY"}):
            self.assert_error("ValidationException", "CreateKey", request)
        for request in ({"MultiRegion": True}, {"Origin": "EXTERNAL"}):
            self.assert_error("UnsupportedOperationException", "CreateKey", request)

    def test_how_a_key_is_named(self):
        arn = self.lab.key()
        key_id = arn.rsplit("/", 1)[1]
        self.lab.ok("CreateAlias", {"AliasName": "alias/named", "TargetKeyId": key_id})
        alias_arn = f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/named"
        for name in (arn, key_id, "alias/named", alias_arn):
            found = self.lab.ok("DescribeKey", {"KeyId": name})["KeyMetadata"]
            self.assertEqual(found["Arn"], arn)
        rows = [("00000000-0000-0000-0000-000000000000", "NotFoundException"),
                ("nonsense", "NotFoundException"), ("alias/nonsense", "NotFoundException"),
                (arn.replace("us-east-1", "eu-west-1"), "NotFoundException"),
                (arn.replace(ACCOUNT, "210987654321"), "NotFoundException"),
                ("arn:aws:kms:nonsense", "InvalidArnException"), ("", "ValidationException")]
        for name, error in rows:
            self.assert_error(error, "DescribeKey", {"KeyId": name})

    def test_states(self):
        key = self.lab.key()
        request = {"KeyId": key, "NumberOfBytes": 32}
        blob = self.lab.ok("GenerateDataKey", request)["CiphertextBlob"]
        self.lab.ok("DisableKey", {"KeyId": key})
        self.assert_error("DisabledException", "GenerateDataKey", request)
        self.assert_error("DisabledException", "Decrypt", {"CiphertextBlob": blob})
        self.lab.ok("EnableKey", {"KeyId": key})
        self.lab.ok("GenerateDataKey", request)
        self.assert_error("KMSInvalidStateException", "CancelKeyDeletion", {"KeyId": key})
        self.assert_error("ValidationException", "ScheduleKeyDeletion",
                          {"KeyId": key, "PendingWindowInDays": 6})
        answer = self.lab.ok("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
        self.assertEqual((answer["KeyId"], answer["KeyState"], answer["PendingWindowInDays"]),
                         (key, "PendingDeletion", 7))
        for operation in ("EnableKey", "ScheduleKeyDeletion", "GenerateDataKey"):
            self.assert_error("KMSInvalidStateException", operation,
                              request if operation == "GenerateDataKey" else {"KeyId": key})
        self.lab.ok("CancelKeyDeletion", {"KeyId": key})
        self.assertEqual(self.lab.ok("DescribeKey", {"KeyId": key})["KeyMetadata"]["KeyState"],
                         "Disabled")

    def test_deletion_happens_when_its_day_comes(self):
        key = self.lab.key()
        self.lab.ok("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
        self.assertEqual(self.lab.at("DescribeKey", {"KeyId": key}, days=6)[0], 200)
        status, answer = self.lab.at("DescribeKey", {"KeyId": key}, days=8)
        self.assertEqual((status, answer["__type"]), (400, "NotFoundException"))
        self.assert_error("NotFoundException", "DescribeKey", {"KeyId": key})

    def test_rotation_keeps_old_ciphertexts(self):
        key = self.lab.key()
        old = self.lab.ok("Encrypt", {"KeyId": key, "Plaintext": b64(b"old")})["CiphertextBlob"]
        self.assertEqual(self.lab.ok("GetKeyRotationStatus", {"KeyId": key})
                         ["KeyRotationEnabled"], False)
        self.lab.ok("EnableKeyRotation", {"KeyId": key, "RotationPeriodInDays": 90})
        status = self.lab.ok("GetKeyRotationStatus", {"KeyId": key})
        self.assertEqual((status["KeyRotationEnabled"], status["RotationPeriodInDays"]), (True, 90))
        self.lab.ok("RotateKeyOnDemand", {"KeyId": key})
        self.assertEqual(self.lab.at("DescribeKey", {"KeyId": key}, days=91)[0], 200)
        rotations = self.lab.ok("ListKeyRotations", {"KeyId": key})["Rotations"]
        self.assertEqual([r["RotationType"] for r in rotations], ["ON_DEMAND", "AUTOMATIC"])
        self.assertEqual(unb64(self.lab.ok("Decrypt", {"CiphertextBlob": old})["Plaintext"]),
                         b"old")
        new = self.lab.ok("Encrypt", {"KeyId": key, "Plaintext": b64(b"new")})["CiphertextBlob"]
        self.assertEqual(unb64(self.lab.ok("Decrypt", {"CiphertextBlob": new})["Plaintext"]),
                         b"new")
        self.lab.ok("DisableKeyRotation", {"KeyId": key})
        rsa = self.lab.key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
        self.assert_error("UnsupportedOperationException", "EnableKeyRotation", {"KeyId": rsa})

    def test_aliases(self):
        one, two = self.lab.key(), self.lab.key()
        self.lab.ok("CreateAlias", {"AliasName": "alias/one", "TargetKeyId": one})
        self.assert_error("AlreadyExistsException", "CreateAlias",
                          {"AliasName": "alias/one", "TargetKeyId": two})
        self.lab.ok("UpdateAlias", {"AliasName": "alias/one", "TargetKeyId": two})
        self.assertEqual(self.lab.ok("DescribeKey", {"KeyId": "alias/one"})["KeyMetadata"]["Arn"],
                         two)
        listed = self.lab.ok("ListAliases", {"KeyId": two})["Aliases"]
        self.assertEqual([a["AliasName"] for a in listed], ["alias/one"])
        self.lab.ok("DeleteAlias", {"AliasName": "alias/one"})
        self.assert_error("NotFoundException", "DeleteAlias", {"AliasName": "alias/one"})
        self.assert_error("NotFoundException", "UpdateAlias",
                          {"AliasName": "alias/none", "TargetKeyId": one})
        for name, error in (("one", "InvalidAliasNameException"),
                            ("alias/", "InvalidAliasNameException"),
                            ("alias/aws/ebs", "InvalidAliasNameException"),
                            ("alias/a b", "ValidationException")):
            self.assert_error(error, "CreateAlias", {"AliasName": name, "TargetKeyId": one})

    def test_tags(self):
        key = self.lab.key(Tags=[{"TagKey": "a", "TagValue": "1"}])
        self.lab.ok("TagResource", {"KeyId": key, "Tags": [{"TagKey": "b", "TagValue": "2"},
                                                          {"TagKey": "a", "TagValue": "3"}]})
        self.assertEqual(self.lab.ok("ListResourceTags", {"KeyId": key})["Tags"],
                         [{"TagKey": "a", "TagValue": "3"}, {"TagKey": "b", "TagValue": "2"}])
        self.lab.ok("UntagResource", {"KeyId": key, "TagKeys": ["a"]})
        self.assertEqual(self.lab.ok("ListResourceTags", {"KeyId": key})["Tags"],
                         [{"TagKey": "b", "TagValue": "2"}])
        self.assert_error("TagException", "TagResource",
                          {"KeyId": key, "Tags": [{"TagKey": "aws:x", "TagValue": "2"}]})

    def test_tags_are_taken_all_or_none(self):
        key = self.lab.key(Tags=[{"TagKey": "a", "TagValue": "1"}])
        good, more = {"TagKey": "b", "TagValue": "2"}, [
            {"TagKey": f"t{i}", "TagValue": ""} for i in range(50)]
        keys = len(self.lab.ok("ListKeys", {"Limit": 1000})["Keys"])
        for tags, error in (([good, {"TagKey": "aws:x", "TagValue": ""}], "TagException"),
                            ([good, {"TagKey": "x"}], "ValidationException"),
                            ([good, "x"], "ValidationException"),
                            ([good, {"TagKey": "é" * 100, "TagValue": ""}], "TagException"),
                            ("x", "SerializationException")):
            with self.subTest(tags=str(tags)[:60]):
                self.assert_error(error, "CreateKey", {"Tags": tags})
                if isinstance(tags, list):
                    self.assert_error(error, "TagResource", {"KeyId": key, "Tags": tags})
        self.assert_error("TagException", "TagResource", {"KeyId": key, "Tags": more})
        self.assertEqual(self.lab.ok("ListResourceTags", {"KeyId": key})["Tags"],
                         [{"TagKey": "a", "TagValue": "1"}])
        self.assertEqual(len(self.lab.ok("ListKeys", {"Limit": 1000})["Keys"]), keys)

    def test_lists_come_in_pages(self):
        made = {self.lab.key().rsplit("/", 1)[1] for _ in range(7)}
        found, marker = [], None
        while True:
            page = self.lab.ok("ListKeys", {"Limit": 3} | ({"Marker": marker} if marker else {}))
            found += [k["KeyId"] for k in page["Keys"]]
            self.assertLessEqual(len(page["Keys"]), 3)
            if not page["Truncated"]:
                self.assertNotIn("NextMarker", page)
                break
            marker = page["NextMarker"]
        self.assertEqual(len(found), len(set(found)))
        self.assertLessEqual(made, set(found))
        self.assert_error("InvalidMarkerException", "ListKeys", {"Marker": "!"})
        self.assert_error("ValidationException", "ListKeys", {"Limit": 0})
        self.assert_error("ValidationException", "ListKeys", {"Limit": 1001})
        self.assertEqual(self.lab.ok("ListKeyPolicies", {"KeyId": found[0]})["PolicyNames"],
                         ["default"])

    def test_parameters_out_of_bounds(self):
        key = self.lab.key()
        rows = [
            ("GenerateDataKey", {"KeyId": key}, "ValidationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 0}, "ValidationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1025}, "ValidationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": "32"}, "SerializationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 32, "KeySpec": "AES_256"},
             "ValidationException"),
            ("GenerateDataKey", {"KeyId": key, "KeySpec": "AES_512"}, "ValidationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1, "EncryptionContext": []},
             "SerializationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1, "EncryptionContext": {"a": 1}},
             "SerializationException"),
            ("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1,
                                 "EncryptionContext": {"a": "b" * 8192}}, "ValidationException"),
            ("GenerateDataKeyPair", {"KeyId": key, "KeyPairSpec": "HMAC_256"},
             "ValidationException"),
            ("GenerateRandom", {}, "ValidationException"),
            ("GenerateRandom", {"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1"},
             "UnsupportedOperationException"),
            ("Encrypt", {"KeyId": key, "Plaintext": b64(bytes(4097))}, "ValidationException"),
            ("Encrypt", {"KeyId": key, "Plaintext": ""}, "ValidationException"),
            ("Encrypt", {"KeyId": key, "Plaintext": "%%%"}, "SerializationException"),
            ("Encrypt", {"KeyId": key}, "ValidationException"),
            ("Decrypt", {"CiphertextBlob": b64(bytes(6145))}, "ValidationException"),
            ("DeriveSharedSecret", {"KeyId": key, "KeyAgreementAlgorithm": "ECDH",
                                    "PublicKey": b64(b"x")}, "InvalidKeyUsageException"),
            ("GetPublicKey", {"KeyId": key}, "UnsupportedOperationException"),
        ]
        for operation, parameters, name in rows:
            with self.subTest(operation=operation, parameters=str(parameters)[:80]):
                self.assert_error(name, operation, parameters)


if __name__ == "__main__":
    unittest.main()
