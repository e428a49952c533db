"""claviger policy, baseline and measure, end to end; user_data recomputed by other code."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zlib

BUILD = pathlib.Path(os.environ["CLAVIGER_BUILD"])
SOURCE = pathlib.Path(os.environ["CLAVIGER_SOURCE"])
VECTORS = pathlib.Path(os.environ.get("CLAVIGER_VECTORS", os.environ["CLAVIGER_VECTORS_DEFAULT"]))
CLAVIGER = BUILD / "src" / "cli" / "claviger"
OK, USAGE, INPUT, SIGNATURE, IDENTITY, TIME, REFUSED = 0, 2, 3, 4, 5, 6, 7
AWS_ROOT = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
ARN = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
RELEASE_KEY = base64.b64encode(b"Ed12345678" + bytes(32)).decode()
# The DER SubjectPublicKeyInfo of the base point of P-256.
PEER = ("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/"
        "m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==")
PCRS = {str(i): hashlib.sha384(b"%d" % i).hexdigest() for i in (0, 1, 2, 8)}


def policy(**more):
    text = {
        "version": 1, "enclave": "agent-runtime",
        "attestation": {"root_sha256": AWS_ROOT, "pcrs": {"8": PCRS["8"]},
                        "release_keys": [RELEASE_KEY]},
        "kms": {"region": "us-east-1", "endpoint": "https://kms.us-east-1.amazonaws.com",
                "ca_file": "/etc/claviger/roots.pem"},
        "keys": {"agent-state": {
            "key_id": ARN, "operations": ["GenerateDataKey", "Decrypt"],
            "encryption_context": {"Purpose": "AgentSecrets", "enclave": "${enclave}",
                                   "signer": "${pcr8}", "all": "${pcrs}", "p": "${policy}"}}},
        "agents": [{"uid": 1000, "may": ["seal:agent-state", "derive:agent-state/wallet/*"]}],
    }
    text.update(more)
    return text


def witnessed(text, **witness):
    """The same with a freshness witness under a key of its own: nothing is left to warn of."""
    fleet = {"key_id": ARN.replace("1234abcd", "ffffffff") if "us-east-1" in text["kms"]["region"]
             else text["keys"]["agent-state"]["key_id"],
             "operations": ["GenerateDataKey", "Decrypt"],
             "encryption_context": {"Purpose": "Fleet"}}
    return {**text, "keys": {**text["keys"], "fleet": fleet},
            "witness": {"mode": "receipts", "key": "fleet", **witness}}


# -- deterministic CBOR (RFC 8949 section 4.2.1), written from the RFC and docs/operation.cddl alone --

def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for extra, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | extra]) + n.to_bytes(size, "big")
    raise ValueError(n)


def cbor(value):
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return head(3, len(text)) + text
    pairs = sorted((cbor(k), cbor(v)) for k, v in value.items())
    return head(5, len(pairs)) + b"".join(k + v for k, v in pairs)


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-cli-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def claviger(self, *arguments, stdin=b"", status=OK):
        done = subprocess.run([CLAVIGER, *map(str, arguments)], input=stdin, capture_output=True,
                              timeout=60, check=False, cwd=self.dir)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return done.stdout.decode()

    def refuses(self, status, code, *arguments, stdin=b""):
        done = subprocess.run([CLAVIGER, *map(str, arguments)], input=stdin, capture_output=True,
                              timeout=60, check=False, cwd=self.dir)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        self.assertIn(f"({code})\n", done.stderr.decode())
        self.assertEqual(done.stderr.count(b"\n"), 1, "one line of error")
        return done.stderr.decode()

    def write(self, name, value):
        path = self.dir / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path


class Hash(Case):
    def test_is_what_the_file_leaves_in_register_16(self):
        path = self.write("p.json", policy())
        digest = hashlib.sha384(path.read_bytes()).digest()
        expected = hashlib.sha384(bytes(48) + digest).hexdigest()
        self.assertEqual(self.claviger("policy", "hash", path), expected + "\n")


class Lint(Case):
    def warnings(self, text):
        path = self.write("p.json", text)
        return {w["warning"]
                for w in json.loads(self.claviger("policy", "lint", "--json", path))["warnings"]}

    def test_says_in_words_what_the_file_allows(self):
        text = self.claviger("policy", "lint", self.write("p.json", witnessed(policy())))
        for words in ("receipts that the callers keep", "agent-runtime", "AWS Nitro Enclaves G1", "1 release key", ARN,
                      "GenerateDataKey, Decrypt", "Purpose = AgentSecrets",
                      "uid 1000 may seal:agent-state", "kms.us-east-1.amazonaws.com"):
            self.assertIn(words, text)
        self.assertNotIn("warning", text)

    def test_warns_of_each_weakness_and_of_nothing_else(self):
        def with_key(**more):
            return policy(keys={"agent-state": {**policy()["keys"]["agent-state"], **more}})

        def with_attestation(**more):
            return policy(attestation={**policy()["attestation"], **more})

        key = policy()["keys"]["agent-state"]
        cases = {
            "no-image-pin": with_attestation(release_keys=[]),
            "debug-allowed": with_attestation(allow_debug=True),
            "other-root": with_attestation(root_sha256="00" * 32),
            "slow-documents": with_attestation(max_age_s=300),
            "other-endpoint": policy(kms={**policy()["kms"], "endpoint": "https://kms.example"}),
            "no-context": with_key(encryption_context={}),
            "pcr0-alone": with_key(encryption_context={"image": "${pcr0}"}),
            "cache-on": with_key(cache={"max_age_s": 60, "max_messages": 10, "max_bytes": 1000}),
            "no-peer": with_key(operations=["DeriveSharedSecret"]),
            "two-usages": with_key(operations=["Decrypt", "DeriveSharedSecret"],
                                   peer_public_key=PEER),
            "same-key": policy(keys={"agent-state": key, "again": key}),
            "wildcard": policy(agents=[{"uid": 1000, "may": ["derive:agent-state"]}]),
            "whole-group": policy(agents=[{"gid": 4, "may": ["seal:agent-state"]}]),
            "root-agent": policy(agents=[{"uid": 0, "may": ["seal:agent-state"]}]),
            "no-agents": policy(agents=[]),
        }
        page = (SOURCE / "docs" / "policy.md").read_text()
        cluster = {"mode": "etcd", "ca_file": "/etc/w.pem", "prefix": "p/"}
        cases = {name: witnessed(text) for name, text in cases.items()}
        cases["no-witness"] = policy()
        cases["witness-key"] = witnessed(policy(), key="agent-state")
        cases["witness-few"] = witnessed(policy(), **cluster, endpoints=["https://w1:2379"])
        for warning, text in cases.items():
            with self.subTest(warning):
                self.assertEqual(self.warnings(text), {warning})
                self.assertTrue(f"| `{warning}` |" in page, "documented")
        self.assertEqual(self.warnings(witnessed(policy())), set())
        several = [f"https://w{i}:2379" for i in range(3)]
        self.assertEqual(self.warnings(witnessed(policy(), **cluster, endpoints=several)), set())

    def test_says_which_older_contexts_may_still_be_opened(self):
        key = {**policy()["keys"]["agent-state"],
               "predecessors": [{"Purpose": "Old", "enclave": "older"}, {}]}
        text = self.claviger("policy", "lint", self.write("p.json", policy(keys={
            "agent-state": key})))
        for words in ("also opening, never sealing, what has Purpose = Old", "and enclave = older",
                      "also opening, never sealing, what has nothing"):
            self.assertIn(words, text)

    def test_every_name_of_kms_for_the_region_is_without_a_warning(self):
        arn = "arn:{}:kms:{}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        usual = self.warnings(policy())
        for partition, region, host in (
                ("aws", "us-east-1", "kms-fips.us-east-1.amazonaws.com"),
                ("aws", "us-east-1", "kms.us-east-1.api.aws"),
                ("aws", "us-east-1", "vpce-0a1b-2c3d.kms.us-east-1.vpce.amazonaws.com"),
                ("aws-us-gov", "us-gov-west-1", "kms-fips.us-gov-west-1.amazonaws.com"),
                ("aws-cn", "cn-north-1", "kms.cn-north-1.amazonaws.com.cn"),
                ("aws-eusc", "eusc-de-east-1", "kms.eusc-de-east-1.amazonaws.eu")):
            text = policy(kms={"region": region, "endpoint": f"https://{host}", "ca_file": "/ca"})
            text["keys"]["agent-state"]["key_id"] = arn.format(partition, region)
            self.assertEqual(self.warnings(text), usual, host)
            text["kms"]["endpoint"] = f"https://{host}.example"
            self.assertEqual(self.warnings(text), usual | {"other-endpoint"}, host)

    def test_strict_fails_on_a_warning(self):
        self.claviger("policy", "lint", "--strict", self.write("p.json", witnessed(policy())))
        self.refuses(REFUSED, "policy-weak", "policy", "lint", "--strict",
                     self.write("q.json", witnessed(policy(agents=[]))))

    def test_names_the_member_that_is_wrong(self):
        bad = policy()
        bad["keys"]["agent-state"]["key_id"] = "alias/agent"
        self.assertIn("keys.agent-state.key_id",
                      self.refuses(INPUT, "policy-format", "policy", "lint",
                                   self.write("p.json", bad)))

    def test_the_examples_are_without_a_warning(self):
        """But for the witness, which most of them leave to their reader."""
        for path in sorted((SOURCE / "examples" / "policies").glob("*.json")):
            with self.subTest(path.name):
                found = json.loads(self.claviger("policy", "lint", "--json", path))["warnings"]
                self.assertEqual({w["warning"] for w in found},
                                 set() if path.name == "witnessed.json" else {"no-witness"})

    def test_the_table_has_a_row_for_each_capability(self):
        rows = self.claviger("policy", "table", self.write("p.json", policy())).splitlines()
        self.assertEqual([row.split() for row in rows[1:]],
                         [["uid", "1000", "seal", "agent-state", "*"],
                          ["uid", "1000", "derive", "agent-state", "wallet/*"]])


class Resolve(Case):
    def resolve(self, *arguments, stdin=b"", text=None):
        path = self.write("p.json", text or policy())
        pcrs = self.write("pcrs.json", PCRS)
        return path, json.loads(self.claviger("policy", "resolve", path, "--json", "--pcrs", pcrs,
                                              *arguments, stdin=stdin))

    def context(self, path):
        pcr16 = hashlib.sha384(bytes(48) + hashlib.sha384(path.read_bytes()).digest()).hexdigest()
        named = cbor({int(i): bytes.fromhex(PCRS[i]) for i in ("0", "1", "2", "8")})
        return {"Purpose": "AgentSecrets", "enclave": "agent-runtime", "signer": PCRS["8"],
                "all": hashlib.sha384(named).hexdigest(), "p": pcr16}

    def test_user_data_is_recomputed_from_a_request_by_other_code(self):
        request = json.dumps({"keyId": ARN, "encryptionContext": {"Purpose": "AgentSecrets"}})
        path, answer = self.resolve("--request", "-", stdin=request.encode())
        context = self.context(path)
        self.assertEqual(answer["context"], context)
        encoding = cbor({"schema": "claviger/operation/1", "action": "GenerateDataKey",
                         "key_id": ARN, "context": context, "number_of_bytes": 32})
        self.assertEqual(answer["encoding"], encoding.hex())
        self.assertEqual(answer["user_data"], hashlib.sha384(encoding).hexdigest())

    def test_user_data_of_a_decrypt_is_recomputed_by_other_code(self):
        for blob in (b"\x01", bytes(range(256)), b"x" * 6144):
            self.write("blob", "")
            (self.dir / "blob").write_bytes(blob)
            path, answer = self.resolve("--key", "agent-state", "--ciphertext", "@blob")
            encoding = cbor({"schema": "claviger/operation/1", "action": "Decrypt", "key_id": ARN,
                             "context": self.context(path), "ciphertext": blob})
            self.assertEqual(answer["encoding"], encoding.hex())
            self.assertEqual(answer["user_data"], hashlib.sha384(encoding).hexdigest())

    def test_user_data_of_pairs_and_random_bytes_is_recomputed_by_other_code(self):
        text = policy()
        text["keys"]["agent-state"]["operations"] += ["GenerateDataKeyPair", "GenerateRandom"]
        path, answer = self.resolve("--key", "agent-state", "--pair", "ECC_NIST_P384", text=text)
        encoding = cbor({"schema": "claviger/operation/1", "action": "GenerateDataKeyPair",
                         "key_id": ARN, "context": self.context(path),
                         "key_pair_spec": "ECC_NIST_P384"})
        self.assertEqual(answer["user_data"], hashlib.sha384(encoding).hexdigest())
        _, answer = self.resolve("--key", "agent-state", "--random", 1024, text=text)
        encoding = cbor({"schema": "claviger/operation/1", "action": "GenerateRandom",
                         "number_of_bytes": 1024})
        self.assertEqual(answer["user_data"], hashlib.sha384(encoding).hexdigest())
        self.assertIsNone(answer["key_id"])
        path, pcrs = self.write("p.json", policy()), self.write("pcrs.json", PCRS)
        for option in (("--pair", "ECC_NIST_P384"), ("--random", 1)):
            self.refuses(REFUSED, "policy-operation", "policy", "resolve", path, "--pcrs", pcrs,
                         "--key", "agent-state", *option)
        self.refuses(INPUT, "operation-invalid", "policy", "resolve", self.write("p.json", text),
                     "--pcrs", pcrs, "--key", "agent-state", "--pair", "ecc nist")

    def test_user_data_of_a_key_agreement_is_recomputed_by_other_code(self):
        peer = base64.b64decode(PEER)
        keys = {"wallet": {"key_id": ARN, "operations": ["DeriveSharedSecret"],
                           "encryption_context": {"signer": "${pcr8}"}, "peer_public_key": PEER}}
        _, answer = self.resolve("--key", "wallet", text=policy(keys=keys, agents=[]))
        encoding = cbor({"schema": "claviger/operation/1", "action": "DeriveSharedSecret",
                         "key_id": ARN, "public_key": peer})
        self.assertEqual((answer["encoding"], answer["context"]), (encoding.hex(), {}))
        self.assertEqual(answer["user_data"], hashlib.sha384(encoding).hexdigest())
        self.refuses(REFUSED, "policy-operation", "policy", "resolve",
                     self.write("p.json", policy()), "--key", "agent-state")

    def test_sizes_around_each_length_of_a_cbor_head(self):
        for size in (1, 23, 24, 255, 256, 1024):
            path, answer = self.resolve("--key", "agent-state", "--bytes", size)
            encoding = cbor({"schema": "claviger/operation/1", "action": "GenerateDataKey",
                             "key_id": ARN, "context": self.context(path),
                             "number_of_bytes": size})
            self.assertEqual(answer["encoding"], encoding.hex())

    def test_context_names_of_every_length_are_in_the_order_of_the_rfc(self):
        context = {"b": "1", "aa": "2", "B": "", "a" * 23: "3", "a" * 24: "4", "é": "5",
                   "zz": "6" * 255, "c" * 255: "7", "d" * 256: "8"}
        text = policy()
        text["keys"]["agent-state"]["encryption_context"] = context
        _, answer = self.resolve("--key", "agent-state", "--bytes", 32, text=text)
        encoding = cbor({"schema": "claviger/operation/1", "action": "GenerateDataKey",
                         "key_id": ARN, "context": context, "number_of_bytes": 32})
        self.assertEqual(answer["encoding"], encoding.hex())

    def test_refuses_what_the_policy_refuses(self):
        path, pcrs = self.write("p.json", policy()), self.write("pcrs.json", PCRS)
        for code, request in (
                ("policy-no-key", {"keyId": ARN[:-1] + "c"}),
                ("policy-context", {"keyId": ARN, "encryptionContext": {"Purpose": "Other"}}),
                ("policy-context", {"keyId": ARN, "encryptionContext": {"More": ""}})):
            self.refuses(REFUSED, code, "policy", "resolve", path, "--pcrs", pcrs, "--request", "-",
                         stdin=json.dumps(request).encode())
        self.refuses(IDENTITY, "att-pcr-missing", "policy", "resolve", path, "--key",
                     "agent-state", "--bytes", 32)

    def test_names_what_is_wrong_with_a_command_line(self):
        path = self.write("p.json", policy())
        for arguments in (["resolve", path], ["frobnicate", path], ["lint"], ["hash", path, path],
                          ["resolve", path, "--key", "agent-state", "--bytes", "1",
                           "--ciphertext", "00"],
                          ["resolve", path, "--key", "agent-state", "--bytes", "0"],
                          ["resolve", path, "--key", "agent-state", "--bytes", "1025"],
                          ["resolve", path, "--request", "-", "--key", "agent-state", "--bytes",
                           "1"]):
            with self.subTest(arguments):
                self.refuses(USAGE, "usage", "policy", *arguments)


class Baseline(Case):
    def add(self, name, pcrs, **more):
        return self.claviger("baseline", "add", "b.json", self.write("m.json", pcrs), "--name",
                             name, **more)

    def need_minisign(self):
        if shutil.which("minisign") is None:
            self.skipTest("minisign is not installed")

    def keygen(self, name):
        self.need_minisign()
        subprocess.run(["minisign", "-G", "-W", "-p", f"{name}.pub", "-s", f"{name}.key"],
                       cwd=self.dir, check=True, capture_output=True)
        return (self.dir / f"{name}.pub").read_text().splitlines()[1]

    def test_accepts_every_form_that_nitro_cli_prints(self):
        forms = sorted((VECTORS / "measurements").glob("*.json"))
        forms += sorted((VECTORS / "eif").glob("*.json"))
        if not forms:
            self.skipTest("the vectors are absent")
        for i, path in enumerate(forms):
            self.claviger("baseline", "add", "b.json", path, "--name", i)
        releases = json.loads((self.dir / "b.json").read_text())["releases"]
        for path, release in zip(forms, releases):
            said = json.loads(path.read_text())["Measurements"]
            said.pop("HashAlgorithm")
            self.assertEqual({f"PCR{i}": v for i, v in release["pcrs"].items()}, said, path.name)

    def test_refuses_what_would_never_match_and_leaves_the_file_alone(self):
        self.add("1.0", PCRS)
        before = (self.dir / "b.json").read_bytes()
        for code, pcrs in (("baseline-format", {**PCRS, "0": "00" * 48}),
                           ("baseline-format", {"PCR0": PCRS["0"]}),
                           ("bad-encoding", {**PCRS, "1": "0"}), ("json-missing", {"a": 1}),
                           ("json-type", {**PCRS, "2": 2})):
            self.refuses(INPUT, code, "baseline", "add", "b.json", self.write("m.json", pcrs),
                         "--name", "2.0")
        self.refuses(INPUT, "baseline-format", "baseline", "add", "b.json",
                     self.write("m.json", PCRS), "--name", "1.0")
        self.refuses(INPUT, "baseline-format", "baseline", "revoke", "b.json", "--name", "9.9")
        self.assertEqual((self.dir / "b.json").read_bytes(), before)

    def test_what_we_sign_minisign_checks_and_the_other_way_round(self):
        key = self.keygen("a")
        self.add("1.0", PCRS)
        self.claviger("baseline", "sign", "b.json", "--secret-key", "a.key")
        subprocess.run(["minisign", "-V", "-p", "a.pub", "-m", "b.json"], cwd=self.dir, check=True,
                       capture_output=True)
        self.assertIn("this is      1.0", self.claviger("baseline", "check", "b.json", "--key", key,
                                                        "--pcrs", "m.json"))
        for legacy in ([], ["-l"]):
            subprocess.run(["minisign", "-S", *legacy, "-s", "a.key", "-m", "b.json"],
                           cwd=self.dir, check=True, capture_output=True)
            self.claviger("baseline", "check", "b.json", "--key", key)

    def test_keys_rotate_and_releases_are_revoked(self):
        old, new, stranger = self.keygen("old"), self.keygen("new"), self.keygen("stranger")
        self.add("1.0", PCRS)
        self.add("1.1", {**PCRS, "0": "11" * 48})
        self.claviger("baseline", "revoke", "b.json", "--name", "1.0")
        self.write("m.json", PCRS)
        for signer in ("old", "new"):
            self.claviger("baseline", "sign", "b.json", "--secret-key", f"{signer}.key")
            self.claviger("baseline", "check", "b.json", "--key", old, "--key", new)
        self.refuses(IDENTITY, "baseline-revoked", "baseline", "check", "b.json", "--key", new,
                     "--pcrs", "m.json")
        self.refuses(IDENTITY, "baseline-no-match", "baseline", "check", "b.json", "--key", new,
                     "--pcrs", self.write("other.json", {**PCRS, "1": "22" * 48}))
        self.refuses(SIGNATURE, "baseline-key", "baseline", "check", "b.json", "--key", stranger)
        text = (self.dir / "b.json").read_text()
        self.write("b.json", text.replace("1.1", "1.2"))
        self.refuses(SIGNATURE, "baseline-signature", "baseline", "check", "b.json", "--key", new)

    def test_a_baseline_expires(self):
        key = self.keygen("a")
        self.add("1.0", PCRS)
        for at, status in (("2999-01-31T00:00:00Z", OK), ("2020-01-31T00:00:00Z", TIME)):
            self.claviger("baseline", "expire", "b.json", "--at", at)
            self.claviger("baseline", "sign", "b.json", "--secret-key", "a.key")
            self.assertIn(at, self.claviger("baseline", "check", "b.json", "--key", key))
            arguments = ("baseline", "check", "b.json", "--key", key, "--pcrs", "m.json")
            if status == OK:
                self.claviger(*arguments)
            else:
                self.refuses(status, "baseline-expired", *arguments)
        self.claviger("baseline", "expire", "b.json", "--at", "1769817600")
        self.assertEqual(json.loads((self.dir / "b.json").read_text())["expires"],
                         "2026-01-31T00:00:00Z")
        self.refuses(USAGE, "usage", "baseline", "expire", "b.json", "--at", "soon")
        self.refuses(USAGE, "usage", "baseline", "expire", "b.json")

    def test_checks_with_the_keys_of_a_policy(self):
        key = self.keygen("a")
        self.add("1.0", PCRS)
        self.claviger("baseline", "sign", "b.json", "--secret-key", "a.key", "--signature", "s")
        path = self.write("p.json", policy(attestation={"root_sha256": AWS_ROOT,
                                                        "release_keys": [key]}))
        self.claviger("baseline", "check", "b.json", "--policy", path, "--signature", "s")

    def test_refuses_a_secret_key_that_is_none(self):
        self.add("1.0", PCRS)
        for text in ("", "one line", "comment\nnot base64!\n",
                     "comment\n" + base64.b64encode(bytes(158)).decode() + "\n"):
            self.refuses(INPUT, "release-secret-key", "baseline", "sign", "b.json", "--secret-key",
                         self.write("k", text))
        self.assertFalse((self.dir / "b.json.minisig").exists())


class Measure(Case):
    def images(self):
        images = sorted((VECTORS / "eif").glob("*.eif"))
        if not images:
            self.skipTest("the vectors are absent")
        return images

    def test_gives_the_registers_that_the_build_gave(self):
        for image in self.images():
            said = json.loads(image.with_suffix(".build.json").read_text())["Measurements"]
            found = json.loads(self.claviger("measure", image))["Measurements"]
            said.pop("HashAlgorithm")
            found.pop("HashAlgorithm")
            self.assertEqual(found, said, image.name)

    def test_refuses_an_image_with_any_header_byte_changed(self):
        image = bytearray(self.images()[0].read_bytes())
        path = self.dir / "i.eif"
        for at in (0, 4, 5, 24, 25, 30, 35, 0x11c + 7, 0x220, 0x223, 548, 549, 552, 559, 600):
            image[at] ^= 1
            path.write_bytes(image)
            with self.subTest(at):
                self.refuses(INPUT, "eif-format", "measure", path)
            image[at] ^= 1

    def test_refuses_an_image_cut_or_with_something_behind_it(self):
        image = self.images()[0].read_bytes()
        path = self.dir / "i.eif"
        for content in (image[:-1], image + b"\0", image[:548], image[:100], b"\0"):
            path.write_bytes(content)
            self.refuses(INPUT, "eif-format", "measure", path)

    def test_refuses_a_signature_over_another_image(self):
        signed = next(i for i in self.images() if "signed" in i.name).read_bytes()
        changed = bytearray(signed)
        changed[600] ^= 1  # a byte of the kernel, under a CRC that holds
        changed[544:548] = zlib.crc32(changed[548:], zlib.crc32(changed[:544])).to_bytes(4, "big")
        path = self.dir / "i.eif"
        path.write_bytes(changed)
        self.refuses(INPUT, "eif-format", "measure", path)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
