"""claviger verify and inspect, end to end: input forms, verdicts, exit statuses, JSON."""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["CLAVIGER_BUILD"])
SOURCE = pathlib.Path(os.environ["CLAVIGER_SOURCE"])
VECTORS = pathlib.Path(os.environ.get("CLAVIGER_VECTORS", os.environ["CLAVIGER_VECTORS_DEFAULT"]))
CLAVIGER = BUILD / "src" / "cli" / "claviger"
OK, USAGE, INPUT, SIGNATURE, IDENTITY, TIME = 0, 2, 3, 4, 5, 6
WITH_USER_DATA = "046-signalapp-libsignal.bin"
DEBUG = "001-ppmag-aws-nitro-enclaves-attestation.bin"
AWS_ROOT = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
NITROTPM = "130-lockboot-vaportpm.bin"


def claviger(*arguments, stdin=b""):
    return subprocess.run([CLAVIGER, *map(str, arguments)], input=stdin, capture_output=True,
                          timeout=60, check=False)


def vector(name):
    return (VECTORS / "attestation" / name).read_bytes()


class Case(unittest.TestCase):
    def refuses(self, status, code, *arguments, stdin=b""):
        done = claviger(*arguments, stdin=stdin)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(f"({code})\n", done.stderr.decode())
        self.assertEqual(done.stderr.count(b"\n"), 1, "one line of error")


class CommandLine(Case):
    def test_names_what_is_wrong_with_a_command_line(self):
        for arguments in ([], ["frobnicate"], ["verify"], ["verify", "a", "b"],
                          ["verify", "--colour", "a"], ["verify", "-", "--at"],
                          ["verify", "-", "--at", "yesterday"], ["verify", "-", "--pcr", "0"],
                          ["verify", "-", "--pcr", "32=00"], ["verify", "-", "--pcr", "0=00"],
                          ["verify", "-", "--root-sha256", "zz"], ["verify", "-", "--nonce", "0"],
                          ["verify", "-", "--nonce", "00", "--nonce", "00"],
                          ["verify", "-", "--max-age", "-1"], ["inspect", "--at", "now", "-"]):
            with self.subTest(arguments):
                self.refuses(USAGE, "usage", *arguments)

    def test_help_lists_every_command_and_option(self):
        text = claviger("--help").stdout.decode()
        for command in ("verify", "inspect"):
            self.assertIn(command, text)
            done = claviger(command, "--help")
            self.assertEqual(done.returncode, OK)
            self.assertIn("--json", done.stdout.decode())
        page = (SOURCE / "docs" / "verify.md").read_text()
        for line in claviger("verify", "--help").stdout.decode().splitlines():
            option = line.strip().split(" ")[0]
            if option.startswith("--") and option != "--help":
                self.assertIn(option, page, "documented")

    def test_version(self):
        self.assertRegex(claviger("--version").stdout.decode(), r"^claviger \d+\.\d+\.\d+\n$")

    def test_exit_codes_page_is_up_to_date(self):
        done = subprocess.run([SOURCE / "tools" / "exit-codes", "--check"], capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_refuses_what_is_no_document(self):
        self.refuses(INPUT, "att-size", "verify", "-")
        self.refuses(INPUT, "att-cose-shape", "verify", "-", stdin=b"\x00")
        self.refuses(INPUT, "bad-encoding", "verify", "-", stdin=b"not base64!")
        self.refuses(INPUT, "bad-encoding", "verify", "-", stdin=b"abc")
        self.refuses(INPUT, "too-large", "verify", "-", stdin=b"A" * 100000)
        self.refuses(INPUT, "att-size", "verify", "-", stdin=b"\x84" + b"\xff" * 17000)


@unittest.skipUnless(VECTORS.is_dir(), "the vectors are not here")
class RealDocuments(Case):
    def setUp(self):
        self.file = VECTORS / "attestation" / WITH_USER_DATA
        self.raw = vector(WITH_USER_DATA)

    def test_takes_every_input_form_from_file_and_stdin(self):
        text = base64.b64encode(self.raw)
        wrapped = b"\n".join(text[i:i + 64] for i in range(0, len(text), 64)) + b"\r\n"
        forms = {"raw": self.raw, "hex": self.raw.hex().encode() + b"\n",
                 "upper-case hex": self.raw.hex().upper().encode(),
                 "spaced hex": self.raw.hex(" ").encode(), "base64": text,
                 "wrapped base64": wrapped, "url-safe": base64.urlsafe_b64encode(self.raw),
                 "unpadded": base64.urlsafe_b64encode(self.raw).rstrip(b"=")}
        for name, form in forms.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as directory:
                path = pathlib.Path(directory) / "document"
                path.write_bytes(form)
                for done in (claviger("verify", "--at", "doc", path),
                             claviger("verify", "-", "--at", "doc", stdin=form),
                             claviger("inspect", "-", stdin=form)):
                    self.assertEqual(done.returncode, OK, done.stderr)
                    self.assertIn(b"i-0797243b0383cd168-enc018cffeb5776ccea", done.stdout)

    def test_every_document_verifies_at_its_own_time_and_none_now(self):
        files = sorted((VECTORS / "attestation").glob("*.bin"))
        self.assertGreater(len(files), 0)
        for file in files:
            with self.subTest(file.name):
                kind = ["--nitrotpm"] if b"nitrotpm_pcrs" in file.read_bytes() else []
                done = claviger("verify", file, "--at", "doc", "--json", *kind)
                self.assertEqual(done.returncode, OK, done.stderr)
                self.assertEqual(json.loads(done.stdout)["verdict"], "genuine")
                self.refuses(TIME, "att-cert-expired", "verify", file, *kind)

    def test_each_bad_document_has_its_own_reason(self):
        reasons = {"N01": (SIGNATURE, "att-signature"), "N03": (INPUT, "att-cbor"),
                   "N04": (SIGNATURE, "att-cert-root"), "N05": (INPUT, "att-bundle")}
        for name, (status, code) in reasons.items():
            with self.subTest(name):
                file = next((VECTORS / "attestation-bad").glob(f"{name}-*"))
                self.refuses(status, code, "verify", file, "--at", "doc")

    def test_the_kinds_do_not_stand_in_for_each_other(self):
        tpm = VECTORS / "attestation" / NITROTPM
        self.refuses(IDENTITY, "att-kind", "verify", tpm, "--at", "doc")
        self.refuses(IDENTITY, "att-kind", "verify", self.file, "--nitrotpm", "--at", "doc")

    def test_compares_what_it_is_told_to(self):
        document = json.loads(claviger("inspect", "--json", self.file).stdout)
        pcr0, user_data = document["pcrs"]["0"], document["userData"]
        at = ["verify", self.file, "--at", "doc"]
        done = claviger(*at, "--pcr", f"0={pcr0}", "--user-data", user_data, "--json")
        self.assertEqual(done.returncode, OK, done.stderr)
        self.assertEqual(json.loads(done.stdout)["checked"],
                         ["signature", "chain", "root", "pcrs", "user_data"])
        zero = "00" * 48
        self.refuses(IDENTITY, "att-pcr-mismatch", *at, "--pcr", f"0={'11' * 48}")
        self.refuses(IDENTITY, "att-pcr-zero", *at, "--pcr", f"5={zero}")
        self.refuses(IDENTITY, "att-pcr-missing", *at, "--pcr", f"16={zero}")
        self.refuses(IDENTITY, "att-user-data", *at, "--user-data", user_data[2:])
        self.refuses(IDENTITY, "att-nonce", *at, "--nonce", "00")
        self.refuses(IDENTITY, "att-public-key", *at, "--public-key", "")
        self.refuses(SIGNATURE, "att-cert-root", *at, "--root-sha256", "00" * 32)
        self.refuses(TIME, "att-stale", *at, "--max-age", "60")

    def policy(self, directory, **attestation):
        path = pathlib.Path(directory) / "policy.json"
        path.write_text(json.dumps({
            "version": 1, "enclave": "test",
            "attestation": {"root_sha256": AWS_ROOT, "pcrs": {"8": "11" * 48}, **attestation},
            "kms": {"region": "us-east-1", "endpoint": "https://kms.us-east-1.amazonaws.com",
                    "ca_file": "/etc/claviger/roots.pem"},
            "keys": {"state": {
                "key_id": "arn:aws:kms:us-east-1:123456789012:key/"
                          "1234abcd-12ab-34cd-56ef-1234567890ab",
                "operations": ["Decrypt"], "encryption_context": {}}},
            "agents": [{"uid": 1000, "may": ["unseal:state"]}]}))
        return path

    def test_a_policy_is_demanded_whole(self):
        with tempfile.TemporaryDirectory() as directory:
            at = ["verify", "--at", "doc", "--policy"]
            # No genuine document of the vectors has a policy measured into PCR16.
            self.refuses(IDENTITY, "att-pcr-missing", *at, self.policy(directory), self.file)
            self.refuses(IDENTITY, "att-debug", *at, self.policy(directory),
                         VECTORS / "attestation" / DEBUG)
            other = self.policy(directory, root_sha256="11" * 32)
            self.refuses(SIGNATURE, "att-cert-root", *at, other, self.file)
            other.write_text("{}")
            self.assertEqual(claviger(*at, other, self.file).returncode, INPUT)
            self.refuses(USAGE, "usage", *at, other, "--root-sha256", AWS_ROOT, self.file)
            self.refuses(USAGE, "usage", "verify", "--baseline", other, self.file)

    def test_a_member_can_be_compared_with_a_file(self):
        document = json.loads(claviger("inspect", "--json", self.file).stdout)
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes.fromhex(document["userData"]))
            file.flush()
            done = claviger("verify", self.file, "--at", "doc", "--user-data", f"@{file.name}")
            self.assertEqual(done.returncode, OK, done.stderr)

    def test_calls_out_debug_mode(self):
        file = VECTORS / "attestation" / DEBUG
        for command in (["verify", "--at", "doc"], ["inspect"]):
            done = claviger(*command, file)
            self.assertEqual(done.returncode, OK, done.stderr)
            self.assertIn(b"DEBUG MODE", done.stdout)
        self.refuses(IDENTITY, "att-debug", "verify", file, "--at", "doc", "--forbid-debug")

    def test_takes_a_time(self):
        verify = ["verify", self.file, "--at"]
        self.assertEqual(claviger(*verify, "2024-01-16T20:44:55Z").returncode, OK)
        self.refuses(TIME, "att-cert-expired", *verify, "2024-01-16T20:44:56Z")
        self.refuses(TIME, "att-cert-not-yet", *verify, "2024-01-16T17:44:51Z")

    def test_a_refusal_is_json_too(self):
        done = claviger("verify", "--json", self.file)
        verdict = json.loads(done.stdout)
        self.assertEqual(verdict["verdict"], "refused")
        self.assertEqual(verdict["code"], "att-cert-expired")
        self.assertEqual(verdict["exit"], done.returncode)
        self.assertIn("--at doc", verdict["message"])

    def test_inspect_shows_the_whole_document(self):
        document = json.loads(claviger("inspect", "--json", self.file).stdout)
        self.assertIs(document["verified"], False)
        self.assertEqual(document["form"], "raw")
        self.assertEqual(len(document["pcrs"]), 16)
        self.assertEqual(len(document["chain"]), 5)
        self.assertEqual(document["chain"][0]["notAfter"], "2049-10-28T14:28:05Z")
        self.assertEqual([c.get("pathLength") for c in document["chain"]], [None, 2, 1, 0, None])
        self.assertEqual(document["timestampMs"], 1705431295996)
        text = claviger("inspect", self.file).stdout.decode()
        self.assertTrue(text.startswith("NOT VERIFIED"))
        self.assertIn(document["pcrs"]["0"], text)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    if result.wasSuccessful() and not VECTORS.is_dir():
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)
