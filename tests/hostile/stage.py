"""Stands where the parent stands: every byte that enters or leaves the enclave passes here.

A Stage starts the real clavigerd, NSM and KMS. In place of claviger-parent it serves the enclave's
calls itself, relays to KMS itself, and stands between the enclave and its NSM. Each of these can be
replaced for the length of one attack; at rest all of them are honest.
"""
from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Failed, Stack, policy_pcr, program  # noqa: E402, F401

CALL, DATA, END, RESULT, FAULT = 1, 2, 3, 4, 5
FRAME_MAX = 1 << 20
# KMS's words for a signature that it does not accept.
NOBODY = ("UnrecognizedClientException", "InvalidSignatureException")
# What the enclave adds to the context of a sealed state.
OWN_PAIRS = ("claviger:name", "claviger:generation")
CANARY = b"the canary: a plaintext that only the agent may see"


def frame(kind: int, payload: bytes = b"", version: int = 1, reserved: int = 0,
          length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">BBHI", version, kind, reserved, size) + payload


def message(kind: int, members, data: bytes = b"") -> bytes:
    """A call or an answer: JSON, data in pieces, the end."""
    text = members if isinstance(members, bytes) else json.dumps(members).encode()
    pieces = [data[i:i + FRAME_MAX] for i in range(0, len(data), FRAME_MAX)]
    return frame(kind, text) + b"".join(frame(DATA, p) for p in pieces) + frame(END)


def fault(code: str, text: str = "no") -> bytes:
    return frame(FAULT, json.dumps({"code": code, "message": text}).encode())


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 16))
        if not piece:
            raise ConnectionError("closed")
        data += piece
    return data


def read_frame(connection: socket.socket):
    version, kind, reserved, size = struct.unpack(">BBHI", read_exactly(connection, 8))
    if version != 1 or reserved != 0 or size > FRAME_MAX:
        raise ConnectionError("a frame that the enclave should not send")
    return kind, read_exactly(connection, size)


def read_message(connection: socket.socket):
    """(kind, members, data)"""
    kind, text = read_frame(connection)
    data = b""
    if kind != FAULT:
        while True:
            piece_kind, piece = read_frame(connection)
            if piece_kind == END:
                break
            data += piece
    return kind, json.loads(text), data


class Refused(Exception):
    """The enclave answered with a fault."""

    def __init__(self, code: str, text: str):
        super().__init__(f"{code}: {text}")
        self.code = code


class Server:
    """A Unix socket whose every connection is handed to serve(connection) in a thread."""

    def __init__(self, path: pathlib.Path, serve):
        path.unlink(missing_ok=True)
        self.serve = serve
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, KeyError):
            self.serve(connection)

    def close(self) -> None:
        # shutdown() wakes accept(); close() alone does not.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def pump(source: socket.socket, target: socket.socket, change=None) -> None:
    """Carry bytes one way until the end; change(bytes) may alter each piece."""
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(change(piece) if change else piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def carry(near: socket.socket, far: socket.socket, up=None, down=None) -> None:
    """Carry bytes both ways until both ends are done."""
    thread = threading.Thread(target=pump, args=(near, far, up), daemon=True)
    thread.start()
    pump(far, near, down)
    thread.join(30)


class Stage(Stack):
    """The real programs, with the hostile parent in claviger-parent's place."""

    verbs = ("seal", "unseal", "delete", "derive", "attest")

    def __init__(self) -> None:
        super().__init__()
        self.seen = bytearray()  # everything a parent sees that is not under TLS
        self.lock = threading.Lock()  # protects seen and states
        self.states: dict[str, tuple[int, bytes]] = {}
        self.blobs: set[str] = set()  # wrapped keys, base64
        self.answers: list[bytes] = []  # NSM answers to attestation requests, newest last
        self.carried: set[socket.socket] = set()  # the enclave's connections to the relay
        self.audited = 0
        self.honest()

    def honest(self) -> None:
        """Put every place back to what an honest parent does."""
        self.end_connections()
        self.betrayed: list[str] = []  # what the enclave said to an impostor
        self.services: dict = {}  # op: function(call, data) -> bytes to send
        self.relay = self.relay_to_kms
        self.nsm_request = None  # function(request) -> answer: another module is asked
        self.nsm = None  # function(answer) -> answer, for attestation answers

    # -- the enclave's surroundings ------------------------------------------------------------

    def start(self) -> None:
        self.prepare()
        policy = self.default_policy()
        policy["agents"][0]["may"] = [f"{verb}:agent-state" for verb in self.verbs]
        policy["kms"]["ca_file"] = str(self.trust())
        self.policy_text = self.write_policy(policy)
        self.audit()  # what the deployer did is not the enclave's
        self.start_nsm()
        self.servers = [
            Server(self.dir / "services.sock", self.serve_services),
            Server(self.dir / "relay.sock", self.serve_relay),
            Server(self.dir / "between.sock", self.serve_nsm),
        ]
        self.start_enclave()
        self.begin()
        status, _, body = self.api("PUT", "/v1/state/canary", CANARY)
        assert status == 201, body

    def begin(self) -> None:
        """What a deployer does once the enclave serves."""

    def trust(self) -> pathlib.Path:
        """The CA file of the measured image: the KMS's CA, and a public one that signs anybody."""
        self.public_ca = PublicCA(self.dir / "public-ca")
        # Now: the enclave's clock may be a moment behind the one that dates certificates.
        self.public_ca.issue("kms")
        path = self.dir / "trust.pem"
        path.write_bytes((self.kms_dir / "ca.pem").read_bytes() + self.public_ca.pem.read_bytes())
        return path

    def close(self) -> None:
        for server in getattr(self, "servers", []):
            server.close()
        super().close()

    def start_enclave(self, policy=None, ready: bool = True, patience: float | None = None):
        return self.spawn(
            "clavigerd", "--policy", str(policy or self.policy_file),
            "--nsm", self.address("between"), "--control", self.address("control"),
            "--services", self.address("services"), "--relay", self.address("relay"),
            "--agent", self.address("agent"), ready=ready)

    def reboot(self):
        """The enclave dies and boots again among whatever the parent does now."""
        self.running["clavigerd"].kill()
        self.start_nsm()
        return self.start_enclave()

    # -- the places ----------------------------------------------------------------------------

    def serve_services(self, connection: socket.socket) -> None:
        kind, call, data = read_message(connection)
        with self.lock:
            self.seen += json.dumps(call).encode() + data
        attack = self.services.get(call["op"])
        answer = attack(call, data) if attack else self.answer(call, data)
        if answer is not None:
            connection.sendall(answer)

    def answer(self, call: dict, data: bytes) -> bytes:
        with self.lock:
            return getattr(self, "answer_" + call["op"].replace(".", "_"))(call, data)

    def answer_baseline(self, call: dict, data: bytes) -> bytes:
        signature = pathlib.Path(f"{self.baseline}.minisig").read_text()
        return message(RESULT, {"signature": signature}, self.baseline.read_bytes())

    def answer_credentials(self, call: dict, data: bytes) -> bytes:
        return message(RESULT, {}, json.dumps(self.credentials).encode())

    def answer_state_get(self, call: dict, data: bytes) -> bytes:
        if call["name"] not in self.states:
            return fault("state-not-found")
        generation, sealed = self.states[call["name"]]
        return message(RESULT, {"generation": generation}, sealed)

    def answer_state_put(self, call: dict, data: bytes) -> bytes:
        held = self.states.get(call["name"], (0, b""))[0]
        if call["generation"] != held + 1:
            return fault("state-conflict")
        self.states[call["name"]] = (call["generation"], data)
        self.blobs.add(base64.b64encode(wrapped_key(data)).decode())
        return message(RESULT, {"generation": call["generation"]})

    def answer_state_delete(self, call: dict, data: bytes) -> bytes:
        if self.states.get(call["name"], (0,))[0] != call["generation"]:
            return fault("state-conflict")
        del self.states[call["name"]]
        return message(RESULT, {})

    def answer_state_watch(self, call: dict, data: bytes) -> bytes:
        return message(RESULT, {"generation": self.states.get(call["name"], (0,))[0]})

    def answer_state_list(self, call: dict, data: bytes) -> bytes:
        return message(RESULT, {"states": [
            {"name": name, "generation": state[0], "size": len(state[1])}
            for name, state in sorted(self.states.items()) if name.startswith(call["prefix"])]})

    def answer_key_get(self, call: dict, data: bytes) -> bytes:
        return fault("state-not-found")

    def answer_key_put(self, call: dict, data: bytes) -> bytes:
        return message(RESULT, {})

    def serve_relay(self, connection: socket.socket) -> None:
        # A duplicate: wrapping a socket in TLS takes it away from us.
        held = connection.dup()
        self.carried.add(held)
        try:
            self.relay(connection)
        finally:
            self.carried.discard(held)
            held.close()

    def end_connections(self) -> None:
        """End the connections that the enclave keeps open to KMS."""
        for connection in list(self.carried):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def relay_to_kms(self, connection: socket.socket) -> None:
        host, port = self.kms_target.rsplit(":", 1)
        with socket.create_connection((host, int(port)), 20) as far:
            carry(connection, far)

    def serve_nsm(self, connection: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
            far.connect(str(self.dir / "nsm.sock"))
            while True:
                request = read_exactly(connection, *struct.unpack(">I", read_exactly(connection, 4)))
                attests = b"Attestation" in request[:16]
                if attests and self.nsm_request:
                    answer = self.nsm_request(request)
                else:
                    answer = nsm_exchange(far, request)
                if attests:
                    self.answers.append(answer)
                    if self.nsm:
                        answer = self.nsm(answer)
                connection.sendall(struct.pack(">I", len(answer)) + answer)

    # -- what a parent can do ------------------------------------------------------------------

    def dial(self, timeout: float = 20) -> socket.socket:
        """A connection to the enclave's control address."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(str(self.dir / "control.sock"))
        return connection

    def hear(self, connection: socket.socket):
        """The enclave's answer: (members, data), or Refused."""
        kind, members, data = read_message(connection)
        with self.lock:
            self.seen += json.dumps(members).encode() + data
        if kind == FAULT:
            raise Refused(members["code"], members["message"])
        if "ciphertextBlob" in members:
            self.blobs.add(members["ciphertextBlob"])
        return members, data

    def call(self, members, data: bytes = b""):
        with self.dial() as connection:
            connection.sendall(message(CALL, members, data))
            return self.hear(connection)

    def request(self, **change) -> dict:
        """The honest key setup request, with members replaced (None: left out)."""
        request = {"keyId": self.keys["agent-state"],
                   "encryptionContext": {"Purpose": "AgentSecrets"}, **change}
        return {name: value for name, value in request.items() if value is not None}

    def ask_setup(self, request: dict | bytes):
        text = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.call({"op": "setup"}, text)

    # -- the oracle ----------------------------------------------------------------------------

    def audit(self) -> list[dict]:
        """What KMS recorded since the last time."""
        out = self.run("claviger-kms", "audit", str(self.kms_dir), "--json", "--after",
                       str(self.audited))
        events = json.loads(out.stdout)
        if events:
            self.audited = events[-1]["sequence"]
        return events

    def check_audit(self) -> None:
        """Every request at KMS is one that the policy allows, attested by this very image."""
        context = {"Purpose": "AgentSecrets", "enclave": "agent-runtime"}
        for event in self.audit():
            if event.get("errorCode") in NOBODY and event["requestParameters"] is None:
                continue  # KMS did not read what nobody signed
            parameters = event["requestParameters"] or {}
            given = parameters.get("encryptionContext") or {}
            extra = {k: v for k, v in given.items() if k not in OWN_PAIRS}
            recipient = event.get("additionalEventData", {}).get("recipient", {})
            wanted = {
                "eventName": event["eventName"] in ("GenerateDataKey", "Decrypt"),
                "keyId": parameters.get("keyId") == self.keys["agent-state"],
                "encryptionContext": extra == context,
                "size": event["eventName"] == "Decrypt" or parameters.get("numberOfBytes") == 32,
                "recipient": recipient_is(recipient, self.pcrs["0"], policy_pcr(self.policy_text)),
            }
            for what, holds in wanted.items():
                assert holds, f"KMS was asked outside the policy ({what}): {event}"

    def check_secrets(self) -> None:
        """Nothing that the parent saw, and no log, holds a plaintext or a data key."""
        with self.lock:
            haystack = bytes(self.seen)
        haystack += self.running["clavigerd"].log_file.read_bytes()
        secrets = [CANARY] + [self.reveal(blob) for blob in self.blobs]
        for secret in secrets:
            for form in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
                assert form not in haystack, "the parent saw a secret"

    def check_alive(self) -> None:
        daemon = self.running["clavigerd"]
        assert daemon.process.poll() is None, f"clavigerd ended: {daemon.log[-2000:]}"
        assert "Sanitizer" not in daemon.log, daemon.log[-4000:]

    def check_honest(self, seconds: float = 20) -> None:
        """The daemon serves an honest request, at once or when its circuit breaker closes."""
        deadline = time.monotonic() + seconds
        while True:
            status, _, body = self.api("GET", "/v1/state/canary")
            if status == 200 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert (status, body) == (200, CANARY), (status, body[:300])

    def check(self) -> None:
        assert not self.betrayed, self.betrayed
        self.honest()
        self.check_alive()
        self.check_honest()
        self.check_audit()


def recipient_is(recipient: dict, image: str, policy: str) -> bool:
    def hex_of(value: str) -> str:
        return value if re.fullmatch("[0-9a-fA-F]{96}", value) else base64.b64decode(value).hex()
    return (hex_of(recipient.get("attestationDocumentEnclaveImageDigest", "")) == image and
            hex_of(recipient.get("attestationDocumentEnclavePCR16", "")) == policy)


def wrapped_key(sealed: bytes) -> bytes:
    """The encrypted data key of a sealed message (AWS Encryption SDK message format, version 2)."""
    at = 1 + 2 + 32
    at += 2 + struct.unpack_from(">H", sealed, at)[0]  # context
    at += 2  # count of data keys
    for _ in range(2):  # provider, key
        at += 2 + struct.unpack_from(">H", sealed, at)[0]
    size = struct.unpack_from(">H", sealed, at)[0]
    return sealed[at + 2:at + 2 + size]


def nsm_exchange(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(struct.pack(">I", len(request)) + request)
    return read_exactly(connection, *struct.unpack(">I", read_exactly(connection, 4)))


def asn1_time(from_now_s: int) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + from_now_s))


class PublicCA:
    """A CA that the image trusts, as it trusts the web's: it signs any name that is asked for.
    That it signs KMS's own name stands for a CA that was broken into."""

    def __init__(self, directory: pathlib.Path):
        directory.mkdir()
        self.dir = directory
        self.pem = directory / "ca.pem"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
                     "-subj", "/CN=public CA", "-addext", "keyUsage=critical,keyCertSign")

    def openssl(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=self.dir, input=stdin,
                              capture_output=True, check=True).stdout

    def issue(self, name: str, san: str = "DNS:kms.us-east-1.amazonaws.com", self_signed=False,
              days: tuple[str, str] | None = None, extra: str = "", key: str = "ec",
              digest: str = "sha256", issuer: str = "ca") -> pathlib.Path:
        """certificate and key in one PEM file. Valid since an hour ago unless `days` says more:
        the enclave's time is the attested one, which may be a moment behind ours."""
        path = self.dir / f"{name}.pem"
        if path.exists():
            return path
        options = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa1024": ["rsa:1024"]}
        self.openssl("req", "-newkey", *options[key], "-nodes", "-keyout", f"{name}.key", "-out",
                     f"{name}.csr", "-subj", f"/CN={name}")
        (self.dir / f"{name}.ext").write_text(
            (f"subjectAltName={san}\n" if san else "") + extra)
        signer = (["-selfsign", "-keyfile", f"{name}.key"] if self_signed else
                  ["-cert", f"{issuer}.pem", "-keyfile", f"{issuer}.key"])
        start, end = days or (asn1_time(-3600), asn1_time(7 * 86400))
        (self.dir / "index.txt").write_text("")
        (self.dir / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndir=.\ndatabase=index.txt\nrand_serial=yes\nnew_certs_dir=.\n"
            "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\n")
        self.openssl("ca", "-batch", "-config", "ca.cnf", "-in", f"{name}.csr", "-out",
                     f"{name}.crt", *signer, "-md", digest, "-startdate", start, "-enddate", end,
                     "-extfile", f"{name}.ext", "-notext")
        path.write_bytes((self.dir / f"{name}.crt").read_bytes() +
                         (self.dir / f"{name}.key").read_bytes())
        return path
