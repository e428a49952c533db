"""Attacks on the enclave's control address: key setup requests, and the frames that carry them."""
from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time

from stage import CALL, DATA, END, FAULT, RESULT, Refused, Stage, frame, message

FORMAT, NO_KEY, CONTEXT = "request-format", "policy-no-key", "policy-context"
ARN = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def refuses(stage: Stage, code: str, act) -> None:
    """act() must end in a fault of this code."""
    try:
        answer = act()
    except Refused as refusal:
        assert refusal.code == code, f"expected {code}, found {refusal}"
        return
    raise AssertionError(f"expected {code}, found an answer: {answer}")


def setup(code: str, build):
    """An attack: the setup request that build(stage) gives must be refused with this code."""
    return lambda stage: refuses(stage, code, lambda: stage.ask_setup(build(stage)))


def key_id(code: str, change):
    return setup(code, lambda s: s.request(keyId=change(s.keys["agent-state"])))


def context(code: str, value):
    return setup(code, lambda s: s.request(encryptionContext=value))


def text(code: str, change):
    """change(text of the honest request) -> bytes"""
    return setup(code, lambda s: change(json.dumps(s.request())))


def swap_pair(arn: str, at: int) -> str:
    return arn[:at] + arn[at + 1] + arn[at] + arn[at + 2:]


KEY_IDS = [
    ("another key of the same account", setup(NO_KEY, lambda s: s.request(keyId=s.keys["other"]))),
    ("a key that KMS does not have", key_id(NO_KEY, lambda k: ARN)),
    ("an alias", key_id(NO_KEY, lambda k: "alias/agent-state")),
    ("an alias ARN", key_id(NO_KEY, lambda k: k.split(":key/")[0] + ":alias/agent-state")),
    ("the bare key id", key_id(NO_KEY, lambda k: k.split("/")[1])),
    ("the key of another region", key_id(NO_KEY, lambda k: k.replace("us-east-1", "us-west-2"))),
    ("the key of another account", key_id(NO_KEY, lambda k: k.replace("123456789012",
                                                                      "210987654321"))),
    ("the key of another partition", key_id(NO_KEY, lambda k: k.replace("arn:aws:",
                                                                        "arn:aws-cn:"))),
    ("the key of another service", key_id(NO_KEY, lambda k: k.replace(":kms:", ":s3:"))),
    ("upper case", key_id(NO_KEY, str.upper)),
    ("one letter in upper case", key_id(NO_KEY, lambda k: k.replace("arn", "Arn"))),
    ("a space behind", key_id(NO_KEY, lambda k: k + " ")),
    ("a space in front", key_id(NO_KEY, lambda k: " " + k)),
    ("a line break behind", key_id(NO_KEY, lambda k: k + "\n")),
    ("a zero byte behind", key_id(FORMAT, lambda k: k + "\0")),
    ("a zero byte and another key behind", key_id(FORMAT, lambda k: k + "\0" + ARN)),
    ("another key and a zero byte in front", key_id(FORMAT, lambda k: ARN + "\0" + k)),
    ("one byte cut off", key_id(NO_KEY, lambda k: k[:-1])),
    ("one byte more", key_id(NO_KEY, lambda k: k + "0")),
    ("a letter that looks the same", key_id(NO_KEY, lambda k: k.replace("a", "\u0430", 1))),
    ("a full-width colon", key_id(NO_KEY, lambda k: k.replace(":", "\uff1a", 1))),
    ("a combining mark behind", key_id(NO_KEY, lambda k: k + "\u0301")),
    ("a zero-width space inside", key_id(NO_KEY, lambda k: k[:20] + "\u200b" + k[20:])),
    ("percent encoding", key_id(NO_KEY, lambda k: k.replace("/", "%2f"))),
    ("a path that leads back", key_id(NO_KEY, lambda k: k.replace("key/", "key/../key/"))),
    ("a wildcard", key_id(NO_KEY, lambda k: "*")),
    ("a wildcard behind the account", key_id(NO_KEY, lambda k: k.split("/")[0] + "/*")),
    ("a multi-Region key's prefix", key_id(NO_KEY, lambda k: k.replace("key/", "key/mrk-"))),
    ("an empty key id", key_id(NO_KEY, lambda k: "")),
    ("a key id of 10,000 bytes", key_id(NO_KEY, lambda k: k + "x" * 10000)),
    ("the key's name in the policy", key_id(NO_KEY, lambda k: "agent-state")),
    ("a template", key_id(NO_KEY, lambda k: "${enclave}")),
    ("a boolean", key_id(FORMAT, lambda k: True)),
    ("null", text(FORMAT, lambda t: json.dumps({**json.loads(t), "keyId": None}).encode())),
    ("a number", key_id(FORMAT, lambda k: 1)),
    ("a list of the key and another", setup(FORMAT, lambda s: s.request(
        keyId=[s.keys["agent-state"], s.keys["other"]]))),
    ("an object", key_id(FORMAT, lambda k: {"arn": k})),
    ("no key id", setup(FORMAT, lambda s: s.request(keyId=None))),
    ("every neighbouring pair of bytes swapped", lambda s: [
        refuses(s, NO_KEY, lambda: s.ask_setup(s.request(keyId=swapped)))
        for k in [s.keys["agent-state"]] for i in range(len(k) - 1)
        for swapped in [swap_pair(k, i)] if swapped != k]),
    ("every byte replaced by its neighbour", lambda s: [
        refuses(s, NO_KEY, lambda: s.ask_setup(
            s.request(keyId=k[:i] + chr(ord(k[i]) ^ 1) + k[i + 1:])))
        for k in [s.keys["agent-state"]] for i in range(len(k))]),
]

PAIRS = {"Purpose": "AgentSecrets"}
CONTEXTS = [
    ("another value", context(CONTEXT, {"Purpose": "Other"})),
    ("the value in lower case", context(CONTEXT, {"Purpose": "agentsecrets"})),
    ("a space behind the value", context(CONTEXT, {"Purpose": "AgentSecrets "})),
    ("a zero byte behind the value", context(FORMAT, {"Purpose": "AgentSecrets\0"})),
    ("the name in lower case", context(CONTEXT, {"purpose": "AgentSecrets"})),
    ("an empty name", context(CONTEXT, {**PAIRS, "": "x"})),
    ("one pair more", context(CONTEXT, {**PAIRS, "extra": "x"})),
    ("one pair more, in the name of AWS", context(CONTEXT, {**PAIRS, "aws:pcr0": "x"})),
    ("one pair more, in our own name", context(CONTEXT, {**PAIRS, "claviger:name": "canary"})),
    ("another generation, in our own name", context(CONTEXT, {"claviger:generation": "1"})),
    ("another enclave's name", context(CONTEXT, {**PAIRS, "enclave": "other-runtime"})),
    ("a template as value", context(CONTEXT, {"enclave": "${enclave}"})),
    ("a template that would be empty", context(CONTEXT, {"enclave": "agent-runtime${none}"})),
    ("the policy's register as value", context(CONTEXT, {"enclave": "${policy}"})),
    ("a value with a look-alike letter", context(CONTEXT, {"Purpose": "\u0410gentSecrets"})),
    ("a value in another normal form", context(CONTEXT, {"Purpose": "AgentSecrets\u0301"})),
    ("an empty value", context(CONTEXT, {"Purpose": ""})),
    ("a value of 10,000 bytes", context(CONTEXT, {"Purpose": "A" * 10000})),
    ("a hundred pairs", context(FORMAT, {f"k{i}": "v" for i in range(100)})),
    ("a null value", context(FORMAT, {"Purpose": None})),
    ("a number as value", context(FORMAT, {"Purpose": 1})),
    ("a list as value", context(FORMAT, {"Purpose": ["AgentSecrets"]})),
    ("an object as value", context(FORMAT, {"Purpose": {"is": "AgentSecrets"}})),
    ("a list as context", context(FORMAT, ["Purpose", "AgentSecrets"])),
    ("a text as context", context(FORMAT, "Purpose=AgentSecrets")),
    ("a number as context", context(FORMAT, 1)),
    ("the pair twice, wrong first", text(FORMAT, lambda t: t.replace(
        '{"Purpose"', '{"Purpose": "Other", "Purpose"').encode())),
    ("the pair twice, wrong last", text(FORMAT, lambda t: t.replace(
        '"AgentSecrets"}', '"AgentSecrets", "Purpose": "Other"}').encode())),
    ("the context twice", text(FORMAT, lambda t: t.replace(
        '"encryptionContext"', '"encryptionContext": {"Purpose": "x"}, "encryptionContext"')
        .encode())),
    ("another name by escapes", text(CONTEXT, lambda t: t.replace(
        '"Purpose"', '"\\u0050urpose2"').encode())),
]

MEMBERS = [("a member more: " + name, setup(FORMAT, lambda s, n=name, v=value: s.request(**{n: v})))
           for name, value in [
               ("operation", "Decrypt"), ("numberOfBytes", 1), ("keySpec", "AES_128"),
               ("grantTokens", ["x"]), ("recipient", {"AttestationDocument": ""}),
               ("attestationDocument", "hEShATgi"), ("endpoint", "https://evil.example"),
               ("region", "us-west-2"), ("credentials", {"AccessKeyId": "AKIAEVIL"}),
               ("plaintext", True), ("ciphertextBlob", "AAAA"), ("KeyId", ARN), ("keyid", ARN),
               ("nonce", "00"), ("publicKey", "MIIB"), ("policy", {}), ("dryRun", True)]]

BODIES = [
    ("nothing", text(FORMAT, lambda t: b"")),
    ("white space", text(FORMAT, lambda t: b" \n ")),
    ("an array", text(FORMAT, lambda t: f"[{t}]".encode())),
    ("null", text(FORMAT, lambda t: b"null")),
    ("a text", text(FORMAT, lambda t: json.dumps(t).encode())),
    ("two requests", text(FORMAT, lambda t: (t + t).encode())),
    ("a request and a letter", text(FORMAT, lambda t: (t + "x").encode())),
    ("a request and a zero byte", text(FORMAT, lambda t: t.encode() + b"\0")),
    ("a zero byte and a request", text(FORMAT, lambda t: b"\0" + t.encode())),
    ("a byte order mark", text(FORMAT, lambda t: b"\xef\xbb\xbf" + t.encode())),
    ("UTF-16", text(FORMAT, lambda t: t.encode("utf-16"))),
    ("a byte that is not UTF-8", text(FORMAT, lambda t: t.encode().replace(b"Agent", b"\xff"))),
    ("an overlong encoding", text(FORMAT, lambda t: t.encode().replace(b"A", b"\xc1\x81"))),
    ("a lone surrogate", text(FORMAT, lambda t: t.replace("AgentSecrets", "\\ud800").encode())),
    ("a comment", text(FORMAT, lambda t: ("/* */" + t).encode())),
    ("a trailing comma", text(FORMAT, lambda t: t.replace("}}", "},}").encode())),
    ("single quotes", text(FORMAT, lambda t: t.replace('"', "'").encode())),
    ("NaN", text(FORMAT, lambda t: t.replace('"AgentSecrets"', "NaN").encode())),
    ("the key id twice, another first", setup(FORMAT, lambda s: json.dumps(s.request()).replace(
        '"keyId"', f'"keyId": "{s.keys["other"]}", "keyId"').encode())),
    ("the key id twice, another last", setup(FORMAT, lambda s: json.dumps(s.request()).replace(
        '}}', f'}}, "keyId": "{s.keys["other"]}"}}').encode())),
    ("the key id twice, once by escapes", setup(FORMAT, lambda s: json.dumps(s.request()).replace(
        '"keyId"', f'"\\u006beyId": "{s.keys["other"]}", "keyId"').encode())),
    ("a thousand nested arrays", text(FORMAT, lambda t: b"[" * 1000 + b"]" * 1000)),
    ("nested as deep as there is room", text(FORMAT, lambda t: b'{"a":' * 3000)),
    ("16 KiB and a byte", text(FORMAT, lambda t: t.encode().ljust(16385))),
    ("a megabyte of spaces", text(FORMAT, lambda t: t.encode().ljust(1 << 20))),
    ("cut off at every byte", lambda s: [
        refuses(s, FORMAT, lambda: s.ask_setup(t[:i]))
        for t in [json.dumps(s.request()).encode()] for i in range(len(t))]),
]


def op(code: str, call, data: bytes = b""):
    return lambda s: refuses(s, code, lambda: s.call(call, data))


CALLS = [
    ("an operation that there is not", op(FORMAT, {"op": "decrypt"})),
    ("a service of the parent's", op("json-unknown", {"op": "state.get", "name": "x"})),
    ("an operation as number", op("json-type", {"op": 1})),
    ("no operation", op("json-missing", {})),
    ("a member more", op("json-unknown", {"op": "status", "verbose": True})),
    ("a request in the call's JSON", lambda s: refuses(
        s, "json-unknown", lambda: s.call({"op": "setup", **s.request()}))),
    ("data that none was asked for", op(FORMAT, {"op": "status"}, b"x")),
    ("setup without data", op(FORMAT, {"op": "setup"})),
    ("an operation of 60,000 bytes", op(FORMAT, {"op": "s" * 60000})),
    ("an operation with a zero byte", op("json-malformed", {"op": "setup\0"})),
    ("an array as call", op("json-type", b"[]")),
    ("a call that is not JSON", op("json-malformed", b"\x80\x81")),
    ("an empty call", op("json-malformed", b"")),
    ("the operation twice", op("json-malformed", b'{"op":"status","op":"setup"}')),
]


def raw(*pieces: bytes, code: str | None = None, pause: float = 0, half_close: bool = False):
    """Send these bytes; the enclave must drop the connection, with a fault of this code at most."""
    def attack(stage: Stage) -> None:
        with stage.dial(10) as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                stage.hear(connection)
            except Refused as refusal:
                assert code == refusal.code, f"expected {code}, found {refusal}"
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(1) == b"", "the connection stays open after nonsense"
                return
            except (ConnectionError, BrokenPipeError, json.JSONDecodeError):
                assert code is None, f"expected {code}, found a closed connection"
                return
        raise AssertionError("expected a refusal, found an answer")
    return attack


STATUS = message(CALL, {"op": "status"})
FRAMES = [
    ("version 0", raw(frame(CALL, b"{}", version=0), code="frame-format")),
    ("version 2", raw(frame(CALL, b"{}", version=2), code="frame-format")),
    ("version 255", raw(frame(CALL, b"{}", version=255), code="frame-format")),
    ("type 0", raw(frame(0, b"{}"), code="frame-format")),
    ("type 6", raw(frame(6, b"{}"), code="frame-format")),
    ("type 255", raw(frame(255, b"{}"), code="frame-format")),
    ("reserved bits", raw(frame(CALL, b"{}", reserved=1), code="frame-format")),
    ("an answer in a call's place", raw(frame(RESULT, b"{}"), code="frame-type")),
    ("a fault in a call's place", raw(frame(FAULT, b"{}"), code="frame-type")),
    ("data in a call's place", raw(frame(DATA, b"x"), code="frame-type")),
    ("an end in a call's place", raw(frame(END), code="frame-type")),
    ("a call in data's place", raw(frame(CALL, b'{"op":"setup"}') * 2, code="frame-type")),
    ("a fault in data's place", raw(frame(CALL, b'{"op":"setup"}') + frame(FAULT, b"{}"),
                                   code="frame-type")),
    ("an empty piece of data", raw(frame(CALL, b'{"op":"setup"}') + frame(DATA),
                                   code="frame-type")),
    ("an end with a payload", raw(frame(CALL, b'{"op":"setup"}') + frame(END, b"x"),
                                  code="frame-type")),
    ("a length of a megabyte and a byte", raw(frame(CALL, b"", length=(1 << 20) + 1),
                                              code="too-large")),
    ("the largest length", raw(frame(CALL, b"", length=0xffffffff), code="too-large")),
    ("a negative length", raw(frame(CALL, b"", length=0x80000000), code="too-large")),
    ("a call of 64 KiB and a byte", raw(message(CALL, b" " * 65537), code="too-large")),
    ("data beyond the limit", lambda s: flood_data(s)),
    ("a header cut short", raw(frame(CALL)[:7], half_close=True)),
    ("a payload cut short", raw(frame(CALL, b"{}", length=100), half_close=True)),
    ("a call without its end", raw(frame(CALL, b'{"op":"status"}'), half_close=True)),
    ("an HTTP request", raw(b"POST /setup HTTP/1.1\r\nHost: enclave\r\n\r\n", code="frame-format")),
    ("a TLS hello", raw(bytes.fromhex("160301020001"), b"\0" * 512, code="frame-format")),
    ("a line of text", raw(b'{"op":"setup"}\n', code="frame-format")),
    ("random bytes", raw(random.Random(1).randbytes(4096), code="frame-format")),
    ("zeros", raw(bytes(4096), code="frame-format")),
]


def flood_data(stage: Stage) -> None:
    """More data than any call may carry: refused before the end, and not kept."""
    piece = frame(DATA, bytes(1 << 20))
    with stage.dial(60) as connection:
        try:
            connection.sendall(frame(CALL, b'{"op":"setup"}'))
            for _ in range(80):
                connection.sendall(piece)
            stage.hear(connection)
        except Refused as refusal:
            assert refusal.code == "too-large", refusal
        except OSError:
            pass
        else:
            raise AssertionError("80 MiB were taken")


def bytewise(stage: Stage) -> None:
    """An honest request, one byte at a time: slow is not wrong."""
    with stage.dial() as connection:
        for byte in message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode()):
            connection.sendall(bytes([byte]))
        members, _ = stage.hear(connection)
        assert members["keyId"] == stage.keys["agent-state"]


def half_open(count: int, sent: bytes):
    """Connections that say so much and no more stay open while an honest request is served."""
    def attack(stage: Stage) -> None:
        held = [stage.dial() for _ in range(count)]
        for connection in held:
            with contextlib.suppress(OSError):  # beyond the slots it is refused at once
                connection.sendall(sent)
        stage.check_honest()
        for connection in held:
            connection.close()
        settle(stage)
    return attack


def settle(stage: Stage) -> None:
    """Slots are given back when a flood ends: the control address answers again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            stage.call({"op": "status"})
            return
        except (OSError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def flood(count: int):
    """Connections opened and closed as fast as it goes."""
    def attack(stage: Stage) -> None:
        for _ in range(count):
            stage.dial().close()
        settle(stage)
    return attack


def leave_early(stage: Stage) -> None:
    """Ask and go, many times, so that the enclave answers into closed connections."""
    text = message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode())
    for _ in range(8):
        with stage.dial() as connection:
            connection.sendall(text)
    settle(stage)


def never_read(stage: Stage) -> None:
    """Ask a thousand times and never read: the enclave must not keep the answers for us."""
    with stage.dial(2) as connection:
        try:
            for _ in range(1000):
                connection.sendall(STATUS)
        except OSError:
            pass
        stage.check_honest()
    settle(stage)


def pipelined(stage: Stage) -> None:
    """Two calls in one piece are two calls, answered in order."""
    bad = message(CALL, {"op": "setup"}, json.dumps(stage.request(keyId=ARN)).encode())
    with stage.dial() as connection:
        connection.sendall(STATUS + bad + STATUS)
        assert "identity" in stage.hear(connection)[0]
        refuses(stage, NO_KEY, lambda: stage.hear(connection))
        assert "identity" in stage.hear(connection)[0]


def interleaved(connections: int, other):
    """Honest and dishonest requests at once, cut into pieces and sent in turns."""
    def attack(stage: Stage) -> None:
        good = message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode())
        bad = message(CALL, {"op": "setup"}, json.dumps(other(stage)).encode())
        texts = [good if i % 2 == 0 else bad for i in range(connections)]
        held = [stage.dial() for _ in texts]
        size = max(map(len, texts))
        for at in range(0, size, 7):
            for connection, one in zip(held, texts):
                connection.sendall(one[at:at + 7])
        for i, connection in enumerate(held):
            try:
                members, _ = stage.hear(connection)
                assert i % 2 == 0 and members["keyId"] == stage.keys["agent-state"], members
            except Refused as refusal:
                assert i % 2 == 1, f"an honest request was refused: {refusal}"
            connection.close()
    return attack


def spliced(other):
    """The honest request up to a byte, another one from there: at every byte. What comes out is
    refused, or is the policy's own key and context."""
    def attack(stage: Stage) -> None:
        good, bad = json.dumps(stage.request()).encode(), json.dumps(other(stage)).encode()
        longest = max(len(good), len(bad))
        for text in sorted({good[:at] + bad[at:] for at in range(longest)} - {good}):
            try:
                members, _ = stage.ask_setup(text)
            except Refused:
                continue
            assert members["keyId"] == stage.keys["agent-state"], members
            assert members["encryptionContext"] == {"Purpose": "AgentSecrets",
                                                    "enclave": "agent-runtime"}, members
    return attack


def between_bytes(code: str, other):
    """Between every two bytes of an honest request, a whole other one on another connection."""
    def attack(stage: Stage) -> None:
        with stage.dial(60) as connection:
            for byte in message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode()):
                connection.sendall(bytes([byte]))
                refuses(stage, code, lambda: stage.ask_setup(other(stage)))
            members, _ = stage.hear(connection)
        assert members["keyId"] == stage.keys["agent-state"], members
        assert members["encryptionContext"] == {"Purpose": "AgentSecrets",
                                                "enclave": "agent-runtime"}, members
    return attack


def replayed_frames(stage: Stage) -> None:
    """An old call's frames, byte for byte, on its own connection and on others: each is a call of
    its own, with a key and a document that no call had before."""
    frames = message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode())
    blobs, documents = [], []
    for _ in range(2):
        with stage.dial() as connection:
            for _ in range(2):
                connection.sendall(frames)
                members, document = stage.hear(connection)
                blobs.append(members["ciphertextBlob"])
                documents.append(document)
    assert len(set(blobs)) == len(set(documents)) == 4, "a replay gave the same again"


def frames_of_two(stage: Stage) -> None:
    """Frames of an old call put between those of a new one: both calls are then malformed."""
    old = message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode())
    new = json.dumps(stage.request(keyId=stage.keys["other"])).encode()
    raw(frame(CALL, b'{"op":"setup"}') + old + frame(DATA, new) + frame(END),
        code="frame-type")(stage)


def changed_while_read(stage: Stage) -> None:
    """The piece with the key id is held back until the rest was sent, then sent wrong."""
    text = json.dumps(stage.request()).encode()
    cut = text.index(b"key/") + 4
    with stage.dial() as connection:
        connection.sendall(frame(CALL, b'{"op":"setup"}') + frame(DATA, text[:cut]))
        time.sleep(0.05)
        stage.call({"op": "status"})
        connection.sendall(frame(DATA, b"0" * 36 + text[cut + 36:]) + frame(END))
        refuses(stage, NO_KEY, lambda: stage.hear(connection))


def at_once(stage: Stage) -> None:
    """Twelve honest requests at once: each gets a key of its own."""
    blobs, problems = [], []

    def ask() -> None:
        try:
            blobs.append(stage.ask_setup(stage.request())[0]["ciphertextBlob"])
        except Exception as problem:  # noqa: BLE001 -- reported below
            problems.append(problem)
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(blobs)) == len(blobs) and not problems, problems


CONNECTIONS = [
    ("an honest request byte by byte", bytewise),
    ("half-open connections that say nothing", half_open(12, b"")),
    ("half-open connections within a header", half_open(12, frame(CALL)[:5])),
    ("half-open connections within a call", half_open(12, frame(CALL, b"{", length=100))),
    ("half-open connections within data", half_open(12, frame(CALL, b'{"op":"setup"}'))),
    ("more half-open connections than there are slots", half_open(40, b"\x01")),
    ("a flood of 300 connections", flood(300)),
    ("leaving before the answer", leave_early),
    ("never reading an answer", never_read),
    ("calls pipelined in one piece", pipelined),
    ("another key interleaved on 14 connections",
     interleaved(14, lambda s: s.request(keyId=s.keys["other"]))),
    ("another context interleaved on 14 connections",
     interleaved(14, lambda s: s.request(encryptionContext={"Purpose": "Other"}))),
    ("another key asked for between every two bytes",
     between_bytes(NO_KEY, lambda s: s.request(keyId=s.keys["other"]))),
    ("another context asked for between every two bytes",
     between_bytes(CONTEXT, lambda s: s.request(encryptionContext={"Purpose": "Other"}))),
    ("an old call's frames replayed", replayed_frames),
    ("an old call's frames between those of another", frames_of_two),
    ("another key spliced in at every byte", spliced(lambda s: s.request(keyId=s.keys["other"]))),
    ("another context spliced in at every byte",
     spliced(lambda s: s.request(encryptionContext={"Purpose": "OtherSecrets"}))),
    ("another operation spliced in at every byte",
     spliced(lambda s: s.request(operation="Decrypt"))),
    ("the key id changed while the request is read", changed_while_read),
    ("twelve requests at once", at_once),
]

ATTACKS = (
    [("control", f"key id: {name}", run) for name, run in KEY_IDS] +
    [("control", f"context: {name}", run) for name, run in CONTEXTS] +
    [("control", f"request: {name}", run) for name, run in MEMBERS + BODIES] +
    [("control", f"call: {name}", run) for name, run in CALLS] +
    [("control", f"frame: {name}", run) for name, run in FRAMES] +
    [("control", f"connections: {name}", run) for name, run in CONNECTIONS])
