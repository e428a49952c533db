#!/usr/bin/env python3
"""A small agent with a memory that survives it.

    agent.py --socket S remember "the meeting is at ten"
    agent.py --socket S recall

Its memory is a JSON document that clavigerd seals and the parent keeps: outside the enclave it
is ciphertext, and only the same enclave, under the same policy, opens it again. Two agents that
remember at the same time lose nothing: each replaces exactly the generation that it read.
"""
from __future__ import annotations

import argparse
import json
import sys

from claviger import DEFAULT_SOCKET, Client, Problem

NAME = "memory"
ATTEMPTS = 10


def load(claviger: Client) -> tuple[list[str], int]:
    """The memory and its generation; generation 0 when there is none yet."""
    try:
        state = claviger.get_state(NAME)
    except Problem as problem:
        if problem.code == "state-not-found":
            return [], 0
        raise
    return json.loads(state.data)["facts"], state.generation


def remember(claviger: Client, fact: str) -> None:
    for _ in range(ATTEMPTS):
        facts, generation = load(claviger)
        body = json.dumps({"facts": facts + [fact]}).encode()
        try:
            stored = claviger.put_state(NAME, body, generation=generation)
        except Problem as problem:
            if problem.status in (409, 412):
                continue
            raise
        print(f"remembered {fact!r}: {len(facts) + 1} facts, {stored.size} bytes sealed as "
              f"generation {stored.generation}")
        return
    raise SystemExit("agent: the memory kept changing; nothing was remembered")


def recall(claviger: Client) -> None:
    facts, generation = load(claviger)
    print(f"recalled {len(facts)} facts from generation {generation}:")
    for fact in facts:
        print(f"  {fact}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default=DEFAULT_SOCKET)
    parser.add_argument("--key", help="the policy's key, when it has several")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("remember").add_argument("fact")
    commands.add_parser("recall")
    options = parser.parse_args()
    try:
        with Client(options.socket, options.key) as claviger:
            if options.command == "remember":
                remember(claviger, options.fact)
            else:
                recall(claviger)
    except (Problem, OSError) as problem:
        print(f"agent: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
