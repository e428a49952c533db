"""The AWS CLI against claviger-kms; skipped where it is not installed."""
import json
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, Lab, b64, unb64  # noqa: E402

AWS = shutil.which("aws", path="/usr/bin") or shutil.which("aws")
CLI_FAILED = 254  # the service answered an error: AWS CLI user guide, "Return codes"


class CommandLine(unittest.TestCase):
    calls = 0

    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())
        cls.env = cls.lab.client_environment()

    def aws(self, operation, *arguments):
        type(self).calls += 1
        return subprocess.run(
            [AWS, "--endpoint-url", self.env["AWS_ENDPOINT_URL_KMS"], "--output", "json",
             "--cli-binary-format", "base64", "kms", operation, *arguments],
            capture_output=True, text=True, timeout=120, env=self.env, cwd=self.lab.dir)

    def right(self, operation, *arguments):
        done = self.aws(operation, *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def wrong(self, error, operation, *arguments):
        done = self.aws(operation, *arguments)
        name = "".join(word.capitalize() for word in operation.split("-"))
        self.assertEqual((done.returncode, done.stdout), (CLI_FAILED, ""), done.stderr)
        self.assertIn(f"An error occurred ({error}) when calling the {name} operation", done.stderr)

    def new_key(self, *arguments):
        return self.right("create-key", *arguments)["KeyMetadata"]

    def test_data_keys_and_ciphertexts(self):
        key, other = self.new_key("--description", "by the CLI"), self.new_key()
        self.assertEqual((key["Description"], key["KeyState"]), ("by the CLI", "Enabled"))
        self.assertEqual(self.right("describe-key", "--key-id", key["KeyId"])["KeyMetadata"], key)
        context = ("--encryption-context", "Purpose=AgentSecrets")
        made = self.right("generate-data-key", "--key-id", key["Arn"], "--key-spec", "AES_256",
                          *context)
        self.assertEqual(set(made), {"CiphertextBlob", "Plaintext", "KeyId"})
        blob = ("--ciphertext-blob", made["CiphertextBlob"])
        opened = self.right("decrypt", *blob, *context, "--key-id", key["Arn"])
        self.assertEqual((opened["Plaintext"], opened["KeyId"]), (made["Plaintext"], key["Arn"]))
        self.wrong("InvalidCiphertextException", "decrypt", *blob)
        self.wrong("InvalidCiphertextException", "decrypt", *blob, "--encryption-context",
                   "Purpose=Other")
        self.wrong("IncorrectKeyException", "decrypt", *blob, *context, "--key-id", other["Arn"])
        self.wrong("InvalidCiphertextException", "decrypt", "--ciphertext-blob", b64(b"nonsense"))
        self.wrong("ValidationException", "generate-data-key", "--key-id", key["Arn"])
        self.wrong("ValidationException", "generate-data-key", "--key-id", key["Arn"],
                   "--number-of-bytes", "1025")
        self.wrong("NotFoundException", "generate-data-key", "--key-id", "alias/none",
                   "--number-of-bytes", "1")
        self.wrong("NotFoundException", "describe-key", "--key-id", "nonsense")
        self.right("generate-data-key-without-plaintext", "--key-id", key["Arn"],
                   "--number-of-bytes", "8")
        pair = self.right("generate-data-key-pair", "--key-id", key["Arn"], "--key-pair-spec",
                          "ECC_NIST_P256")
        self.assertEqual(pair["KeyPairSpec"], "ECC_NIST_P256")
        self.assertEqual(len(unb64(self.right("generate-random", "--number-of-bytes", "33")
                                   ["Plaintext"])), 33)
        self.wrong("ValidationException", "generate-random", "--number-of-bytes", "1025")
        sealed = self.right("encrypt", "--key-id", key["Arn"], "--plaintext", b64(b"hello"))
        moved = self.right("re-encrypt", "--ciphertext-blob", sealed["CiphertextBlob"],
                           "--destination-key-id", other["Arn"])
        self.assertEqual(moved["SourceKeyId"], key["Arn"])
        self.right("disable-key", "--key-id", other["Arn"])
        self.wrong("DisabledException", "decrypt", "--ciphertext-blob", moved["CiphertextBlob"])
        self.right("schedule-key-deletion", "--key-id", other["Arn"], "--pending-window-in-days",
                   "7")
        self.wrong("KMSInvalidStateException", "enable-key", "--key-id", other["Arn"])
        self.right("cancel-key-deletion", "--key-id", other["Arn"])

    def test_signatures_and_macs(self):
        key = self.new_key("--key-spec", "RSA_2048", "--key-usage", "SIGN_VERIFY")
        message = ("--key-id", key["Arn"], "--message", b64(b"m"), "--signing-algorithm",
                   "RSASSA_PSS_SHA_256")
        signature = self.right("sign", *message)["Signature"]
        self.assertIs(self.right("verify", *message, "--signature", signature)["SignatureValid"],
                      True)
        self.wrong("KMSInvalidSignatureException", "verify", *message, "--signature", b64(b"x"))
        self.assertEqual(self.right("get-public-key", "--key-id", key["Arn"])["KeySpec"],
                         "RSA_2048")
        self.wrong("InvalidKeyUsageException", "encrypt", "--key-id", key["Arn"], "--plaintext",
                   b64(b"x"))
        self.wrong("ValidationException", "create-key", "--key-spec", "RSA_2048")

    def test_policies_names_and_grants(self):
        key = self.new_key()
        text = json.dumps({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": ["kms:Put*", "kms:Get*", "kms:List*", "kms:Create*", "kms:RevokeGrant",
                       "kms:TagResource"], "Resource": "*"}]})
        self.right("put-key-policy", "--key-id", key["Arn"], "--policy-name", "default", "--policy",
                   text)
        found = self.right("get-key-policy", "--key-id", key["Arn"], "--policy-name", "default")
        self.assertEqual(found["Policy"], text)
        self.wrong("AccessDeniedException", "encrypt", "--key-id", key["Arn"], "--plaintext",
                   b64(b"x"))
        self.wrong("MalformedPolicyDocumentException", "put-key-policy", "--key-id", key["Arn"],
                   "--policy-name", "default", "--policy", "{}")
        alias = ("--alias-name", "alias/cli", "--target-key-id", key["KeyId"])
        self.right("create-alias", *alias)
        self.wrong("AlreadyExistsException", "create-alias", *alias)
        self.assertEqual(self.right("list-aliases")["Aliases"][0]["AliasName"], "alias/cli")
        self.right("tag-resource", "--key-id", key["Arn"], "--tags", "TagKey=a,TagValue=b")
        self.assertEqual(self.right("list-resource-tags", "--key-id", key["Arn"])["Tags"],
                         [{"TagKey": "a", "TagValue": "b"}])
        grant = self.right("create-grant", "--key-id", key["Arn"], "--grantee-principal",
                           f"arn:aws:iam::{ACCOUNT}:role/enclave", "--operations", "Decrypt")
        self.right("revoke-grant", "--key-id", key["Arn"], "--grant-id", grant["GrantId"])
        self.wrong("NotFoundException", "revoke-grant", "--key-id", key["Arn"], "--grant-id",
                   grant["GrantId"])
        self.assertIn(key["Arn"], [k["KeyArn"] for k in
                                   self.right("list-keys", "--page-size", "2")["Keys"]])

    @classmethod
    def tearDownClass(cls):
        print(f"{cls.calls} calls by the AWS CLI")
        assert cls.calls >= 40


if __name__ == "__main__":
    if not AWS:
        print("skipped: no AWS CLI")
        sys.exit(77)
    unittest.main()
