"""Attacks by the one who carries the bytes to KMS: the stream, TLS, and the answers of a KMS that a
broken CA vouches for."""
from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import threading
import time

import cms
from control import refuses
from services import problem
from stage import CANARY, Refused, Stage, carry, pump

HOST = "kms.us-east-1.amazonaws.com"


def setup_is(stage: Stage, code: str) -> None:
    if code == "ok":
        members, _ = stage.ask_setup(stage.request())
        assert members["keyId"] == stage.keys["agent-state"], members
    else:
        refuses(stage, code, lambda: stage.ask_setup(stage.request()))


# -- the stream --------------------------------------------------------------------------------


def once(first):
    """The first connection meets the attack, the next ones an honest relay: the enclave, which
    vouches again for each attempt, must get through."""
    def attack(stage: Stage) -> None:
        met = []

        def relay(connection) -> None:
            if met:
                stage.relay_to_kms(connection)
                return
            met.append(True)
            with contextlib.suppress(OSError):
                first(stage, connection)
        stage.end_connections()
        stage.relay = relay
        setup_is(stage, "ok")
        assert met, "the attack did not happen"
    return attack


def always(code: str, serve):
    """Every connection meets the attack: the request is refused with this code."""
    def attack(stage: Stage) -> None:
        def relay(connection) -> None:
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
                serve(stage, connection)
        stage.end_connections()
        stage.relay = relay
        setup_is(stage, code)
    return attack


def far_end(stage: Stage) -> socket.socket:
    host, port = stage.kms_target.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 20)


def carrying(up=None, down=None):
    """Carry to the real KMS, changing bytes on the way."""
    def relay(stage: Stage, connection) -> None:
        with far_end(stage) as far:
            carry(connection, far, up(connection, far) if up else None,
                  down(connection, far) if down else None)
    return relay


def cut_after(size: int):
    """Close both ends after so many bytes."""
    def make(near, far):
        count = [0]

        def change(piece: bytes) -> bytes:
            count[0] += len(piece)
            if count[0] > size:
                near.shutdown(socket.SHUT_RDWR)
                far.shutdown(socket.SHUT_RDWR)
                raise OSError("cut")
            return piece
        return change
    return make


def flip_at(position: int):
    def make(near, far):
        count = [0]

        def change(piece: bytes) -> bytes:
            at = position - count[0]
            count[0] += len(piece)
            if 0 <= at < len(piece):
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1:]
            return piece
        return change
    return make


def doubled(skip: int):
    """Every piece after the first ones is sent twice: records replayed."""
    def make(near, far):
        count = [0]

        def change(piece: bytes) -> bytes:
            count[0] += 1
            return piece * 2 if count[0] > skip else piece
        return change
    return make


def inserted(text: bytes, number: int):
    def make(near, far):
        count = [0]

        def change(piece: bytes) -> bytes:
            count[0] += 1
            return text + piece if count[0] == number else piece
        return change
    return make


def say(text: bytes):
    def serve(stage: Stage, connection) -> None:
        connection.sendall(text)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    return serve


def reset(stage: Stage, connection) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def trickle(stage: Stage, connection) -> None:
    """Honest, in pieces of at most 64 bytes."""
    with far_end(stage) as far:
        threading.Thread(target=pump, args=(connection, far), daemon=True).start()
        with contextlib.suppress(OSError):
            while piece := far.recv(64):
                connection.sendall(piece)


def replay_session(stage: Stage, connection) -> None:
    """The server's side of an earlier, honest connection, byte for byte."""
    if not hasattr(stage, "recorded"):
        stage.recorded = bytearray()
        with far_end(stage) as far:
            carry(connection, far, None, lambda p: (stage.recorded.extend(p), p)[1])
        return
    say(bytes(stage.recorded))(stage, connection)


def replayed(stage: Stage) -> None:
    stage.end_connections()
    stage.relay = lambda connection: replay_session(stage, connection)
    setup_is(stage, "ok")  # recorded
    with contextlib.suppress(Exception):
        stage.end_connections()
    once(lambda s, c: say(bytes(s.recorded))(s, c))(stage)


STREAM = [
    ("closed at once", once(lambda s, c: None)),
    ("reset at once", once(reset)),
    ("silence, then closed", once(lambda s, c: time.sleep(1))),
    ("led to the enclave's own control address", once(lambda s, c: carry(c, s.dial()))),
    ("led to the parent's services", once(lambda s, c: lead_to(s, c, "services.sock"))),
    ("led to the NSM", once(lambda s, c: lead_to(s, c, "nsm.sock"))),
    ("an honest connection in small pieces", once(trickle)),
    ("an earlier connection replayed", replayed),
] + [(f"cut after {size} bytes from the enclave", once(carrying(up=cut_after(size))))
     for size in (1, 200, 600, 1500, 3000, 6000)
] + [(f"cut after {size} bytes from KMS", once(carrying(down=cut_after(size))))
     for size in (1, 100, 900, 1800)]


def lead_to(stage: Stage, connection, name: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
        far.connect(str(stage.dir / name))
        far.settimeout(2)
        carry(connection, far)


def refused_or_retried(serve):
    """A changed byte of TLS ends the connection: as a fault of TLS, or as a lost connection that
    is tried again."""
    def attack(stage: Stage) -> None:
        try:
            once(serve)(stage)
        except Refused as refusal:
            assert refusal.code in ("kms-tls", "kms-connect", "kms-timeout"), refusal
    return attack


BYTES = [(f"byte {at} from the enclave changed", refused_or_retried(carrying(up=flip_at(at))))
         for at in (0, 5, 11, 60, 300, 700, 1200, 2500)] + [
    (f"byte {at} from KMS changed", refused_or_retried(carrying(down=flip_at(at))))
    for at in (0, 5, 11, 60, 130, 400, 1000, 1600)] + [
    ("records from KMS twice", refused_or_retried(carrying(down=doubled(0)))),
    ("records of the answer twice", refused_or_retried(carrying(down=doubled(1)))),
    ("records from the enclave twice", refused_or_retried(carrying(up=doubled(0)))),
    ("the second piece from KMS withheld", refused_or_retried(carrying(
        down=lambda n, f: drop_then_close(n, f, 2)))),
    ("an alert put in", refused_or_retried(carrying(
        down=inserted(bytes.fromhex("15030300020100"), 2)))),
    ("a plain HTTP answer put in", refused_or_retried(carrying(
        down=inserted(b"HTTP/1.1 200 OK\r\n\r\n", 2)))),
]


def drop_then_close(near, far, number: int):
    count = [0]

    def change(piece: bytes) -> bytes:
        count[0] += 1
        if count[0] == number:
            near.shutdown(socket.SHUT_RDWR)
            return b""
        return piece
    return change


# -- TLS ---------------------------------------------------------------------------------------


def context_of(path, version=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    if version:
        context.minimum_version = context.maximum_version = version
    context.load_cert_chain(path)
    return context


def presenting(issue, version=None):
    """A TLS server that presents issue(CA)."""
    def serve(stage: Stage, connection) -> None:
        context = context_of(issue(stage.public_ca), version)
        with context.wrap_socket(connection, server_side=True) as tls:
            if said := tls.recv(4096):
                stage.betrayed.append(f"the enclave said to an impostor: {said[:40]}")
    return serve


def nested(ca):
    """Signed by a server's certificate, which is no CA."""
    ca.issue("evil.example", "DNS:evil.example")
    return ca.issue("by-a-leaf", issuer="evil.example")


def renamed_root(ca):
    """A root of the same name as the trusted one, with another key."""
    if not (ca.dir / "twin.pem").exists():
        ca.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-keyout", "twin.key", "-out", "twin.pem", "-days", "30", "-subj",
                   "/CN=public CA")
    return ca.issue("by-a-twin", issuer="twin")


PAST, FUTURE = ("20200101000000Z", "20210101000000Z"), ("20900101000000Z", "20910101000000Z")
CERTIFICATES = [
    ("another host's", lambda ca: ca.issue("evil.example", "DNS:evil.example")),
    ("another region's KMS", lambda ca: ca.issue("west", "DNS:kms.us-west-2.amazonaws.com")),
    ("another service's", lambda ca: ca.issue("s3", "DNS:s3.us-east-1.amazonaws.com")),
    ("a name that goes on", lambda ca: ca.issue("longer", f"DNS:{HOST}.evil.example")),
    ("a name that is cut", lambda ca: ca.issue("shorter", "DNS:us-east-1.amazonaws.com")),
    ("a wildcard over two labels", lambda ca: ca.issue("wild", "DNS:*.amazonaws.com")),
    ("a bare wildcard", lambda ca: ca.issue("all", "DNS:*")),
    ("a wildcard in the middle", lambda ca: ca.issue("middle", "DNS:kms.*.amazonaws.com")),
    ("the address that the name leads to", lambda ca: ca.issue("address", "IP:127.0.0.1")),
    ("the name as an address of mail", lambda ca: ca.issue("mail", f"email:kms@{HOST}")),
    ("the name as a URI", lambda ca: ca.issue("uri", f"URI:https://{HOST}/")),
    ("localhost", lambda ca: ca.issue("localhost", "DNS:localhost")),
    ("self-signed", lambda ca: ca.issue("self", self_signed=True)),
    ("signed by a certificate that is no CA", nested),
    ("signed by a root of the same name", renamed_root),
    ("expired", lambda ca: ca.issue("expired", days=PAST)),
    ("not valid yet", lambda ca: ca.issue("future", days=FUTURE)),
    ("for clients alone", lambda ca: ca.issue("client", extra="extendedKeyUsage=clientAuth\n")),
    ("with an RSA key of 1024 bits", lambda ca: ca.issue("weak", key="rsa1024")),
    ("with an unknown critical extension", lambda ca: ca.issue(
        "critical", extra="1.3.6.1.4.1.55555.1=critical,DER:0500\n")),
    ("the CA's own", lambda ca: ca_itself(ca)),
]


def ca_itself(ca):
    path = ca.dir / "own.pem"
    path.write_bytes(ca.pem.read_bytes() + (ca.dir / "ca.key").read_bytes())
    return path


def old_tls(version):
    return always("kms-tls", presenting(lambda ca: ca.issue("kms"), version))


TLS = [(f"certificate: {name}", always("kms-tls", presenting(issue)))
       for name, issue in CERTIFICATES] + [
    ("plain HTTP", always("kms-tls", say(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))),
    ("random bytes", always("kms-tls", say(bytes(range(128, 256)) * 8))),
    ("an alert: handshake failure", always("kms-tls", say(bytes.fromhex("15030300020228")))),
    ("TLS 1.0", old_tls(ssl.TLSVersion.TLSv1)),
    ("TLS 1.1", old_tls(ssl.TLSVersion.TLSv1_1)),
]

# -- the answers of a KMS that a broken CA vouches for -----------------------------------------


def read_request(tls) -> tuple[bytes, bytes]:
    """(head, body) of one HTTP request."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = tls.recv(1 << 16)
        if not piece:
            raise OSError("closed")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:"))
    while len(body) < size:
        body += tls.recv(1 << 16)
    return head, body


def ask_kms(stage: Stage, head: bytes, body: bytes) -> tuple[int, bytes]:
    """The enclave's own request, sent on unchanged: (status, body)."""
    trust = ssl.create_default_context(cafile=str(stage.kms_dir / "ca.pem"))
    with far_end(stage) as plain, trust.wrap_socket(plain, server_hostname=HOST) as far:
        far.sendall(head + b"\r\n\r\n" + body)
        answer = http.client.HTTPResponse(far)
        answer.begin()
        return answer.status, answer.read()


def http_answer(status: int, body: bytes, headers: str = "") -> bytes:
    return (f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n").encode() + body


def in_the_middle(change):
    """Terminate TLS under KMS's name; change(stage, request, status, answer) -> bytes to send."""
    def serve(stage: Stage, connection) -> None:
        context = context_of(stage.public_ca.issue("kms"))
        with context.wrap_socket(connection, server_side=True) as tls:
            while True:
                head, body = read_request(tls)
                status, answer = ask_kms(stage, head, body)
                stage.overheard = (head, body, answer)
                with stage.lock:
                    stage.seen += head + body + answer
                tls.sendall(change(stage, json.loads(body), status, answer))
    return serve


def forged(code: str, change):
    """KMS's JSON answer becomes change(stage, answer)."""
    def rewrite(stage, request, status, answer):
        changed = change(stage, json.loads(answer))
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return http_answer(200, text)
    return always(code, in_the_middle(rewrite))


def replied(code: str, text):
    """The answer is these bytes, whatever KMS said."""
    return always(code, in_the_middle(lambda s, r, st, a: text if isinstance(text, bytes)
                                      else text(s, a)))


def with_member(name: str, value):
    return lambda s, a: {**a, name: value(s, a) if callable(value) else value}


def without(name: str):
    return lambda s, a: {k: v for k, v in a.items() if k != name}


def cms_changed(change):
    def rewrite(stage, answer):
        cms = base64.b64decode(answer["CiphertextForRecipient"])
        return {**answer, "CiphertextForRecipient": base64.b64encode(change(cms)).decode()}
    return rewrite


def earlier_answer(stage: Stage) -> None:
    """The CiphertextForRecipient of an earlier request, made for an earlier voucher's key."""
    kept = []

    def keep(s, request, status, answer):
        kept.append(json.loads(answer)["CiphertextForRecipient"])
        return http_answer(status, answer)
    always("ok", in_the_middle(keep))(stage)
    stage.honest()
    forged("cms-recipient", with_member("CiphertextForRecipient", kept[0]))(stage)


def decrypted_before(stage: Stage) -> None:
    """KMS's answer to an earlier Decrypt of the very same blob in the very same context."""
    kept: list[bytes] = []

    def keep(s, request, status, answer):
        kept.append(answer)
        return http_answer(status, answer)

    def serve(change) -> None:
        def relay(connection) -> None:
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
                in_the_middle(change)(stage, connection)
        stage.end_connections()
        stage.relay = relay
    serve(keep)
    assert problem(stage, "GET", "/v1/state/canary") == "ok"
    serve(lambda s, request, status, answer: http_answer(status, kept[0]))
    found = problem(stage, "GET", "/v1/state/canary")
    assert found == "cms-recipient", f"expected cms-recipient, found {found}"


def self_made(plaintext: bytes, key, named=None):
    """The answer with a ciphertext of the parent's own making: plaintext for key(stage, attested),
    under the id of named(stage, attested)."""
    def change(stage: Stage, answer: dict) -> dict:
        attested = cms.attested_key(stage.overheard[1])
        made = cms.wrap(stage.dir, plaintext, key(stage, attested),
                        named(stage, attested) if named else None)
        return {**answer, CIPHER: made}
    return change


def own(stage: Stage, attested: bytes) -> bytes:
    return cms.own_key(stage.dir)


def of_enclave(stage: Stage, attested: bytes) -> bytes:
    return attested


def swap_after(cms: bytes, mark: bytes, skip: int) -> bytes:
    at = cms.index(mark) + len(mark) + skip
    return cms[:at] + bytes([cms[at] ^ 1]) + cms[at + 1:]


def last_block_changed(cms: bytes) -> bytes:
    """The last byte of the last cipher block, in front of the ends of contents."""
    at = len(cms.rstrip(b"\0")) - 1
    return cms[:at] + bytes([cms[at] ^ 0x80]) + cms[at + 1:]


CIPHER, BLOB = "CiphertextForRecipient", "CiphertextBlob"
FORGED = [
    ("another key's id", forged("kms-key-mismatch",
                                with_member("KeyId", lambda s, a: s.keys["other"]))),
    ("an alias as key id", forged("kms-key-mismatch", with_member("KeyId", "alias/agent-state"))),
    ("no key id", forged("kms-response", without("KeyId"))),
    ("a key id that is a number", forged("kms-response", with_member("KeyId", 1))),
    ("a key id in upper case", forged("kms-key-mismatch",
                                      with_member("KeyId", lambda s, a: a["KeyId"].upper()))),
    ("a plaintext beside the ciphertext", forged("kms-plaintext", with_member(
        "Plaintext", base64.b64encode(bytes(32)).decode()))),
    ("a plaintext in its place", forged("kms-plaintext", lambda s, a: {
        **without(CIPHER)(s, a), "Plaintext": base64.b64encode(bytes(32)).decode()})),
    ("a private key's plaintext", forged("kms-plaintext", with_member("PrivateKeyPlaintext",
                                                                      "AAAA"))),
    ("a shared secret", forged("kms-plaintext", with_member("SharedSecret", "AAAA"))),
    ("an empty plaintext", forged("kms-plaintext", with_member("Plaintext", ""))),
    ("no ciphertext", forged("kms-response", without(CIPHER))),
    ("a null ciphertext", forged("kms-response", with_member(CIPHER, None))),
    ("an empty ciphertext", forged("kms-response", with_member(CIPHER, ""))),
    ("a ciphertext that is not base64", forged("kms-response", with_member(CIPHER, "!!!!"))),
    ("a ciphertext that is not CMS", forged("cms-format", with_member(
        CIPHER, base64.b64encode(b"x" * 400).decode()))),
    ("a ciphertext cut in half", forged("cms-format", cms_changed(lambda c: c[:len(c) // 2]))),
    ("a ciphertext with a byte more", forged("cms-format", cms_changed(lambda c: c + b"\0"))),
    ("a ciphertext twice", forged("cms-format", cms_changed(lambda c: c + c))),
    ("another recipient named", forged("cms-recipient", cms_changed(
        lambda c: swap_after(c, b"\x80\x20", 2)))),
    ("a changed wrapped key", forged("cms-open", cms_changed(
        lambda c: swap_after(c, b"\x04\x82\x01\x00", 40)))),
    ("the last cipher block changed", forged("cms-open", cms_changed(last_block_changed))),
    ("an earlier request's ciphertext", earlier_answer),
    ("a ciphertext of the parent's making, for a key of its own",
     forged("cms-recipient", self_made(bytes(32), own))),
    ("the same, under the attested key's id",
     forged("cms-open", self_made(bytes(32), own, of_enclave))),
    ("a ciphertext of the parent's making, for the attested key, a byte short",
     forged("kms-response", self_made(bytes(31), of_enclave))),
    ("the same, of no bytes", forged("cms-open", self_made(b"", of_enclave))),
    ("no blob", forged("kms-response", without(BLOB))),
    ("an empty blob", forged("kms-response", with_member(BLOB, ""))),
    ("a blob of 6145 bytes", forged("kms-response", with_member(
        BLOB, base64.b64encode(bytes(6145)).decode()))),
    ("a blob that is a number", forged("kms-response", with_member(BLOB, 5))),
    ("an array", forged("kms-response", lambda s, a: [a])),
    ("an empty object", forged("kms-response", lambda s, a: {})),
    ("text that is not JSON", forged("kms-response", lambda s, a: b"<html>")),
    ("no text", forged("kms-response", lambda s, a: b"")),
    ("a member twice", forged("kms-response", lambda s, a: json.dumps(a)[:-1].encode() +
                              b', "KeyId": "x"}')),
    ("a deep answer", forged("kms-response", lambda s, a: b"[" * 5000)),
    ("ten megabytes", forged("kms-response", lambda s, a: b" " * (10 << 20))),
]


HTTP = [
    ("a redirect", "kms-response", http_answer(301, b"", "Location: https://evil.example/\r\n")),
    ("a temporary redirect to another path", "kms-response",
     http_answer(307, b"", "Location: /other\r\n")),
    ("a demand for a proxy's password", "kms-response", http_answer(407, b"{}")),
    ("an error of no known name", "kms-unknown-error",
     http_answer(400, b'{"__type":"AllIsWellException"}')),
    ("an error whose name is a path", "kms-unknown-error",
     http_answer(400, b'{"__type":"../../etc/passwd"}')),
    ("an error with control characters", "AccessDeniedException", http_answer(
        400, b'{"__type":"AccessDeniedException","message":"\\u001b[2J\\r\\nspoofed line"}')),
    ("an error that is not JSON", "kms-response", http_answer(400, b"\xff\xfe")),
    ("an error with a success's members", "AccessDeniedException", lambda s, a: http_answer(
        400, json.dumps({**json.loads(a), "__type": "AccessDeniedException"}).encode())),
    ("an access denied that KMS did not say", "AccessDeniedException", http_answer(
        400, b'{"__type":"AccessDeniedException"}')),
    ("a status line alone", None, b"HTTP/1.1 200 OK\r\n\r\n"),
    ("a line that is not HTTP", None, b"SSH-2.0-OpenSSH\r\n"),
    ("two lengths that differ", None, lambda s, a: http_answer(
        200, a, "Content-Length: 5\r\n")),
    ("chunks and a length", None, lambda s, a: http_answer(
        200, a, "Transfer-Encoding: chunked\r\n")),
    ("a negative chunk", None, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n"),
    ("a huge length", None, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}"),
    ("a megabyte of headers", None, b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n"),
    ("a zero byte in a header", None, b"HTTP/1.1 200 OK\r\nX-A: \0\r\n\r\n"),
    ("compressed", None, lambda s, a: http_answer(200, os.urandom(100),
                                                  "Content-Encoding: gzip\r\n")),
    ("HTTP/2", None, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]


def answered_once(code, text):
    """Where no code is given, any of KMS's own may be told, and nothing else may happen."""
    if code:
        return replied(code, text)

    def attack(stage: Stage) -> None:
        met = []

        def serve(s, r, st, a):
            met.append(1)
            return text if isinstance(text, bytes) else text(s, a)

        def relay(connection) -> None:
            if met:
                stage.relay_to_kms(connection)
                return
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
                in_the_middle(lambda s, r, st, a: once_and_close(s, serve(s, r, st, a)))(
                    stage, connection)
        stage.end_connections()
        stage.relay = relay
        try:
            stage.ask_setup(stage.request())
        except Refused as refusal:
            assert refusal.code.startswith("kms-") or refusal.code == "internal", refusal
        assert met, "the attack did not happen"
    return attack


def once_and_close(stage: Stage, text: bytes) -> bytes:
    threading.Timer(0.3, stage.end_connections).start()
    return text


def unseal_with(code: str, change):
    """The same for Decrypt: the agent's unseal."""
    def attack(stage: Stage) -> None:
        def rewrite(s, request, status, answer):
            return http_answer(status, json.dumps(change(s, json.loads(answer))).encode())

        def relay(connection) -> None:
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
                in_the_middle(rewrite)(stage, connection)
        stage.end_connections()
        stage.relay = relay
        found = problem(stage, "GET", "/v1/state/canary")
        assert found == code, f"expected {code}, found {found}"
    return attack


def swapped_answers(stage: Stage) -> None:
    """Two unseals at once, each answered with the other's ciphertext."""
    waiting = threading.Barrier(2)
    answers: dict[int, bytes] = {}
    lock = threading.Lock()

    def rewrite(s, request, status, answer):
        with lock:
            mine = len(answers)
            answers[mine] = answer
        with contextlib.suppress(threading.BrokenBarrierError):
            waiting.wait(5)
        return http_answer(status, answers.get(1 - mine, answer))

    def relay(connection) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
            in_the_middle(rewrite)(stage, connection)
    stage.end_connections()
    stage.relay = relay
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(
        problem(stage, "GET", "/v1/state/canary"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["cms-recipient"] * 2, found


def every_request_is_attested(stage: Stage) -> None:
    """What the one in the middle hears: each request carries a document made for it alone."""
    def keep(s, request, status, answer):
        heard.append(request)
        return http_answer(status, answer)
    heard: list[dict] = []
    always("ok", in_the_middle(keep))(stage)
    assert problem(stage, "GET", "/v1/state/canary") == "ok"
    documents = [r["Recipient"]["AttestationDocument"] for r in heard]
    assert len(documents) >= 2 and len(set(documents)) == len(documents)
    for request in heard:
        assert request["KeyId"] == stage.keys["agent-state"], request
        assert CANARY not in json.dumps(request).encode()


DECRYPT = [
    ("another key's id", unseal_with("kms-key-mismatch",
                                     with_member("KeyId", lambda s, a: s.keys["other"]))),
    ("no key id", unseal_with("kms-response", without("KeyId"))),
    ("a plaintext", unseal_with("kms-plaintext", with_member("Plaintext", "AAAA"))),
    ("a changed wrapped key", unseal_with("cms-open", cms_changed(
        lambda c: swap_after(c, b"\x04\x82\x01\x00", 40)))),
    ("two answers swapped", swapped_answers),
    ("the answer to an earlier Decrypt of the same blob", decrypted_before),
    ("a data key of the parent's making, for the attested key",
     unseal_with("seal-commitment", self_made(bytes(range(32)), of_enclave))),
    ("a data key of the parent's making, for a key of its own",
     unseal_with("cms-recipient", self_made(bytes(range(32)), own))),
    ("every request heard", every_request_is_attested),
]

ATTACKS = (
    [("relay", f"stream: {name}", run) for name, run in STREAM + BYTES] +
    [("relay", f"TLS: {name}", run) for name, run in TLS] +
    [("relay", f"forged answer: {name}", run) for name, run in FORGED] +
    [("relay", f"HTTP: {name}", answered_once(code, text)) for name, code, text in HTTP] +
    [("relay", f"forged Decrypt: {name}", run) for name, run in DECRYPT])
