"""claviger-kms through its TLS socket: operations, policies, attestation, audit, faults."""
import datetime
import hashlib
import hmac
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import unittest
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, HOST, PCRS, ROOT, USER, Lab, Recipient, b64, sign, unb64  # noqa: E402

ROLE = f"arn:aws:iam::{ACCOUNT}:role/enclave"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/enclave/i-0123456789abcdef0"
OTHER_USER = "arn:aws:iam::210987654321:user/stranger"
MANAGE = {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": [
    "kms:Describe*", "kms:Get*", "kms:Put*", "kms:List*", "kms:CreateGrant", "kms:Enable*",
    "kms:Disable*", "kms:ScheduleKeyDeletion"], "Resource": "*"}
ATTESTED = ("kms:GenerateDataKey", "kms:Decrypt", "kms:GenerateDataKeyPair",
            "kms:DeriveSharedSecret")


def policy(*statements) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [MANAGE, *statements]})


def allow(condition=None, principal=USER, action=ATTESTED) -> dict:
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": list(action),
                 "Resource": "*"}
    return statement | ({"Condition": condition} if condition else {})


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())

    def assert_error(self, name, operation, parameters=None, credentials=None):
        self.assertEqual(self.lab.error(operation, parameters, credentials), name)

    def tearDown(self):
        self.lab.admin("DELETE", "/rules")
        self.lab.admin("PUT", "/clock", {"offset_ms": 0})
        self.lab.admin("PUT", "/cms", {"shape": "one"})


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
        for offset, refused in ((295_000, False), (303_000, True), (-70_000, True)):
            self.lab.admin("PUT", "/clock", {"offset_ms": offset})
            now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(
                milliseconds=offset)
            body = json.dumps({"NumberOfBytes": 8, **self.lab.for_recipient(document)}).encode()
            status, _, answer = self.lab.raw(
                sign_at(now, self.lab.credentials, "GenerateRandom", body), body)
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


def sign_at(now, credentials, operation, body):
    """As claviger_stack.sign, at another time."""
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"content-type": "application/x-amz-json-1.1", "host": HOST, "x-amz-date": stamp,
               "x-amz-target": f"TrentService.{operation}"}
    names = ";".join(sorted(headers))
    canonical = "POST\n/\n\n" + "".join(f"{k}:{headers[k]}\n" for k in sorted(headers)) + \
        f"\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/us-east-1/kms/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + credentials["SecretAccessKey"]).encode()
    for part in (day, "us-east-1", "kms", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials['AccessKeyId']}/{scope}, SignedHeaders={names}, "
        f"Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}")
    return headers


class Policies(Case):
    """Key policies, identity policies and grants, as they decide calls."""

    def attempt(self, key, attested=True, context=None, credentials=None):
        parameters = {"KeyId": key, "NumberOfBytes": 32}
        parameters |= {"EncryptionContext": context} if context else {}
        parameters |= self.lab.for_recipient() if attested else {}
        status, answer = self.lab.call("GenerateDataKey", parameters, credentials)
        return "ok" if status == 200 else answer["__type"]

    def test_conditions_on_the_document(self):
        image = "kms:RecipientAttestation:ImageSha384"
        rows = [
            ({"StringEqualsIgnoreCase": {image: PCRS["0"]}}, True, "ok"),
            ({"StringEqualsIgnoreCase": {image: PCRS["0"].upper()}}, True, "ok"),
            ({"StringEquals": {image: PCRS["0"].upper()}}, True, "AccessDeniedException"),
            ({"StringEqualsIgnoreCase": {image: PCRS["0"]}}, False, "AccessDeniedException"),
            ({"StringEqualsIgnoreCase": {image: PCRS["1"]}}, True, "AccessDeniedException"),
            ({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR8": PCRS["8"]}}, True, "ok"),
            ({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR8": PCRS["8"],
                                         "kms:RecipientAttestation:PCR4": PCRS["3"]}}, True,
             "AccessDeniedException"),
            ({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR20": PCRS["8"]}}, True,
             "AccessDeniedException"),
            ({"StringEqualsIgnoreCase": {"kms:RecipientAttestation:NitroTPMPCR0": PCRS["0"]}}, True,
             "AccessDeniedException"),
            ({"Null": {image: "false"}}, True, "ok"),
            ({"Null": {image: "false"}}, False, "AccessDeniedException"),
        ]
        for condition, attested, expected in rows:
            with self.subTest(condition=condition, attested=attested):
                key = self.lab.key(Policy=policy(allow(condition)))
                self.assertEqual(self.attempt(key, attested), expected)

    def test_conditions_that_every_call_fills(self):
        rows = [("kms:CallerAccount", ACCOUNT), ("aws:PrincipalAccount", ACCOUNT),
                ("aws:PrincipalArn", USER), ("aws:PrincipalType", "User"),
                ("aws:username", "claviger"), ("aws:RequestedRegion", "us-east-1"),
                ("aws:SecureTransport", "true"), ("aws:SourceIp", "127.0.0.1"),
                ("aws:ResourceAccount", ACCOUNT), ("kms:KeySpec", "SYMMETRIC_DEFAULT"),
                ("kms:KeyUsage", "ENCRYPT_DECRYPT"), ("kms:KeyOrigin", "AWS_KMS"),
                ("kms:MultiRegion", "false"), ("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT"),
                ("aws:ResourceTag/a", "b")]
        for name, value in rows:
            with self.subTest(name=name):
                for found, expected in ((value, "ok"), (value + "x", "AccessDeniedException")):
                    key = self.lab.key(Policy=policy(allow({"StringEquals": {name: found}})),
                                       Tags=[{"TagKey": "a", "TagValue": "b"}])
                    self.assertEqual(self.attempt(key, False), expected)

    def test_conditions_on_what_an_operation_says(self):
        def deny(action, name, value):
            return policy(allow(action=["kms:*"]), {
                "Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*",
                "Condition": {"ForAnyValue:StringEquals": {name: value}}})
        peer = self.lab.ok("GetPublicKey", {"KeyId": self.lab.key(
            KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")})["PublicKey"]
        rows = [
            ({}, "GenerateDataKeyPair", {"KeyPairSpec": "ECC_NIST_P256"}, "kms:DataKeyPairSpec",
             "ECC_NIST_P256"),
            ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, "Sign",
             {"SigningAlgorithm": "ECDSA_SHA_256", "Message": b64(b"m")}, "kms:SigningAlgorithm",
             "ECDSA_SHA_256"),
            ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, "Sign",
             {"SigningAlgorithm": "ECDSA_SHA_256", "Message": b64(b"m")}, "kms:MessageType", "RAW"),
            ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, "GenerateMac",
             {"MacAlgorithm": "HMAC_SHA_256", "Message": b64(b"m")}, "kms:MacAlgorithm",
             "HMAC_SHA_256"),
            ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}, "DeriveSharedSecret",
             {"KeyAgreementAlgorithm": "ECDH", "PublicKey": peer}, "kms:KeyAgreementAlgorithm",
             "ECDH"),
            ({}, "CreateGrant", {"GranteePrincipal": ROLE, "RetiringPrincipal": USER,
                                 "Operations": ["Decrypt", "Encrypt"]}, "kms:GrantOperations",
             "Encrypt"),
            ({}, "CreateGrant", {"GranteePrincipal": ROLE, "Operations": ["Decrypt"]},
             "kms:GranteePrincipal", ROLE),
            ({}, "CreateGrant", {"GranteePrincipal": ROLE, "RetiringPrincipal": USER,
                                 "Operations": ["Decrypt"]}, "kms:RetiringPrincipal", USER),
            ({}, "CreateGrant", {"GranteePrincipal": ROLE, "Operations": ["Decrypt"], "Constraints": {
                "EncryptionContextEquals": {"a": "b"}}}, "kms:GrantConstraintType",
             "EncryptionContextEquals"),
            ({}, "CreateGrant", {"GranteePrincipal": ROLE, "Operations": ["Decrypt"]},
             "kms:GrantIsForAWSResource", "false"),
            ({}, "EnableKeyRotation", {"RotationPeriodInDays": 90}, "kms:RotationPeriodInDays",
             "90"),
            ({}, "TagResource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "aws:TagKeys", "a"),
            ({}, "TagResource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "aws:RequestTag/a",
             "b"),
            ({}, "PutKeyPolicy", {"Policy": policy(allow(action=["kms:*"])),
                                  "BypassPolicyLockoutSafetyCheck": True},
             "kms:BypassPolicyLockoutSafetyCheck", "true"),
            ({}, "ScheduleKeyDeletion", {"PendingWindowInDays": 8},
             "kms:ScheduleKeyDeletionPendingWindowInDays", "8"),
        ]
        for made, operation, parameters, name, value in rows:
            with self.subTest(name=name):
                action = f"kms:{operation}"
                key = self.lab.key(Policy=deny(action, name, value), **made)
                self.assert_error("AccessDeniedException", operation, {"KeyId": key, **parameters})
                key = self.lab.key(Policy=deny(action, name, value + "x"), **made)
                self.lab.ok(operation, {"KeyId": key, **parameters})

    def test_conditions_on_names(self):
        key = self.lab.key(Policy=policy(
            allow({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/right"}}),
            allow(action=["kms:CreateAlias"])))
        self.assertEqual(self.attempt(key, False), "AccessDeniedException")
        self.lab.ok("CreateAlias", {"AliasName": "alias/right", "TargetKeyId": key})
        self.assertEqual(self.attempt(key, False), "ok")
        key = self.lab.key(Policy=policy(
            allow({"StringEquals": {"kms:RequestAlias": "alias/asked"}}),
            allow(action=["kms:CreateAlias"])))
        self.lab.ok("CreateAlias", {"AliasName": "alias/asked", "TargetKeyId": key})
        self.assertEqual(self.attempt(key, False), "AccessDeniedException")
        self.assertEqual(self.attempt("alias/asked", False), "ok")
        same = allow({"Bool": {"kms:ReEncryptOnSameKey": "true"}}, action=["kms:ReEncrypt*"])
        one, two = (self.lab.key(Policy=policy(same, allow(action=["kms:Encrypt"])))
                    for _ in range(2))
        blob = self.lab.ok("Encrypt", {"KeyId": one, "Plaintext": b64(b"x")})["CiphertextBlob"]
        self.lab.ok("ReEncrypt", {"CiphertextBlob": blob, "DestinationKeyId": one})
        self.assert_error("AccessDeniedException", "ReEncrypt",
                          {"CiphertextBlob": blob, "DestinationKeyId": two})

    def test_conditions_on_the_encryption_context(self):
        key = self.lab.key(Policy=policy(allow({
            "StringEquals": {"kms:EncryptionContext:Purpose": "AgentSecrets"},
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["Purpose", "enclave"]}})))
        rows = [({"Purpose": "AgentSecrets"}, "ok"),
                ({"Purpose": "AgentSecrets", "enclave": "x"}, "ok"),
                ({"Purpose": "AgentSecrets", "more": "x"}, "AccessDeniedException"),
                ({"Purpose": "Other"}, "AccessDeniedException"),
                (None, "AccessDeniedException")]
        for context, expected in rows:
            with self.subTest(context=context):
                self.assertEqual(self.attempt(key, context=context), expected)

    def test_an_explicit_deny_wins_and_says_so(self):
        image = {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": PCRS["0"]}}
        key = self.lab.key(Policy=policy(
            allow(), {"Effect": "Deny", "Principal": "*", "Action": list(ATTESTED),
                      "Resource": "*", "Condition": image}))
        self.assertEqual(self.attempt(key), "ok")
        status, answer = self.lab.call("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 32})
        self.assertEqual((status, answer["__type"]), (400, "AccessDeniedException"))
        self.assertEqual(answer["Message"],
                         f"User: {USER} is not authorized to perform: kms:GenerateDataKey on "
                         f"resource: {key} with an explicit deny in a resource-based policy")

    def test_a_denial_names_the_policy_that_is_silent(self):
        key = self.lab.key(Policy=policy())
        status, answer = self.lab.call("Decrypt", {
            "CiphertextBlob": self.lab.ok("GenerateDataKey", {
                "KeyId": self.lab.key(), "NumberOfBytes": 1})["CiphertextBlob"], "KeyId": key})
        self.assertEqual(answer["__type"], "IncorrectKeyException")
        status, answer = self.lab.call("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 32})
        self.assertEqual(answer["Message"],
                         f"User: {USER} is not authorized to perform: kms:GenerateDataKey on "
                         f"resource: {key} because no resource-based policy allows the "
                         "kms:GenerateDataKey action")

    def test_the_accounts_root_leaves_it_to_identity_policies(self):
        key = self.lab.key()
        nothing = self.lab.principal(f"arn:aws:iam::{ACCOUNT}:user/nobody", policy={
            "Version": "2012-10-17", "Statement": []})
        self.assertEqual(self.attempt(key, False, credentials=nothing), "AccessDeniedException")
        some = self.lab.principal(f"arn:aws:iam::{ACCOUNT}:user/somebody", policy={
            "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": key}]})
        self.assertEqual(self.attempt(key, False, credentials=some), "ok")
        self.assertEqual(self.attempt(self.lab.key(), False, credentials=some),
                         "AccessDeniedException")
        self.assert_error("AccessDeniedException", "CreateKey", {}, some)

    def test_a_roles_session_is_the_role(self):
        key = self.lab.key(Policy=policy(allow(principal=ROLE)))
        session = self.lab.principal(SESSION, session_seconds=900)
        self.assertEqual(self.attempt(key, credentials=session), "ok")
        self.assertEqual(self.attempt(key), "AccessDeniedException")
        by_arn = self.lab.key(Policy=policy(allow({"ArnEquals": {"aws:PrincipalArn": ROLE}}, "*")))
        self.assertEqual(self.attempt(by_arn, credentials=session), "ok")

    def test_another_account_needs_both_policies(self):
        stranger = self.lab.principal(OTHER_USER)
        self.assertEqual(self.attempt(self.lab.key(), credentials=stranger),
                         "AccessDeniedException")
        key = self.lab.key(Policy=policy(allow(principal="arn:aws:iam::210987654321:root")))
        self.assertEqual(self.attempt(key, credentials=stranger), "ok")
        powerless = self.lab.principal("arn:aws:iam::210987654321:user/powerless", policy={
            "Version": "2012-10-17", "Statement": []})
        direct = self.lab.key(Policy=policy(allow(
            principal="arn:aws:iam::210987654321:user/powerless")))
        self.assertEqual(self.attempt(direct, credentials=powerless), "AccessDeniedException")

    def test_policies_that_cannot_be_evaluated_are_refused(self):
        via = policy(allow({"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}))
        status, answer = self.lab.call("CreateKey", {"Policy": via})
        self.assertEqual(answer["__type"], "MalformedPolicyDocumentException")
        self.assertIn("kms:ViaService", answer["message"])
        for text in ("{", "[]", "{}", '{"Version":"2012-10-17"}'):
            self.assert_error("MalformedPolicyDocumentException", "CreateKey", {"Policy": text})

    def test_nobody_locks_himself_out_unawares(self):
        locked = json.dumps({"Version": "2012-10-17", "Statement": [allow()]})
        self.assert_error("MalformedPolicyDocumentException", "CreateKey", {"Policy": locked})
        key = self.lab.key(Policy=locked, BypassPolicyLockoutSafetyCheck=True)
        self.assert_error("AccessDeniedException", "GetKeyPolicy", {"KeyId": key})

    def test_put_key_policy_replaces_it(self):
        key = self.lab.key()
        text = policy(allow({"Null": {"kms:RecipientAttestation:ImageSha384": "false"}}))
        self.lab.ok("PutKeyPolicy", {"KeyId": key, "PolicyName": "default", "Policy": text})
        self.assertEqual(self.lab.ok("GetKeyPolicy", {"KeyId": key})["Policy"], text)
        self.assertEqual(self.attempt(key, False), "AccessDeniedException")
        self.assertEqual(self.attempt(key), "ok")

    def test_grants_with_context_constraints(self):
        grantee = self.lab.principal(f"arn:aws:iam::{ACCOUNT}:user/grantee", policy={
            "Version": "2012-10-17", "Statement": []})
        key = self.lab.key()
        self.assertEqual(self.attempt(key, credentials=grantee), "AccessDeniedException")
        request = {"KeyId": key, "GranteePrincipal": f"arn:aws:iam::{ACCOUNT}:user/grantee",
                   "RetiringPrincipal": USER, "Operations": ["GenerateDataKey", "Decrypt"],
                   "Constraints": {"EncryptionContextSubset": {"Purpose": "a"}}, "Name": "one"}
        grant = self.lab.ok("CreateGrant", request)
        self.assertEqual(self.lab.ok("CreateGrant", request), grant)
        for context, expected in (({"Purpose": "a"}, "ok"), ({"Purpose": "a", "x": "y"}, "ok"),
                                  ({"Purpose": "b"}, "AccessDeniedException"),
                                  (None, "AccessDeniedException")):
            self.assertEqual(self.attempt(key, context=context, credentials=grantee), expected)
        self.assert_error("AccessDeniedException", "DescribeKey", {"KeyId": key}, grantee)
        listed = self.lab.ok("ListGrants", {"KeyId": key})["Grants"]
        self.assertEqual([g["GrantId"] for g in listed], [grant["GrantId"]])
        self.assertEqual(listed[0]["Constraints"], request["Constraints"])
        retirable = self.lab.ok("ListRetirableGrants", {"RetiringPrincipal": USER})["Grants"]
        self.assertIn(grant["GrantId"], [g["GrantId"] for g in retirable])
        self.assert_error("AccessDeniedException", "RetireGrant",
                          {"GrantToken": grant["GrantToken"]}, grantee)
        self.lab.ok("RetireGrant", {"GrantToken": grant["GrantToken"]})
        self.assertEqual(self.attempt(key, context={"Purpose": "a"}, credentials=grantee),
                         "AccessDeniedException")

    def test_a_grant_for_an_exact_context(self):
        grantee = self.lab.principal(f"arn:aws:iam::{ACCOUNT}:user/exact", policy={
            "Version": "2012-10-17", "Statement": []})
        key = self.lab.key()
        grant = self.lab.ok("CreateGrant", {
            "KeyId": key, "GranteePrincipal": f"arn:aws:iam::{ACCOUNT}:user/exact",
            "Operations": ["GenerateDataKey"],
            "Constraints": {"EncryptionContextEquals": {"Purpose": "a"}}})
        self.assertEqual(self.attempt(key, context={"Purpose": "a"}, credentials=grantee), "ok")
        self.assertEqual(self.attempt(key, context={"Purpose": "a", "x": "y"},
                                      credentials=grantee), "AccessDeniedException")
        self.lab.ok("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 1,
                                        "GrantTokens": [grant["GrantToken"]]})
        self.assert_error("InvalidGrantTokenException", "GenerateDataKey", {
            "KeyId": key, "NumberOfBytes": 1, "GrantTokens": ["nonsense"]})
        self.assert_error("InvalidGrantIdException", "RevokeGrant",
                          {"KeyId": key, "GrantId": "nonsense"})
        self.assert_error("NotFoundException", "RevokeGrant",
                          {"KeyId": key, "GrantId": "0" * 64})
        self.lab.ok("RevokeGrant", {"KeyId": key, "GrantId": grant["GrantId"]})
        self.assertEqual(self.attempt(key, context={"Purpose": "a"}, credentials=grantee),
                         "AccessDeniedException")


class Signatures(Case):
    """Who is believed, and how refusals are named."""

    def error_of(self, headers, body=b"{}", method="POST", path="/"):
        status, _, answer = self.lab.raw(headers, body, method, path)
        return status, answer["__type"]

    def headers(self, body=b"{}", **more):
        return sign({**self.lab.credentials, **more}, HOST, "ListKeys", body)

    def test_a_good_signature(self):
        status, headers, _ = self.lab.raw(self.headers(), b"{}")
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "application/x-amz-json-1.1")
        self.assertRegex(headers["x-amzn-RequestId"], "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

    def test_refusals_by_name(self):
        unsigned = self.headers()
        del unsigned["authorization"]
        changed = self.headers() | {"x-amz-target": "TrentService.ListAliases"}
        more = self.headers() | {"x-amz-other": "x"}
        rows = [
            (unsigned, b"{}", "MissingAuthenticationTokenException"),
            (self.headers() | {"authorization": "Bearer x"}, b"{}", "IncompleteSignatureException"),
            (self.headers(), b"{ }", "InvalidSignatureException"),
            (changed, b"{}", "InvalidSignatureException"),
            (more, b"{}", "InvalidSignatureException"),
            (self.headers(SecretAccessKey="x"), b"{}", "InvalidSignatureException"),
            (self.headers(AccessKeyId="AKIAAAAAAAAAAAAAAAAA"), b"{}",
             "UnrecognizedClientException"),
            (self.headers(Token="nonsense"), b"{}", "UnrecognizedClientException"),
        ]
        for headers, body, name in rows:
            with self.subTest(name=name):
                self.assertEqual(self.error_of(headers, body), (400, name))

    def test_dates_beyond_five_minutes(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        for minutes, expected in ((-4, 200), (4, 200), (-6, 400), (6, 400)):
            at = now + datetime.timedelta(minutes=minutes)
            status, _, answer = self.lab.raw(
                sign_at(at, self.lab.credentials, "ListKeys", b"{}"), b"{}")
            self.assertEqual(status, expected)
            if expected == 400:
                self.assertEqual(answer["__type"], "InvalidSignatureException")
                self.assertRegex(answer["message"], "expired" if minutes < 0 else "not yet current")

    def test_session_credentials_expire(self):
        session = self.lab.principal(SESSION, session_seconds=1)
        self.assertEqual(set(session), {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"})
        self.lab.ok("ListKeys", {}, session)
        without = {k: v for k, v in session.items() if k != "Token"}
        self.assert_error("UnrecognizedClientException", "ListKeys", {}, without)
        time.sleep(1.1)
        self.assert_error("ExpiredTokenException", "ListKeys", {}, session)

    def test_curl_signs_as_we_verify(self):
        def curl(operation, body, user):
            done = subprocess.run(
                ["curl", "-s", "-w", "\n%{http_code}", "--cacert", self.lab.kms_dir / "ca.pem",
                 "--resolve", f"{HOST}:{self.lab.port}:127.0.0.1", "--aws-sigv4",
                 "aws:amz:us-east-1:kms", "-u", user, "-H",
                 "Content-Type: application/x-amz-json-1.1", "-H",
                 f"X-Amz-Target: TrentService.{operation}", "-d", body,
                 f"https://{HOST}:{self.lab.port}/"], capture_output=True, check=True, text=True)
            text, status = done.stdout.rsplit("\n", 1)
            return int(status), json.loads(text)

        user = "{AccessKeyId}:{SecretAccessKey}".format(**self.lab.credentials)
        status, answer = curl("CreateKey", '{"Description":"by curl"}', user)
        self.assertEqual((status, answer["KeyMetadata"]["Description"]), (200, "by curl"))
        status, answer = curl("CreateKey", "{}", user + "x")
        self.assertEqual((status, answer["__type"]), (400, "InvalidSignatureException"))

    def test_what_is_not_an_operation(self):
        body = b"{}"
        unknown = sign(self.lab.credentials, HOST, "NoSuchThing", body)
        self.assertEqual(self.error_of(unknown), (400, "UnknownOperationException"))
        self.assertEqual(self.error_of(self.headers(), method="PUT"),
                         (400, "UnknownOperationException"))
        self.assertEqual(self.error_of(self.headers(), path="/x"),
                         (400, "UnknownOperationException"))
        plain = self.headers() | {"content-type": "application/json"}
        self.assertEqual(self.error_of(plain), (400, "UnknownOperationException"))
        for body in (b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff"):
            self.assertEqual(self.error_of(self.headers(body), body),
                             (400, "SerializationException"))

    def test_tls_1_1_is_refused(self):
        context = ssl.create_default_context(cafile=str(self.lab.kms_dir / "ca.pem"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", self.lab.port)) as plain:
            with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(plain, server_hostname=HOST)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(self.lab.kms_dir / "ca.pem"))
            context.minimum_version = context.maximum_version = version
            with socket.create_connection(("127.0.0.1", self.lab.port)) as plain:
                context.wrap_socket(plain, server_hostname=HOST).close()


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

    def at(self, days, operation, parameters):
        offset = days * 86_400_000
        self.lab.admin("PUT", "/clock", {"offset_ms": offset})
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
        body = json.dumps(parameters).encode()
        status, _, answer = self.lab.raw(
            sign_at(now, self.lab.credentials, operation, body), body)
        self.lab.admin("PUT", "/clock", {"offset_ms": 0})
        return status, answer

    def test_deletion_happens_when_its_day_comes(self):
        key = self.lab.key()
        self.lab.ok("ScheduleKeyDeletion", {"KeyId": key, "PendingWindowInDays": 7})
        self.assertEqual(self.at(6, "DescribeKey", {"KeyId": key})[0], 200)
        status, answer = self.at(8, "DescribeKey", {"KeyId": key})
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
        self.assertEqual(self.at(91, "DescribeKey", {"KeyId": key})[0], 200)
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

    def test_dry_runs_change_and_give_nothing(self):
        key = self.lab.key()
        self.assert_error("DryRunOperationException", "GenerateDataKey",
                          {"KeyId": key, "NumberOfBytes": 32, "DryRun": True})
        denied = self.lab.key(Policy=policy())
        self.assert_error("AccessDeniedException", "GenerateDataKey",
                          {"KeyId": denied, "NumberOfBytes": 32, "DryRun": True})

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
