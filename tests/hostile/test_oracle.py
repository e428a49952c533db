"""The harness's own verdicts: each of them is made to say no. Requests outside the policy, secrets in
what the parent saw, a dead daemon and one that does not serve must all be noticed."""
import base64
import unittest

from identity import recipient
from stage import CANARY, RESULT, Stage, message


class Oracle(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.stage = Stage()
        try:
            cls.stage.start()
            members, cls.evidence = cls.stage.ask_setup(cls.stage.request())
            cls.blob = members["ciphertextBlob"]
            cls.context = members["encryptionContext"]
            cls.stage.check()
        except BaseException:
            cls.stage.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stage.close()

    def tearDown(self) -> None:
        self.stage.honest()
        self.stage.audit()

    # -- KMS's record ---------------------------------------------------------------------------

    def noticed(self, what: str, operation: str, **change) -> None:
        """A request to KMS that is the enclave's but for one thing is found in the record."""
        parameters = {"KeyId": self.stage.keys["agent-state"], "EncryptionContext": self.context,
                      "Recipient": recipient(self.evidence), **change}
        self.stage.kms(operation, {k: v for k, v in parameters.items() if v is not None})
        with self.assertRaisesRegex(AssertionError, rf"outside the policy \({what}\)"):
            self.stage.check_audit()

    def test_what_the_enclave_itself_asks_is_inside_the_policy(self) -> None:
        self.stage.kms("GenerateDataKey", {
            "KeyId": self.stage.keys["agent-state"], "EncryptionContext": self.context,
            "Recipient": recipient(self.evidence), "NumberOfBytes": 32})
        self.stage.check_audit()

    def test_another_key_is_noticed(self) -> None:
        self.noticed("keyId", "GenerateDataKey", NumberOfBytes=32,
                     KeyId=self.stage.keys["other"])

    def test_a_bare_key_id_is_noticed(self) -> None:
        self.noticed("keyId", "GenerateDataKey", NumberOfBytes=32,
                     KeyId=self.stage.keys["agent-state"].split("/")[1])

    def test_another_context_is_noticed(self) -> None:
        self.noticed("encryptionContext", "GenerateDataKey", NumberOfBytes=32,
                     EncryptionContext={**self.context, "Purpose": "Other"})

    def test_a_pair_more_is_noticed_in_our_own_name_too(self) -> None:
        self.noticed("encryptionContext", "GenerateDataKey", NumberOfBytes=32,
                     EncryptionContext={**self.context, "claviger:other": "x"})

    def test_no_context_is_noticed(self) -> None:
        self.noticed("encryptionContext", "Decrypt", CiphertextBlob=self.blob,
                     EncryptionContext=None)

    def test_another_size_is_noticed(self) -> None:
        self.noticed("size", "GenerateDataKey", NumberOfBytes=16)

    def test_another_operation_is_noticed(self) -> None:
        self.noticed("eventName", "GenerateRandom", KeyId=None, EncryptionContext=None,
                     NumberOfBytes=32)

    def test_a_request_without_a_document_is_noticed(self) -> None:
        self.noticed("recipient", "Decrypt", CiphertextBlob=self.blob, Recipient=None)

    def test_a_request_that_kms_refused_is_noticed_too(self) -> None:
        self.noticed("keyId", "Decrypt", CiphertextBlob=base64.b64encode(b"x" * 100).decode(),
                     KeyId=self.stage.keys["other"])

    # -- secrets --------------------------------------------------------------------------------

    def leaked(self, secret: bytes) -> None:
        before = len(self.stage.seen)
        self.stage.seen += secret
        try:
            with self.assertRaisesRegex(AssertionError, "the parent saw a secret"):
                self.stage.check_secrets()
        finally:
            del self.stage.seen[before:]

    def test_a_plaintext_that_the_parent_saw_is_noticed_in_each_form(self) -> None:
        self.stage.check_secrets()
        for form in (CANARY, CANARY.hex().encode(), base64.b64encode(CANARY)):
            self.leaked(b"before " + form + b" behind")

    def test_a_data_key_that_the_parent_saw_is_noticed_in_each_form(self) -> None:
        key = self.stage.reveal(self.blob)
        self.assertEqual(len(key), 32)
        for form in (key, key.hex().encode(), base64.b64encode(key)):
            self.leaked(form)

    def test_a_data_key_of_a_sealed_state_is_noticed(self) -> None:
        self.assertGreaterEqual(len(self.stage.blobs), 2)
        for blob in self.stage.blobs:
            self.leaked(self.stage.reveal(blob))

    def test_a_plaintext_in_the_daemons_log_is_noticed(self) -> None:
        log = self.stage.running["clavigerd"].log_file
        kept = log.read_bytes()
        try:
            log.write_bytes(kept + CANARY)
            with self.assertRaisesRegex(AssertionError, "the parent saw a secret"):
                self.stage.check_secrets()
        finally:
            log.write_bytes(kept)

    def test_what_an_impostor_heard_is_noticed(self) -> None:
        self.stage.betrayed.append("the enclave said to an impostor: POST")
        with self.assertRaisesRegex(AssertionError, "impostor"):
            self.stage.check()

    # -- service --------------------------------------------------------------------------------

    def test_an_answer_that_is_not_the_agents_state_is_noticed(self) -> None:
        generation, sealed = self.stage.states["agent-state/canary"]
        self.stage.services["state.get"] = lambda call, data: message(
            RESULT, {"generation": generation}, sealed[:-1])
        with self.assertRaises(AssertionError):
            self.stage.check_honest(0.5)
        self.stage.honest()
        self.stage.check_honest()

    def test_a_daemon_that_ended_is_noticed(self) -> None:
        self.stage.running["clavigerd"].kill()
        with self.assertRaisesRegex(AssertionError, "clavigerd ended"):
            self.stage.check_alive()
        self.stage.start_nsm()
        self.stage.start_enclave()
        self.stage.check_alive()


if __name__ == "__main__":
    unittest.main(verbosity=2)
