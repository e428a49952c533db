"""Attacks on freshness: any older blob, an older store, a forked store, an empty store.

Each is tried in both modes of the witness, and what is refused here is served again once the parent
is honest. What an attack may do is deny; what no answer may hold is an older content.
"""
from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time

from stage import RESULT, Stage, fault, message
from witnessed import HEADER

NAMES = ("first", "second")
KEPT = 4  # generations of each name
DERIVE = json.dumps({"path": "wallet", "purpose": "test", "algorithm": "ed25519"}).encode()
JSON = {"Content-Type": "application/json"}


def root_of(stage: Stage):
    return stage.api("POST", "/v1/keys/derive", DERIVE, JSON)


def content(name: str, generation: int) -> bytes:
    return f"{name} as of generation {generation}".encode()


def code(answer) -> str:
    status, _, body = answer
    return "ok" if status < 300 else json.loads(body)["code"]


def expect(answer, *codes: str) -> None:
    assert code(answer) in codes, f"expected one of {codes}, found {answer[0]} {answer[2][:300]}"


def history(stage: Stage, name: str) -> list[tuple[int, bytes]]:
    """The blob of each generation of a name of its own, the newest last; made once."""
    made = stage.__dict__.setdefault("histories", {})
    if name not in made:
        made[name] = []
        for i in range(1, KEPT + 1):
            answer = stage.api("PUT", f"/v1/state/{name}", content(name, i))
            assert answer[0] in (200, 201), answer
            made[name].append(stage.states[f"agent-state/{name}"])
    return made[name]


def newest(stage: Stage, name: str) -> None:
    """Honest again, the name is what it was."""
    stage.honest()
    answer = stage.api("GET", f"/v1/state/{name}")
    assert (answer[0], answer[2]) == (200, content(name, KEPT)), answer


def served(stage: Stage, name: str, generation: int, blob: bytes) -> None:
    """The store has this of the name, whatever is asked."""
    stage.states = dict(stage.states)
    stage.states[f"agent-state/{name}"] = (generation, blob)


def restored(attack):
    """What the parent did to its store is undone afterwards."""
    def run(stage: Stage) -> None:
        for name in NAMES:
            history(stage, name)
        assert root_of(stage)[0] == 200
        states, wrapped = dict(stage.states), dict(stage.wrapped)
        try:
            attack(stage)
        finally:
            stage.states, stage.wrapped = states, wrapped
        for name in NAMES:
            newest(stage, name)
    return run


def older(age: int, under: int | None, call):
    """The blob of `age` generations ago, under its own number or (under=0) the newest."""
    @restored
    def attack(stage: Stage) -> None:
        generation, blob = history(stage, "first")[-1 - age]
        served(stage, "first", KEPT if under == 0 else generation, blob)
        call(stage)
    return attack


def get(*codes: str):
    return lambda stage: expect(stage.api("GET", "/v1/state/first"), *codes)


def everything_is_refused(stage: Stage, *codes: str) -> None:
    """No way to ask is a way around."""
    for method, path, body in (("GET", "/v1/state/first", None), ("PUT", "/v1/state/first", b"x"),
                               ("DELETE", "/v1/state/first", None), ("GET", "/v1/state", None),
                               ("POST", "/v1/reseal?name=first", None)):
        expect(stage.api(method, path, body), *codes)
    expect(stage.api("PUT", "/v1/state/first", b"x", {"If-None-Match": "*"}), *codes)
    expect(stage.api("PUT", "/v1/state/first", b"x", {"If-Match": f'"{KEPT - 1}"'}), *codes)
    held = stage.states.get("agent-state/first", (KEPT - 1,))[0]
    expect(stage.api("GET", "/v1/state/first", None, {"If-None-Match": f'"{held}"'}), *codes)


@restored
def older_store(stage: Stage) -> None:
    for name in NAMES:
        served(stage, name, *history(stage, name)[1])
    everything_is_refused(stage, "witness-rollback")


@restored
def older_store_after_reboot(stage: Stage) -> None:
    for name in NAMES:
        served(stage, name, *history(stage, name)[1])
    stage.reboot()
    everything_is_refused(stage, "witness-rollback")


@restored
def empty_store(stage: Stage) -> None:
    stage.states = {}
    everything_is_refused(stage, "witness-rollback")


@restored
def empty_store_after_reboot(stage: Stage) -> None:
    stage.states = {name: state for name, state in stage.states.items() if name.startswith("/")}
    stage.reboot()
    everything_is_refused(stage, "witness-rollback")


@restored
def nothing_at_all_after_reboot(stage: Stage) -> None:
    """Not even the witness's own secret: that is not taken for a first use."""
    wrapped, stage.states, stage.wrapped = stage.wrapped, {}, {}
    stage.reboot()
    everything_is_refused(stage, "witness-uninitialised")
    assert not stage.wrapped, "a secret was made that nobody asked for"
    stage.wrapped = wrapped


def fork(stage: Stage) -> tuple[int, bytes]:
    """Two messages of one generation: the parent keeps the first and says that it failed."""
    kept = []

    def keep(call, data):
        kept.append((call["generation"], data))
        return fault("store-failed")
    stage.services["state.put"] = keep
    expect(stage.api("PUT", "/v1/state/forked", b"the branch that was not taken"), "store-failed")
    stage.honest()
    answer = stage.api("PUT", "/v1/state/forked", b"the branch that counts")
    assert answer[0] in (200, 201), answer
    return kept[0]


@restored
def forked_store(stage: Stage) -> None:
    generation, blob = fork(stage)
    honest = stage.states["agent-state/forked"]
    assert generation == honest[0]
    served(stage, "forked", generation, blob)
    expect(stage.api("GET", "/v1/state/forked"), "witness-fork")
    expect(stage.api("POST", "/v1/reseal?name=forked"), "witness-fork")
    stage.reboot()
    expect(stage.api("GET", "/v1/state/forked"), "witness-fork")
    served(stage, "forked", *honest)
    assert stage.api("GET", "/v1/state/forked")[2] == b"the branch that counts"


@restored
def list_without_a_name(stage: Stage) -> None:
    stage.services["state.list"] = lambda call, data: message(RESULT, {"states": [
        {"name": name, "generation": state[0], "size": len(state[1])}
        for name, state in sorted(stage.states.items())
        if name.startswith(call["prefix"]) and not name.endswith("second")]})
    expect(stage.api("GET", "/v1/state"), "witness-rollback")


@restored
def list_with_an_older_generation(stage: Stage) -> None:
    stage.services["state.list"] = lambda call, data: message(RESULT, {"states": [
        {"name": name, "generation": max(1, state[0] - 1), "size": len(state[1])}
        for name, state in sorted(stage.states.items()) if name.startswith(call["prefix"])]})
    expect(stage.api("GET", "/v1/state"), "witness-rollback")


@restored
def another_names_blob(stage: Stage) -> None:
    served(stage, "first", *history(stage, "second")[-1])
    expect(stage.api("GET", "/v1/state/first"), "witness-fork")


@restored
def garbage_ahead(stage: Stage) -> None:
    for blob in (b"garbage", b"\x82garbage", history(stage, "first")[-1][1],
                 history(stage, "second")[-1][1]):
        served(stage, "first", KEPT + 1, blob)
        answer = stage.api("GET", "/v1/state/first")
        assert answer[0] not in (200, 404), answer


@restored
def far_ahead(stage: Stage) -> None:
    served(stage, "first", KEPT + 7, history(stage, "first")[-1][1])
    answer = stage.api("GET", "/v1/state/first")
    assert answer[0] not in (200, 404), answer


def deleted(stage: Stage) -> tuple[list, tuple[int, bytes]]:
    """A name that was put twice and deleted: the blobs of its life, and its tombstone."""
    name = f"buried{time.monotonic_ns()}"
    life = []
    for data in (b"one", b"two"):
        assert stage.api("PUT", f"/v1/state/{name}", data)[0] in (200, 201)
        life.append(stage.states[f"agent-state/{name}"])
    assert stage.api("DELETE", f"/v1/state/{name}")[0] == 204
    return name, life, stage.states[f"agent-state/{name}"]


@restored
def resurrection(stage: Stage) -> None:
    name, life, tombstone = deleted(stage)
    for generation, blob in life:
        served(stage, name, generation, blob)
        expect(stage.api("GET", f"/v1/state/{name}"), "witness-rollback")
        served(stage, name, tombstone[0], blob)
        expect(stage.api("GET", f"/v1/state/{name}"), "state-not-found")
        served(stage, name, tombstone[0] + 1, blob)
        answer = stage.api("GET", f"/v1/state/{name}")
        assert answer[0] not in (200, 404), answer
    del stage.states[f"agent-state/{name}"]
    expect(stage.api("PUT", f"/v1/state/{name}", b"again"), "witness-rollback")
    served(stage, name, *tombstone)
    assert stage.api("PUT", f"/v1/state/{name}", b"again")[1]["ETag"] == f'"{tombstone[0] + 1}"'


@restored
def a_tombstone_of_another_name(stage: Stage) -> None:
    _, _, tombstone = deleted(stage)
    for generation in (KEPT, KEPT + 1, tombstone[0]):
        served(stage, "first", generation, tombstone[1])
        answer = stage.api("GET", "/v1/state/first")
        assert answer[0] not in (200, 404), answer


@restored
def an_older_tombstone(stage: Stage) -> None:
    name, _, tombstone = deleted(stage)
    assert stage.api("PUT", f"/v1/state/{name}", b"alive")[0] == 201
    alive = stage.states[f"agent-state/{name}"]
    for generation in (tombstone[0], alive[0], alive[0] + 1):
        served(stage, name, generation, tombstone[1])
        answer = stage.api("GET", f"/v1/state/{name}")
        assert answer[0] not in (200, 404), answer
    served(stage, name, *alive)
    assert stage.api("GET", f"/v1/state/{name}")[2] == b"alive"


@restored
def no_root_after_reboot(stage: Stage) -> None:
    first = root_of(stage)
    root = stage.wrapped.pop("agent-state")
    stage.reboot()
    expect(root_of(stage), "witness-rollback")
    assert "agent-state" not in stage.wrapped, "a second root was made"
    stage.wrapped["agent-state"] = root
    assert root_of(stage)[2] == first[2]


@restored
def another_root_after_reboot(stage: Stage) -> None:
    """Key setup gives the parent data keys in the very context of the root."""
    members, _ = stage.ask_setup(stage.request())
    root = stage.wrapped["agent-state"]
    stage.wrapped["agent-state"] = base64.b64decode(members["ciphertextBlob"])
    stage.reboot()
    expect(root_of(stage), "root-changed")
    stage.wrapped["agent-state"] = root
    stage.reboot()
    assert root_of(stage)[0] == 200


@restored
def another_secret_after_reboot(stage: Stage) -> None:
    """A data key of another context in the place of the witness's secret."""
    members, _ = stage.ask_setup(stage.request())
    secret = stage.wrapped["claviger/witness"]
    stage.wrapped["claviger/witness"] = base64.b64decode(members["ciphertextBlob"])
    stage.reboot()
    expect(stage.api("GET", "/v1/state/first"), "InvalidCiphertextException")
    stage.wrapped["claviger/witness"] = secret


@restored
def a_put_that_was_not_acknowledged(stage: Stage) -> None:
    """The parent stores, says that it failed, and serves it later: once, and never back again."""
    name = f"late{time.monotonic_ns()}"
    assert stage.api("PUT", f"/v1/state/{name}", b"acknowledged")[0] == 201
    before = stage.states[f"agent-state/{name}"]

    def store_and_fail(call, data):
        stage.states[call["name"]] = (call["generation"], data)
        return fault("store-failed")
    stage.services["state.put"] = store_and_fail
    expect(stage.api("PUT", f"/v1/state/{name}", b"in doubt"), "store-failed")
    stage.honest()
    assert stage.api("GET", f"/v1/state/{name}")[2] == b"in doubt"
    served(stage, name, *before)
    expect(stage.api("GET", f"/v1/state/{name}"), "witness-rollback")


BOTH = [
    *((f"any older blob: {age} ago, under its own number", older(age, None, get("witness-rollback")))
      for age in range(1, KEPT)),
    *((f"any older blob: {age} ago, under the newest number", older(age, 0, get("witness-fork")))
      for age in range(1, KEPT)),
    ("an older store", older_store),
    ("an older store, to an enclave that just booted", older_store_after_reboot),
    ("an empty store", empty_store),
    ("an empty store, to an enclave that just booted", empty_store_after_reboot),
    ("nothing at all, to an enclave that just booted", nothing_at_all_after_reboot),
    ("a forked store", forked_store),
    ("a list without a name", list_without_a_name),
    ("a list with older generations", list_with_an_older_generation),
    ("the newest blob of another name", another_names_blob),
    ("garbage one generation ahead", garbage_ahead),
    ("a genuine blob far ahead of its number", far_ahead),
    ("a deleted state that rises again", resurrection),
    ("a tombstone of another name", a_tombstone_of_another_name),
    ("an older tombstone of the same name", an_older_tombstone),
    ("no root of derivation, to an enclave that just booted", no_root_after_reboot),
    ("another root of derivation, to an enclave that just booted", another_root_after_reboot),
    ("another witness secret, to an enclave that just booted", another_secret_after_reboot),
    ("what was not acknowledged, and then what was before it", a_put_that_was_not_acknowledged),
]


# -- the relay to the cluster ------------------------------------------------------------------


def relayed(relay):
    """The way to the cluster is this: nothing is read, and nothing acknowledged."""
    @restored
    def attack(stage: Stage) -> None:
        stage.end_connections()
        stage.witness_relay = lambda connection: relay(stage, connection)
        expect(stage.api("GET", "/v1/state/first"), "witness-unavailable")
        expect(stage.api("PUT", "/v1/state/second", b"x"), "witness-unavailable")
        expect(stage.api("GET", "/v1/state"), "witness-unavailable")
    return attack


def impostor(stage: Stage, connection: socket.socket) -> None:
    """A server of a CA that the image's KMS trusts, not the witness's."""
    pem = stage.public_ca.issue("witness", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with context.wrap_socket(connection, server_side=True) as tls:
        stage.betrayed.append(tls.recv(4096))


@restored
def cut_at_the_commit(stage: Stage) -> None:
    """The parent stores, and lets no commit through: not acknowledged, and later the newest or
    nothing, but never something else."""
    name = f"cut{time.monotonic_ns()}"
    assert stage.api("PUT", f"/v1/state/{name}", b"acknowledged")[0] == 201
    answer = stage.answer

    def cut(call, data):
        stage.witness_relay = lambda connection: None
        stage.end_connections()
        return answer(call, data)
    stage.services["state.put"] = cut
    expect(stage.api("PUT", f"/v1/state/{name}", b"in doubt"), "witness-unavailable")
    stage.honest()
    assert stage.api("GET", f"/v1/state/{name}")[2] == b"in doubt"


@restored
def both_are_told_that_they_stored(stage: Stage) -> None:
    """Two puts of one generation; the parent tells each that it has it: one is acknowledged."""
    name = f"twin{time.monotonic_ns()}"
    assert stage.api("PUT", f"/v1/state/{name}", b"before")[0] == 201
    released, kept, answers = threading.Event(), {}, []

    def told(call, data):
        first = not kept
        kept[len(kept)] = (call["generation"], data)
        if first:
            released.wait(20)
        return message(RESULT, {"generation": call["generation"]})
    stage.services["state.put"] = told
    slow = threading.Thread(target=lambda: answers.append(
        stage.api("PUT", f"/v1/state/{name}", b"the slow one")))
    slow.start()
    while not kept:
        time.sleep(0.01)
    quick = stage.api("PUT", f"/v1/state/{name}", b"the quick one")
    released.set()
    slow.join()
    assert quick[0] == 200, quick
    expect(answers[0], "state-conflict")
    assert kept[0][0] == kept[1][0]
    stage.services.clear()
    served(stage, name, *kept[0])
    expect(stage.api("GET", f"/v1/state/{name}"), "witness-fork")
    served(stage, name, *kept[1])
    assert stage.api("GET", f"/v1/state/{name}")[2] == b"the quick one"


@restored
def certificate_of_another_key(stage: Stage) -> None:
    at = "/claviger/witness-certificate"
    kept = stage.states[at]
    stage.states[at] = (kept[0], (stage.dir / "etcd" / "client.pem").read_bytes())
    stage.reboot()
    expect(stage.api("GET", "/v1/state/first"), "witness-certificate")
    del stage.states[at]
    expect(stage.api("GET", "/v1/state/first"), "witness-certificate")
    stage.states[at] = kept


@restored
def unseen_names(stage: Stage) -> None:
    """A whole store of another time for a name that the cluster does not know."""
    served(stage, "unseen", *history(stage, "first")[-1])
    expect(stage.api("GET", "/v1/state/unseen"), "witness-fork")
    served(stage, "unseen", 1, history(stage, "first")[0][1])
    expect(stage.api("GET", "/v1/state/unseen"), "seal-context")


ETCD = [
    ("no way to the cluster", relayed(lambda stage, connection: None)),
    ("a server that is not the cluster", relayed(impostor)),
    ("noise in the place of the cluster", relayed(
        lambda stage, connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}"))),
    ("the way is cut between store and commit", cut_at_the_commit),
    ("two puts of one generation are both told that they were stored",
     both_are_told_that_they_stored),
    ("a client certificate of another key, or none", certificate_of_another_key),
    ("states of names that the cluster never saw", unseen_names),
]

@restored
def two_branches_whose_receipts_meet(stage: Stage) -> None:
    """Each of two callers was shown a store of his own; who knows both receipts is served none."""
    name, receipts = f"branch{time.monotonic_ns()}", []
    assert stage.api("PUT", f"/v1/state/{name}", b"common")[0] == 201
    common, known = stage.states[f"agent-state/{name}"], dict(stage.receipts)
    for branch in (b"the one", b"the other"):
        served(stage, name, *common)
        stage.receipts = dict(known)
        answer = stage.api("PUT", f"/v1/state/{name}", branch)
        assert answer[0] == 200, answer
        receipts.append(answer[1][HEADER])
    for both in (receipts, receipts[::-1]):
        for method, path, body in (("GET", f"/v1/state/{name}", None),
                                   ("PUT", f"/v1/state/{name}", b"x"),
                                   ("GET", f"/v1/state?prefix={name}", None)):
            expect(stage.api(method, path, body, {HEADER: ",".join(both)}), "witness-fork")


RECEIPTS = [("two branches for two callers, whose receipts meet", two_branches_whose_receipts_meet)]

ATTACKS = [(group, f"{group}: {name}", attack) for group in ("witness_etcd", "witness_receipts")
           for name, attack in BOTH] + \
    [("witness_etcd", f"witness_etcd: {name}", attack) for name, attack in ETCD] + \
    [("witness_receipts", f"witness_receipts: {name}", attack) for name, attack in RECEIPTS]
