"""Attacks by the answers that the parent gives to the enclave's own calls: its store."""
from __future__ import annotations

import base64
import json
import os
import struct
import time

from stage import (CALL, CANARY, DATA, END, RESULT, Stage, fault, frame, message, read_message,
                   wrapped_key)

NAME = "agent-state/canary"
OTHER = b"another state of the same agent"


def problem(stage: Stage, method: str, path: str, body: bytes | None = None) -> str:
    """The code that the agent's request is refused with; "ok" where it is served."""
    status, _, answer = stage.api(method, path, body)
    if status < 300:
        return "ok"
    return json.loads(answer)["code"]


def get(code: str, answer):
    """The store answers state.get with answer(stage, call, data): the agent is told this code."""
    def attack(stage: Stage) -> None:
        stage.services["state.get"] = lambda call, data: answer(stage, call, data)
        found = problem(stage, "GET", "/v1/state/canary")
        assert found == code, f"expected {code}, found {found}"
    return attack


def stored(stage: Stage) -> bytes:
    return stage.states[NAME][1]


def other(stage: Stage) -> bytes:
    """The sealed message of another state of the same agent."""
    if "agent-state/other" not in stage.states:
        assert problem(stage, "PUT", "/v1/state/other", OTHER) == "ok"
    return stage.states["agent-state/other"][1]


def sealed(code: str, change):
    """The blob in the store becomes change(blob, stage)."""
    return get(code, lambda s, call, data: message(
        RESULT, {"generation": s.states[NAME][0]}, change(stored(s), s)))


def prepared(code: str, change):
    """Like sealed(), but what change() needs is there before the enclave asks."""
    def attack(stage: Stage) -> None:
        other(stage)
        sealed(code, change)(stage)
    return attack


def answered(code: str, text: bytes):
    return get(code, lambda s, call, data: text)


def generation(code: str, value):
    return get(code, lambda s, call, data: message(RESULT, {"generation": value}, stored(s)))


def flip(blob: bytes, at: int) -> bytes:
    at %= len(blob)
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1:]


def with_key_of(blob: bytes, donor: bytes) -> bytes:
    """The wrapped data key of another message in this one's place."""
    return blob.replace(wrapped_key(blob), wrapped_key(donor), 1)


def header_size(blob: bytes) -> int:
    at = 35 + 2 + struct.unpack_from(">H", blob, 35)[0] + 2
    for _ in range(3):
        at += 2 + struct.unpack_from(">H", blob, at)[0]
    return at + 1 + 4 + 32 + 16


def older_as_newest(stage: Stage) -> None:
    """An older message under the newest generation: the two are bound together."""
    assert problem(stage, "PUT", "/v1/state/aging", b"old") == "ok"
    old = stage.states["agent-state/aging"]
    assert problem(stage, "PUT", "/v1/state/aging", b"new") == "ok"
    stage.services["state.get"] = lambda call, data: message(RESULT, {"generation": 2}, old[1])
    found = problem(stage, "GET", "/v1/state/aging")
    assert found == "seal-context", found


def delayed(stage: Stage) -> None:
    """The store takes three seconds; other requests do not wait for it."""
    def slow(call, data):
        time.sleep(3)
        return stage.answer(call, data)
    stage.services["state.get"] = slow
    assert problem(stage, "GET", "/v1/state/canary") == "ok"


def trickled(stage: Stage) -> None:
    """An honest answer in single bytes is an honest answer."""
    whole = stage.answer({"op": "state.get", "name": NAME}, b"")

    def serve(connection):
        read_message(connection)
        for i in range(len(whole)):
            connection.sendall(whole[i:i + 1])
    stage.servers[0].serve, honest = serve, stage.servers[0].serve
    try:
        assert problem(stage, "GET", "/v1/state/canary") == "ok"
    finally:
        stage.servers[0].serve = honest


def closed_at(size: int):
    """The answer ends after so many bytes."""
    def attack(stage: Stage) -> None:
        stage.services["state.get"] = lambda call, data: stage.answer(call, data)[:size]
        found = problem(stage, "GET", "/v1/state/canary")
        assert found in ("closed", "frame-format", "store-failed"), found
    return attack


SEALED = [
    ("another state's message", prepared("seal-context", lambda b, s: other(s))),
    ("another state's wrapped key", prepared("InvalidCiphertextException",
                                             lambda b, s: with_key_of(b, other(s)))),
    ("another state's header", prepared("seal-context", lambda b, s: other(s)[
        :header_size(other(s))] + b[header_size(b):])),
    ("another state's body", prepared("seal-authentication", lambda b, s: b[
        :header_size(b)] + other(s)[header_size(other(s)):])),
    ("the body of a longer message behind", prepared("seal-trailing", lambda b, s: b + other(s)[
        header_size(other(s)):])),
    ("a key setup's blob as wrapped key", lambda s: setup_blob(s)),
    ("an empty message", sealed("truncated", lambda b, s: b"")),
    ("one byte", sealed("truncated", lambda b, s: b[:1])),
    ("the header alone", sealed("truncated", lambda b, s: b[:header_size(b)])),
    ("the last byte cut off", sealed("truncated", lambda b, s: b[:-1])),
    ("a byte more", sealed("seal-trailing", lambda b, s: b + b"\0")),
    ("the message twice", sealed("seal-trailing", lambda b, s: b + b)),
    ("random bytes", sealed("seal-version", lambda b, s: b"\x80" + os.urandom(1000))),
    ("a megabyte of zeros", sealed("seal-version", lambda b, s: bytes(1 << 20))),
    ("version 1", sealed("seal-version", lambda b, s: b"\x01" + b[1:])),
    ("another suite", sealed("seal-suite", lambda b, s: b[:1] + b"\x05\x78" + b[3:])),
    ("a suite without commitment", sealed("seal-suite", lambda b, s: b[:1] + b"\x01\x78" + b[3:])),
    ("another message id", sealed("seal-commitment", lambda b, s: flip(b, 3))),
    ("another name in the context", sealed("seal-context", lambda b, s: b.replace(
        b"claviger:name", b"claviger:nane", 1))),
    ("another value in the context", sealed("seal-context", lambda b, s: b.replace(
        b"AgentSecrets", b"AgentSecretz", 1))),
    ("another enclave in the context", sealed("seal-context", lambda b, s: b.replace(
        b"agent-runtime", b"agent-runtimE", 1))),
    ("another key's ARN", sealed("seal-key", lambda b, s: b.replace(
        s.keys["agent-state"].encode(), s.keys["other"].encode(), 1))),
    ("another provider", sealed("seal-key", lambda b, s: b.replace(b"aws-kms", b"aws-kmz", 1))),
    ("a changed wrapped key", sealed("InvalidCiphertextException", lambda b, s: b.replace(
        wrapped_key(b), flip(wrapped_key(b), -1), 1))),
    ("a changed commitment", sealed("seal-commitment", lambda b, s: flip(b, header_size(b) - 20))),
    ("a changed header tag", sealed("seal-authentication",
                                    lambda b, s: flip(b, header_size(b) - 1))),
    ("a changed body", sealed("seal-authentication", lambda b, s: flip(b, -20))),
    ("a changed tag", sealed("seal-authentication", lambda b, s: flip(b, -1))),
    ("a changed frame number", sealed("seal-authentication",
                                      lambda b, s: flip(b, header_size(b) + 7))),
    ("an older message under the newest generation", older_as_newest),
]


def setup_blob(stage: Stage) -> None:
    """A key that was made for the parent's request cannot open or take the place of a state's."""
    blob = base64.b64decode(stage.ask_setup(stage.request())[0]["ciphertextBlob"])
    whole = stored(stage)
    old = wrapped_key(whole)
    changed = whole.replace(struct.pack(">H", len(old)) + old, struct.pack(">H", len(blob)) + blob)
    sealed("InvalidCiphertextException", lambda b, s: changed)(stage)


GENERATIONS = [
    ("0", generation("frame-format", 0)), ("-1", generation("frame-format", -1)),
    ("the next", generation("seal-context", 2)),
    ("2^53 and one", generation("frame-format", (1 << 53) + 1)),
    ("2^63", generation("store-failed", 1 << 63)),
    ("a fraction", generation("frame-format", 1.0)), ("a text", generation("frame-format", "1")),
    ("null", generation("frame-format", None)), ("a list", generation("frame-format", [1])),
    ("true", generation("frame-format", True)),
]

ANSWERS = [
    ("no members", answered("frame-format", message(RESULT, {}))),
    ("a member more", get("frame-format", lambda s, c, d: message(
        RESULT, {"generation": 1, "name": NAME}, stored(s)))),
    ("an array", answered("store-failed", message(RESULT, []))),
    ("text that is not JSON", answered("store-failed", message(RESULT, b"{"))),
    ("a member twice", answered("store-failed", message(
        RESULT, b'{"generation":1,"generation":2}'))),
    ("nothing", answered("closed", b"")),
    ("a call", answered("store-failed", message(CALL, {"op": "status"}))),
    ("data first", answered("store-failed", frame(DATA, b"x"))),
    ("an end first", answered("store-failed", frame(END))),
    ("an empty piece of data", answered("store-failed", frame(RESULT, b'{"generation":1}') +
                                        frame(DATA))),
    ("a result within the data", answered("store-failed", frame(RESULT, b'{"generation":1}') * 2)),
    ("another version", answered("frame-format", frame(RESULT, b"{}", version=3))),
    ("the largest length", answered("store-failed", frame(RESULT, b"", length=0xffffffff))),
    ("70 MiB of data", get("store-failed", lambda s, c, d: message(
        RESULT, {"generation": 1}, bytes(70 << 20)))),
    ("an HTTP answer", answered("frame-format", b"HTTP/1.1 200 OK\r\n\r\n")),
    ("a fault without text", answered("store-failed", frame(5, b'{"code":"state-not-found"}'))),
    ("a fault of no known code", answered("frame-format", fault("all-is-well"))),
    ("a fault that says ok", answered("frame-format", fault("ok"))),
    ("a fault in the policy's name", answered("store-failed", fault("policy-no-key"))),
    ("a fault in KMS's name", answered("store-failed", fault("AccessDeniedException"))),
    ("a fault in the verifier's name", answered("store-failed", fault("att-signature"))),
    ("a fault in a capability's name", answered("store-failed", fault("capability-missing"))),
    ("a fault with control characters", answered("store-failed", fault("store-failed",
                                                                      "\x1b[2J\r\nno"))),
    ("a fault of 60,000 bytes", answered("store-failed", fault("store-failed", "x" * 60000))),
    ("a fault that is not UTF-8", answered("store-failed", frame(
        5, b'{"code":"store-failed","message":"\xff"}'))),
    ("a state that is there said to be missing", answered("state-not-found",
                                                          fault("state-not-found"))),
    ("three seconds of silence", delayed),
    ("an honest answer in single bytes", trickled),
    ("an end after 1 byte", closed_at(1)),
    ("an end within the members", closed_at(20)),
    ("an end within the data", closed_at(300)),
]


def put(code: str, answer):
    """The store answers state.put so: the agent is told this code, and what was kept is intact."""
    def attack(stage: Stage) -> None:
        stage.services["state.put"] = lambda call, data: answer
        found = problem(stage, "PUT", "/v1/state/canary", CANARY + b"2")
        assert found == code, f"expected {code}, found {found}"
    return attack


def watched(code: str, answer):
    """The store answers the question for the generation so: nothing is sealed or kept."""
    def attack(stage: Stage) -> None:
        held = stage.states[NAME]
        stage.services["state.watch"] = lambda call, data: answer
        found = problem(stage, "PUT", "/v1/state/canary", CANARY + b"2")
        assert found == code, f"expected {code}, found {found}"
        assert stage.states[NAME] == held, "something was kept"
    return attack


def forgotten(stage: Stage) -> None:
    """The store says it kept a state and did not: the next reader is told that there is none."""
    stage.services["state.put"] = lambda call, data: message(RESULT, {"generation": 1})
    assert problem(stage, "PUT", "/v1/state/forgotten", b"x") == "ok"
    stage.honest()
    assert problem(stage, "GET", "/v1/state/forgotten") == "state-not-found"


def listing(code: str, states):
    def attack(stage: Stage) -> None:
        stage.services["state.list"] = lambda call, data: message(RESULT, {"states": states})
        found = problem(stage, "GET", "/v1/state?prefix=a")
        assert found == code, f"expected {code}, found {found}"
    return attack


STATE = {"name": "agent-state/a", "generation": 1, "size": 1}
WRITES = [
    ("another generation kept", put("frame-format", message(RESULT, {"generation": 7}))),
    ("no generation kept", put("frame-format", message(RESULT, {}))),
    ("a conflict that there is not", put("state-conflict", fault("state-conflict"))),
    ("a fault in KMS's name", put("store-failed", fault("ThrottlingException"))),
    ("no answer", put("closed", b"")),
    ("data that none asked for, which is dropped", put("ok", message(RESULT, {"generation": 2}, b"x"))),
    ("a generation that it does not hold", watched("state-conflict", message(
        RESULT, {"generation": 9}))),
    ("the last generation there can be", watched("state-conflict", message(
        RESULT, {"generation": 1 << 53}))),
    ("a generation before the first", watched("frame-format", message(
        RESULT, {"generation": -1}))),
    ("a generation beyond all", watched("frame-format", message(
        RESULT, {"generation": (1 << 53) + 1}))),
    ("a generation that is a text", watched("frame-format", message(
        RESULT, {"generation": "1"}))),
    ("a generation and more", watched("frame-format", message(
        RESULT, {"generation": 1, "sealed": "AAAA"}))),
    ("a generation with data", watched("store-failed", message(
        RESULT, {"generation": 1}, b"xx"))),
    ("no generation", watched("closed", b"")),
    ("a fault in a voucher's name", watched("store-failed", fault("voucher-spent"))),
    ("kept, and forgotten", forgotten),
    ("a list that is none", listing("frame-format", {})),
    ("a list of texts", listing("frame-format", ["agent-state/a"])),
    ("a list of another key's states", listing("frame-format", [{**STATE, "name": "other/a"}])),
    ("a list beyond the prefix", listing("frame-format", [{**STATE, "name": "agent-state/b"}])),
    ("a list with a path that leads out", listing("frame-format", [
        {**STATE, "name": "agent-state/a/../../etc"}])),
    ("a list out of order", listing("frame-format", [{**STATE, "name": "agent-state/ab"}, STATE])),
    ("a list with a name twice", listing("frame-format", [STATE, STATE])),
    ("a list with negative sizes", listing("frame-format", [{**STATE, "size": -1}])),
    ("a list with a member more", listing("frame-format", [{**STATE, "key": "AAAA"}])),
]


def stalled(stage: Stage) -> None:
    """The store takes the call and says nothing: the call ends by itself, and costs one slot."""
    def silent(call, data):
        time.sleep(12)
    stage.services["state.get"] = silent
    began = time.monotonic()
    found = problem(stage, "GET", "/v1/state/canary")
    assert found in ("deadline", "closed"), found
    assert time.monotonic() - began < 15


ATTACKS = (
    [("services", f"sealed: {name}", run) for name, run in SEALED] +
    [("services", f"generation: {name}", run) for name, run in GENERATIONS] +
    [("services", f"answer: {name}", run) for name, run in ANSWERS] +
    [("services", f"store: {name}", run) for name, run in WRITES] +
    [("services", "answer: none at all", stalled)])
