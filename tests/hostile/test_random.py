"""Attacks picked and spoiled at random for HOSTILE_SECONDS (default 10), from HOSTILE_SEED.

The seed is printed, and the same seed makes the same attacks.
"""
import json
import os
import random
import sys
import time

from attacks import ATTACKS
from control import raw
from relay import carrying, flip_at, refused_or_retried
from stage import CALL, CANARY, RESULT, Refused, Stage, message

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "10"))
SEED = int(os.environ.get("HOSTILE_SEED", str(random.randrange(1 << 32))))
TABLE = [attack for attack in ATTACKS if attack[0] in ("control", "services")
         and not any(word in attack[1] for word in ("silence", "none at all", "MiB", "limit"))]


def spoil(text: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, dropped, doubled or moved."""
    changed = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(changed)), rng.randint(1, 16)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1 and len(changed) > size + 8:
            del changed[at:at + size]
        elif kind == 2:
            changed[at:at] = changed[at:at + size]
        else:
            changed[at:at] = rng.randbytes(size)
    return bytes(changed)


def spoiled_call(stage: Stage, rng: random.Random) -> str:
    text = spoil(message(CALL, {"op": "setup"}, json.dumps(stage.request()).encode()), rng)
    with stage.dial(5) as connection:
        try:
            connection.sendall(text)
            connection.shutdown(1)
            members, _ = stage.hear(connection)
        except (Refused, OSError, ValueError):
            return "a spoiled call"
    assert members.get("keyId", stage.keys["agent-state"]) == stage.keys["agent-state"], members
    return "a spoiled call"


def spoiled_answer(stage: Stage, rng: random.Random) -> str:
    name = "agent-state/canary"
    generation, sealed = stage.states[name]
    whole = message(RESULT, {"generation": generation}, spoil(sealed, rng))
    text = whole if rng.random() < 0.5 else spoil(stage.answer({"op": "state.get", "name": name},
                                                               b""), rng)
    stage.services["state.get"] = lambda call, data: text
    status, _, body = stage.api("GET", "/v1/state/canary")
    if status == 200:
        assert body == CANARY, "a spoiled message was opened"
    return "a spoiled answer of the store"


def spoiled_stream(stage: Stage, rng: random.Random) -> str:
    place = {rng.choice(("up", "down")): flip_at(rng.randrange(3000))}
    try:
        refused_or_retried(carrying(**place))(stage)
    except AssertionError as found:
        if "did not happen" not in str(found):
            raise
    return "a spoiled byte of TLS"


def noise(stage: Stage, rng: random.Random) -> str:
    text = rng.randbytes(rng.randint(8, 2000))
    if text[0] == 1:
        text = b"\0" + text[1:]
    raw(text, code="frame-format")(stage)
    return "noise"


def from_table(stage: Stage, rng: random.Random) -> str:
    _, name, attack = rng.choice(TABLE)
    attack(stage)
    return name


def main() -> int:
    rng = random.Random(SEED)
    print(f"seed {SEED}, {SECONDS:g} seconds", flush=True)
    kinds = [(spoiled_call, 8), (spoiled_answer, 8), (spoiled_stream, 2), (noise, 2),
             (from_table, 4)]
    attacks = 0
    stage = Stage()
    try:
        stage.start()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            kind = rng.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
            done = kind.__name__
            try:
                done = kind(stage, rng)
                stage.check()
            except BaseException:
                print(f"attack {attacks} ({done}) of seed {SEED}", file=sys.stderr)
                raise
            attacks += 1
        stage.check_secrets()
    finally:
        stage.close()
    print(f"{attacks} attacks, each followed by an honest request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
