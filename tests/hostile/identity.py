"""Attacks on who the enclave believes it is and whom it speaks for: the baseline at boot, documents
that are not this enclave's, credentials, and the replay of evidence to KMS."""
from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import time

import cms
from relay import forged, setup_is, with_member
from stage import RESULT, Failed, Refused, Stage, fault, message, nsm_exchange, program

# -- boots --------------------------------------------------------------------------------------


def boot(code: str, start_nsm=lambda stage: stage.start_nsm()):
    """Boot among what the attack has put in place: refused with this code, listening nowhere."""
    def run(stage: Stage) -> None:
        stage.running["clavigerd"].kill()
        try:
            start_nsm(stage)
            stage.start_enclave()
        except Failed as failure:
            assert f"({code})" in failure.log, f"expected {code}, found {failure.log[-300:]}"
            assert not reachable(stage), "it listens"
        else:
            raise AssertionError(f"expected {code}, found a running enclave")
        finally:
            stage.honest()
            stage.reboot()
    return run


def reachable(stage: Stage) -> bool:
    try:
        stage.api("GET", "/healthz")
    except OSError:
        return False
    return True


def service_at_boot(op: str, code: str, answer):
    """The parent answers this service call with answer(stage) during a boot."""
    def attack(stage: Stage) -> None:
        text = answer(stage)
        stage.services[op] = lambda call, data: text
        boot(code)(stage)
    return attack


def sign(stage: Stage, text: bytes, key: pathlib.Path | None = None,
         arguments: tuple[str, ...] = ()) -> tuple[bytes, str]:
    path = stage.dir / "hostile-baseline.json"
    path.write_bytes(text)
    subprocess.run(["minisign", "-S", "-s", str(key or stage.release_key), "-m", str(path), "-x",
                    f"{path}.minisig", *arguments], check=True, capture_output=True)
    return text, pathlib.Path(f"{path}.minisig").read_text()


def baseline_of(stage: Stage, **change) -> bytes:
    release = {"name": "1.0.0", "pcrs": dict(stage.pcrs)}
    release.update(change.pop("release", {}))
    return json.dumps({"version": 1, "releases": [release], "revoked": [], **change}).encode()


def given(text: bytes, signature: str) -> bytes:
    return message(RESULT, {"signature": signature}, text)


def signed(**change):
    """A baseline that the release key did sign."""
    return lambda s: given(*sign(s, baseline_of(s, **change)))


def honest_pair(stage: Stage) -> tuple[bytes, str]:
    return stage.baseline.read_bytes(), pathlib.Path(f"{stage.baseline}.minisig").read_text()


def stranger(stage: Stage) -> pathlib.Path:
    key = stage.dir / "stranger.key"
    if not key.exists():
        subprocess.run(["minisign", "-G", "-W", "-f", "-p", f"{key}.pub", "-s", str(key)],
                       check=True, capture_output=True)
    return key


def signature_with(change):
    """The honest baseline under change(lines of its signature)."""
    def answer(stage: Stage) -> bytes:
        text, signature = honest_pair(stage)
        return given(text, "\n".join(change(signature.splitlines())) + "\n")
    return answer


def line_flipped(number: int, at: int):
    def change(lines):
        raw = bytearray(base64.b64decode(lines[number]))
        raw[at] ^= 1
        lines[number] = base64.b64encode(bytes(raw)).decode()
        return lines
    return change


def replaced_line(number: int, text: str):
    def change(lines):
        lines[number] = text
        return lines
    return change


def pcr_of(value: str):
    return lambda s: given(*sign(s, baseline_of(s, release={"pcrs": {**s.pcrs, "2": value}})))


def without_pcr2(stage: Stage) -> bytes:
    pcrs = {k: v for k, v in stage.pcrs.items() if k != "2"}
    return given(*sign(stage, baseline_of(stage, release={"pcrs": pcrs})))


SIGNATURE, KEY, FORM, MATCH = ("baseline-signature", "baseline-key", "baseline-format",
                               "baseline-no-match")
BASELINES = [
    ("signed by a stranger", KEY, lambda s: given(*sign(s, baseline_of(s), stranger(s)))),
    ("one byte changed", SIGNATURE, lambda s: given(
        honest_pair(s)[0].replace(b"1.0.0", b"1.0.1"), honest_pair(s)[1])),
    ("a byte more", SIGNATURE, lambda s: given(honest_pair(s)[0] + b"\n", honest_pair(s)[1])),
    ("cut short", SIGNATURE, lambda s: given(honest_pair(s)[0][:-1], honest_pair(s)[1])),
    ("nothing under an honest signature", FORM, lambda s: given(b"", honest_pair(s)[1])),
    ("another file's signature", SIGNATURE, lambda s: given(
        honest_pair(s)[0], sign(s, b"another file")[1])),
    ("no signature", FORM, lambda s: given(honest_pair(s)[0], "")),
    ("a signature that is no text of minisign's", FORM, lambda s: given(
        honest_pair(s)[0], "trust me\n" * 4)),
    ("a changed signature", SIGNATURE, signature_with(line_flipped(1, 40))),
    ("a changed key id", KEY, signature_with(line_flipped(1, 3))),
    ("a changed algorithm", FORM, signature_with(line_flipped(1, 1))),
    ("a changed trusted comment", SIGNATURE, signature_with(
        replaced_line(2, "trusted comment: for everybody"))),
    ("a changed global signature", SIGNATURE, signature_with(line_flipped(3, 10))),
    ("another image's release", MATCH, pcr_of("ab" * 48)),
    ("a release of all zeros", FORM, lambda s: given(*sign(s, baseline_of(s, release={
        "pcrs": {"0": "00" * 48, "1": "00" * 48, "2": "00" * 48}})))),
    ("a release without PCR2", FORM, without_pcr2),
    ("a release revoked", "baseline-revoked", signed(revoked=["1.0.0"])),
    ("the image revoked under another name", "baseline-revoked", lambda s: given(*sign(
        s, baseline_of(s, releases=[{"name": "1.0.0", "pcrs": s.pcrs},
                                    {"name": "1.0.0-rc1", "pcrs": s.pcrs}],
                       revoked=["1.0.0-rc1"])))),
    ("an older one, from before this release", MATCH, pcr_of("cd" * 48)),
    ("a register of 47 bytes", FORM, pcr_of("ab" * 47)),
    ("a member more", FORM, signed(allow="everything")),
    ("another version", FORM, signed(version=2)),
    ("one that expired", "baseline-expired", signed(expires="2026-01-31T00:00:00Z")),
    ("a time that is none", FORM, signed(expires="never")),
    ("no releases", MATCH, signed(releases=[])),
    ("a release twice", FORM, lambda s: given(*sign(s, baseline_of(s, releases=[
        {"name": "1.0.0", "pcrs": s.pcrs}] * 2)))),
    ("70,000 bytes", "store-failed", lambda s: given(b" " * 70000, honest_pair(s)[1])),
    ("not found", "store-failed", lambda s: fault("policy-no-key")),
    ("an answer without its signature", "frame-format", lambda s: message(RESULT, {}, b"{}")),
]

# -- credentials ---------------------------------------------------------------------------------


def credentials(stage: Stage, **change) -> bytes:
    members = {**stage.credentials, **change}
    return message(RESULT, {}, json.dumps({k: v for k, v in members.items()
                                           if v is not None}).encode())


def spoiled(**change):
    return lambda s: credentials(s, **change)


CREDENTIALS = [
    ("nothing", lambda s: message(RESULT, {})),
    ("an array", lambda s: message(RESULT, {}, b"[]")),
    ("text that is not JSON", lambda s: message(RESULT, {}, b"aws_access_key_id=x")),
    ("no secret", spoiled(SecretAccessKey=None)),
    ("an empty secret", spoiled(SecretAccessKey="")),
    ("a secret with a line break", spoiled(SecretAccessKey="abc\r\nX-Amz-Target: Evil")),
    ("a secret of 300 bytes", spoiled(SecretAccessKey="x" * 300)),
    ("an access key with a line break", spoiled(AccessKeyId="AKIA\r\nHost: evil.example")),
    ("an access key with another scope", spoiled(AccessKeyId="AKIAIOSFODNN7EXAMPLE/20200101/x")),
    ("an access key that is too short", spoiled(AccessKeyId="AKIA")),
    ("a number as access key", spoiled(AccessKeyId=1)),
    ("a token with a line break", spoiled(Token="x\r\nX-Amz-Target: TrentService.Decrypt")),
    ("a token of 16,385 bytes", spoiled(Token="x" * 16385)),
    ("two tokens", spoiled(Token="a", SessionToken="b")),
    ("an expiration that is no time", spoiled(Expiration="soon")),
    ("a failure in an answer's place", spoiled(Code="AssumeRoleUnauthorizedAccess")),
    ("a member twice", lambda s: message(RESULT, {}, json.dumps(s.credentials).encode()[:-1] +
                                         b',"AccessKeyId":"AKIAEVILEVILEVIL"}')),
]


def foreign(stage: Stage) -> dict:
    """Working credentials of another account."""
    out = stage.run("claviger-kms", "credentials", str(stage.kms_dir), "--arn",
                    "arn:aws:iam::210987654321:user/mallory")
    return json.loads(out.stdout)


def served_with(code: str, members):
    """Boot with these credentials; key setup is refused by KMS with this code."""
    def attack(stage: Stage) -> None:
        text = message(RESULT, {}, json.dumps(members(stage)).encode())
        stage.services["credentials"] = lambda call, data: text
        stage.running["clavigerd"].kill()
        stage.start_nsm()
        stage.start_enclave()
        setup_is(stage, code)
        stage.honest()
        stage.reboot()
    return attack


USED = [
    ("of another account", "AccessDeniedException", foreign),
    ("that KMS does not know", "UnrecognizedClientException",
     lambda s: {**s.credentials, "AccessKeyId": "AKIAEVILEVILEVILEVIL"}),
    ("with a wrong secret", "InvalidSignatureException",
     lambda s: {**s.credentials, "SecretAccessKey": "x" * 40}),
    ("with a token that was never issued", "UnrecognizedClientException",
     lambda s: {**s.credentials, "Token": "made-up"}),
    ("that expired long ago", "kms-credentials-expired",
     lambda s: {**s.credentials, "Expiration": "2020-01-01T00:00:00Z"}),
]

# -- documents -----------------------------------------------------------------------------------


def document_of(answer: bytes) -> bytes:
    """The document inside {"Attestation": {"document": bytes}}."""
    at = answer.index(b"document") + len(b"document")
    assert answer[at] == 0x59
    size = struct.unpack_from(">H", answer, at + 1)[0]
    return answer[at + 3:at + 3 + size]


def answer_of(document: bytes) -> bytes:
    return (b"\xa1\x6bAttestation\xa1\x68document\x59" + struct.pack(">H", len(document)) +
            document)


def refuses_at_last(stage: Stage, code: str) -> None:
    """Vouchers that were prepared on honest documents are spent first; then comes the refusal."""
    for _ in range(16):
        try:
            stage.ask_setup(stage.request())
        except Refused as refusal:
            assert refusal.code == code, f"expected {code}, found {refusal}"
            return
    raise AssertionError(f"expected {code}, found nothing but answers")


def nsm_says(code: str, change):
    """At a request, the NSM's answer becomes change(stage, answer): refused with this code."""
    def attack(stage: Stage) -> None:
        stage.nsm = lambda answer: change(stage, answer)
        refuses_at_last(stage, code)
    return attack


def rewritten(code: str, change):
    return nsm_says(code, lambda s, a: answer_of(change(document_of(a))))


class OtherModule:
    """Another enclave: its own NSM, booted and measured like ours, with something different."""

    def __init__(self, stage: Stage, name: str, module: str | None = None, root: bool = False,
                 pcrs: dict | None = None, policy: bytes | None = None, lock: bool = True,
                 arguments: tuple[str, ...] = ()):
        self.socket_path = stage.dir / f"{name}.sock"
        directory = stage.dir / name
        if root:
            stage.run("claviger-nsm", "init", str(directory))
        else:
            shutil.copytree(stage.nsm_dir, directory, dirs_exist_ok=True)
        if module:
            (directory / "module-id").write_text(module)
        boot_values = stage.dir / f"{name}.json"
        boot_values.write_text(json.dumps(pcrs or stage.pcrs))
        self.process = subprocess.Popen(
            [program("claviger-nsm"), "serve", str(directory), "--pcrs", str(boot_values),
             "--listen", f"unix:{self.socket_path}", *arguments], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.connection = connect(self.socket_path)
        digest = hashlib.sha384(policy or stage.policy_text).digest()
        self.ask(b"\xa1\x69ExtendPCR\xa2\x65index\x10\x64data\x58\x30" + digest)
        if lock:
            self.ask(b"\xa1\x68LockPCRs\xa1\x65range\x18\x20")

    def ask(self, request: bytes) -> bytes:
        return nsm_exchange(self.connection, request)

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait()


def connect(path: pathlib.Path):
    deadline = time.monotonic() + 20
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            connection.settimeout(20)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def from_another(code: str, name: str, **different):
    """The document comes from another module, which was asked the very same."""
    def attack(stage: Stage) -> None:
        other = OtherModule(stage, f"other-{name}", **different)
        with contextlib.closing(other):
            stage.nsm_request = other.ask
            try:
                refuses_at_last(stage, code)
            finally:
                stage.nsm_request = None
    return attack


def asked_otherwise(code: str, change):
    """The enclave's own module is asked for something else than the enclave asked: what it signs is
    genuine, and not this request's."""
    def attack(stage: Stage) -> None:
        with contextlib.closing(connect(stage.dir / "nsm.sock")) as nsm:
            stage.nsm_request = lambda request: nsm_exchange(nsm, change(stage, request))
            try:
                refuses_at_last(stage, code)
            finally:
                stage.nsm_request = None
    return attack


def asked_without(name: bytes, head: bytes, size: int):
    """null in place of a member of `size` bytes under this CBOR head."""
    def change(stage: Stage, request: bytes) -> bytes:
        at = request.index(name + head) + len(name)
        return request[:at] + b"\xf6" + request[at + len(head) + size:]
    return change


def with_own_key(stage: Stage, request: bytes) -> bytes:
    """The parent's public key in the place of the enclave's."""
    own = cms.own_key(stage.dir)
    at = request.index(b"public_key") + len(b"public_key")
    assert request[at] == 0x59 and struct.unpack_from(">H", request, at + 1)[0] == len(own)
    return request[:at + 3] + own + request[at + 3 + len(own):]


def metric(stage: Stage, name: str) -> int:
    text = stage.api("GET", "/metrics")[2].decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.M)[1])


def counted(name: str, attack):
    """The enclave counts what was tried, where an operator sees it."""
    def run(stage: Stage) -> None:
        before = metric(stage, name)
        attack(stage)
        assert metric(stage, name) > before, f"{name} is {before} as before"
    return run


def replayed(stage: Stage) -> None:
    """The document of an earlier, equal request: its nonce and key are not this one's."""
    stage.ask_setup(stage.request())
    old = stage.answers[-1]
    nsm_says("att-nonce", lambda s, a: old)(stage)


def attested_for_agent(stage: Stage) -> None:
    """A document that an agent had made, with no key in it."""
    status, _, body = stage.api("POST", "/v1/attestation", b'{"nonce":"00"}',
                                {"Content-Type": "application/json"})
    assert status == 200, body
    old = base64.b64decode(json.loads(body)["document"])
    nsm_says("att-nonce", lambda s, a: answer_of(old))(stage)


def flipped(document: bytes, mark: bytes, skip: int) -> bytes:
    at = document.index(mark) + len(mark) + skip
    return document[:at] + bytes([document[at] ^ 1]) + document[at + 1:]


DOCUMENTS = [
    ("of an earlier request", counted("claviger_vouchers_refused_total", replayed)),
    ("that an agent asked for", attested_for_agent),
    ("of another enclave of the same image", from_another(
        "gate-identity", "module", module="i-0fedcba9876543210-enc0fedcba987654321")),
    ("of another image", from_another("gate-identity", "image", pcrs={
        "0": "ab" * 48, "1": "cd" * 48, "2": "ef" * 48})),
    ("of the same image under another policy", from_another(
        "gate-identity", "policy", policy=b"{}")),
    ("of the same image with nothing locked", from_another(
        "gate-identity", "unlocked", lock=False)),
    ("under another root", from_another("att-cert-root", "root", root=True)),
    ("of debug mode", from_another("gate-identity", "debug", arguments=("--debug-mode",))),
    ("from before its own root", from_another("att-cert-not-yet", "past",
                                      arguments=("--clock-offset", "-3600"))),
    ("from an hour ahead", counted("claviger_clock_jumped_total", from_another(
        "clock-jump", "future", arguments=("--clock-offset", "3600")))),
    ("from years ahead", counted("claviger_clock_jumped_total", from_another(
        "clock-jump", "far", arguments=("--clock-offset", "100000000")))),
    ("asked for with another nonce", asked_otherwise(
        "att-nonce", lambda s, r: flipped(r, b"nonce", 5))),
    ("asked for without a nonce", asked_otherwise("att-nonce",
                                                  asked_without(b"nonce", b"\x58\x20", 32))),
    ("asked for with the parent's public key", asked_otherwise("att-public-key", with_own_key)),
    ("asked for without a public key", asked_otherwise(
        "att-public-key", asked_without(b"public_key", b"\x59\x01\x26", 294))),
    ("asked for with another operation's user data", asked_otherwise(
        "att-user-data", lambda s, r: flipped(r, b"user_data", 5))),
    ("asked for without user data", asked_otherwise(
        "att-user-data", asked_without(b"user_data", b"\x58\x30", 48))),
    ("with a changed nonce", rewritten("att-signature", lambda d: flipped(d, b"nonce", 5))),
    ("with a changed public key", rewritten("att-signature",
                                            lambda d: flipped(d, b"public_key", 60))),
    ("with changed user data", rewritten("att-signature", lambda d: flipped(d, b"user_data", 5))),
    ("with a changed timestamp", rewritten("att-signature",
                                           lambda d: flipped(d, b"timestamp", 8))),
    ("with a changed register", rewritten("att-signature", lambda d: flipped(d, b"pcrs", 10))),
    ("with a changed signature", rewritten("att-signature", lambda d: d[:-1] + bytes([d[-1] ^ 1]))),
    ("with its signature all zeros", rewritten("att-signature-range",
                                               lambda d: d[:-96] + bytes(96))),
    ("cut short", rewritten("att-cbor", lambda d: d[:-1])),
    ("with a byte more", rewritten("att-trailing", lambda d: d + b"\0")),
    ("of no bytes", nsm_says("att-size", lambda s, a: answer_of(b""))),
    ("twice", rewritten("att-trailing", lambda d: d + d)),
    ("tagged as another thing", rewritten("att-tag", lambda d: b"\xd1" + d)),
    ("in place of which the NSM fails", nsm_says("nsm-internal-error",
                                                 lambda s, a: b"\xa1\x65Error\x6dInternalError")),
    ("in place of which comes another answer", nsm_says(
        "nsm-response", lambda s, a: b"\xa1\x69GetRandom\xa1\x66random\x41\x00")),
    ("in place of which comes nothing", nsm_says("nsm-response", lambda s, a: b"")),
    ("in place of which comes noise", nsm_says("nsm-response", lambda s, a: b"\xff" * 64)),
]


def boot_with_nsm(code: str, change):
    def attack(stage: Stage) -> None:
        stage.nsm = lambda answer: change(stage, answer)
        boot(code)(stage)
    return attack


def touched(code: str, *requests: bytes):
    """Somebody was at the registers before the enclave started."""
    def start_nsm(stage: Stage) -> None:
        stage.start_nsm()
        with contextlib.closing(connect(stage.dir / "nsm.sock")) as nsm:
            for request in requests:
                nsm_exchange(nsm, request)
    return boot(code, start_nsm)


def boot_pcrs(code: str, pcrs, arguments: tuple[str, ...] = ()):
    """The enclave boots with other measurements."""
    def start_nsm(stage: Stage) -> None:
        stage.nsm_arguments = list(arguments)
        try:
            stage.start_nsm(pcrs(stage))
        finally:
            stage.nsm_arguments = []
    return boot(code, start_nsm)


EXTEND_16 = b"\xa1\x69ExtendPCR\xa2\x65index\x10\x64data\x58\x30" + bytes(48)
EXTEND_20 = b"\xa1\x69ExtendPCR\xa2\x65index\x14\x64data\x58\x30" + bytes(48)
BOOTS = [
    ("register 16 extended before", touched("policy-pcr-state", EXTEND_16)),
    ("register 16 locked before", touched("policy-pcr-state", b"\xa1\x67LockPCR\xa1\x65index\x10")),
    ("register 20 extended before", touched("policy-pcr-state", EXTEND_20)),
    ("all registers locked before", touched("policy-pcr-state",
                                            b"\xa1\x68LockPCRs\xa1\x65range\x18\x20")),
    ("another image", boot_pcrs(MATCH, lambda s: {"0": "ab" * 48, "1": "cd" * 48, "2": "ef" * 48})),
    ("PCR0 right, PCR2 another", boot_pcrs(MATCH, lambda s: {**s.pcrs, "2": "ab" * 48})),
    ("PCR0 right, PCR1 another", boot_pcrs(MATCH, lambda s: {**s.pcrs, "1": "ab" * 48})),
    ("debug mode", boot_pcrs("att-debug", lambda s: s.pcrs, ("--debug-mode",))),
    ("a changed document", boot_with_nsm("att-signature", lambda s, a: answer_of(
        flipped(document_of(a), b"pcrs", 10)))),
    ("an earlier boot's document", lambda s: boot_with_nsm("att-nonce", lambda _, a, old=s.answers[
        -1]: old)(s)),
]

# -- evidence replayed to KMS --------------------------------------------------------------------


def direct(stage: Stage, operation: str, parameters: dict, credentials_of=None):
    """The parent asks KMS itself; what it asks is not the enclave's."""
    stage.check_audit()
    answer = stage.kms(operation, parameters, credentials_of)
    stage.audit()
    return answer


def recipient(document: bytes) -> dict:
    return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            "AttestationDocument": base64.b64encode(document).decode()}


def no_plaintext(stage: Stage, operation: str, parameters) -> None:
    """Whatever KMS answers the parent, it is no plaintext."""
    members, evidence = stage.ask_setup(stage.request())
    status, answer = direct(stage, operation, parameters(stage, members, evidence))
    assert "Plaintext" not in answer or answer["Plaintext"] is None, answer


def of_key(members: dict) -> dict:
    return {"KeyId": members["keyId"], "EncryptionContext": members["encryptionContext"]}


REPLAYS = [
    ("Decrypt without a document", lambda s: no_plaintext(s, "Decrypt", lambda s, m, e: {
        **of_key(m), "CiphertextBlob": m["ciphertextBlob"]})),
    ("Decrypt with the evidence", lambda s: no_plaintext(s, "Decrypt", lambda s, m, e: {
        **of_key(m), "CiphertextBlob": m["ciphertextBlob"], "Recipient": recipient(e)})),
    ("Decrypt with the evidence in another context", lambda s: no_plaintext(
        s, "Decrypt", lambda s, m, e: {"KeyId": m["keyId"], "EncryptionContext": {},
                                       "CiphertextBlob": m["ciphertextBlob"],
                                       "Recipient": recipient(e)})),
    ("GenerateDataKey without a document", lambda s: no_plaintext(
        s, "GenerateDataKey", lambda s, m, e: {**of_key(m), "NumberOfBytes": 32})),
    ("GenerateDataKey with the evidence", lambda s: no_plaintext(
        s, "GenerateDataKey", lambda s, m, e: {**of_key(m), "NumberOfBytes": 32,
                                               "Recipient": recipient(e)})),
    ("Decrypt with the parent's key put into the evidence", lambda s: no_plaintext(
        s, "Decrypt", lambda s, m, e: {**of_key(m), "CiphertextBlob": m["ciphertextBlob"],
                                       "Recipient": recipient(flipped(e, b"public_key", 60))})),
    ("Decrypt with a document of the parent's own making", lambda s: no_plaintext(
        s, "Decrypt", lambda s, m, e: {**of_key(m), "CiphertextBlob": m["ciphertextBlob"],
                                       "Recipient": recipient(b"\x84\x44\xa1\x01\x38\x22\xa0")})),
    ("the answer to replayed evidence, handed to the enclave", lambda s: stale_cms(s)),
]


def stale_cms(stage: Stage) -> None:
    """KMS answers replayed evidence with a ciphertext for a key that the enclave no longer has."""
    members, evidence = stage.ask_setup(stage.request())
    status, answer = direct(stage, "Decrypt", {
        **of_key(members), "CiphertextBlob": members["ciphertextBlob"],
        "Recipient": recipient(evidence)})
    assert status == 200, answer
    forged("cms-recipient", with_member("CiphertextForRecipient",
                                        answer["CiphertextForRecipient"]))(stage)


ATTACKS = (
    [("identity", f"baseline: {name}", service_at_boot("baseline", code, answer))
     for name, code, answer in BASELINES] +
    [("identity", f"boot: {name}", run) for name, run in BOOTS] +
    [("identity", f"document: {name}", run) for name, run in DOCUMENTS] +
    [("identity", f"credentials: {name}", service_at_boot(
        "credentials", "store-failed" if "16,385" in name else "kms-credentials", answer))
     for name, answer in CREDENTIALS] +
    [("identity", f"credentials {name}", served_with(code, members))
     for name, code, members in USED] +
    [("identity", f"evidence: {name}", run) for name, run in REPLAYS])
