"""claviger-kms: key policies, identity policies and grants, as they decide calls."""
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, PCRS, ROOT, USER, Case, b64  # noqa: E402

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

    def test_constraints_leave_operations_without_a_context_alone(self):
        arn = f"arn:aws:iam::{ACCOUNT}:user/describer"
        grantee = self.lab.principal(arn, policy={"Version": "2012-10-17", "Statement": []})
        key = self.lab.key()
        request = {"KeyId": key, "GranteePrincipal": arn,
                   "Operations": ["DescribeKey", "GenerateDataKey", "RetireGrant"],
                   "Constraints": {"EncryptionContextEquals": {"PURPOSE": "a"}}}
        grant = self.lab.ok("CreateGrant", request)
        self.assertEqual(self.lab.call("DescribeKey", {"KeyId": key}, grantee)[0], 200)
        # The names of a constraint are compared in either case, the values are not.
        for context, expected in (({"Purpose": "a"}, "ok"),
                                  ({"Purpose": "A"}, "AccessDeniedException")):
            self.assertEqual(self.attempt(key, context=context, credentials=grantee), expected)
        for by in ({"GrantId": grant["GrantId"]},
                   {"GrantId": grant["GrantId"], "GrantToken": grant["GrantToken"]}):
            self.assert_error("ValidationException", "RetireGrant", by, grantee)
        self.assert_error("NotFoundException", "RetireGrant",
                          {"GrantId": grant["GrantId"], "KeyId": self.lab.key()}, grantee)
        self.assertEqual(self.lab.call("RetireGrant", {"GrantId": grant["GrantId"], "KeyId": key},
                                       grantee)[0], 200)

    def test_constraints_that_are_none_make_no_grant(self):
        key = self.lab.key()
        request = {"KeyId": key, "GranteePrincipal": USER, "Operations": ["Decrypt"]}
        nine = {str(i): "x" for i in range(9)}
        for constraints, error in (("x", "SerializationException"), ([], "SerializationException"),
                                   ({"EncryptionContextEquals": "x"}, "SerializationException"),
                                   ({"EncryptionContextEquals": {}}, "ValidationException"),
                                   ({"EncryptionContextSubset": nine}, "ValidationException"),
                                   ({"SourceArn": "x"}, "ValidationException")):
            with self.subTest(constraints=constraints):
                self.assert_error(error, "CreateGrant", {**request, "Constraints": constraints})
        self.assertEqual(self.lab.ok("ListGrants", {"KeyId": key})["Grants"], [])

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

    def test_dry_runs_change_and_give_nothing(self):
        key = self.lab.key()
        self.assert_error("DryRunOperationException", "GenerateDataKey",
                          {"KeyId": key, "NumberOfBytes": 32, "DryRun": True})
        denied = self.lab.key(Policy=policy())
        self.assert_error("AccessDeniedException", "GenerateDataKey",
                          {"KeyId": denied, "NumberOfBytes": 32, "DryRun": True})


if __name__ == "__main__":
    unittest.main()
