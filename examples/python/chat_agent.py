#!/usr/bin/env python3
"""A chat agent that seals its memory after each turn and resumes after a crash.

    chat_agent.py --socket S < what-people-say

Reads one message a line, answers it, and goes on only when the turn is sealed: what it has answered
it also remembers, whatever happens next. Started again, it continues where the last sealed turn
ended.
"""
from __future__ import annotations

import argparse
import json
import sys

from claviger import DEFAULT_SOCKET, Client, Problem

NAME = "conversation"


def answer(message: str, history: list[dict[str, str]]) -> str:
    """Where a model would be asked."""
    before = [turn["message"] for turn in history]
    if message in before:
        return f"you said that before, in turn {before.index(message) + 1}"
    return f"turn {len(history) + 1}: {message}"


def resume(claviger: Client) -> tuple[list[dict[str, str]], int]:
    try:
        state = claviger.get_state(NAME)
    except Problem as problem:
        if problem.code == "state-not-found":
            return [], 0
        raise
    return json.loads(state.data), state.generation


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default=DEFAULT_SOCKET)
    options = parser.parse_args()
    with Client(options.socket) as claviger:
        history, generation = resume(claviger)
        print(f"resumed after {len(history)} turns", flush=True)
        for line in sys.stdin:
            message = line.rstrip("\n")
            said = answer(message, history)
            history.append({"message": message, "answer": said})
            # The generation that was read last: a second copy of this agent cannot overwrite it.
            generation = claviger.put_state(NAME, json.dumps(history).encode(),
                                            generation=generation).generation
            print(said, flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Problem, OSError) as problem:
        sys.exit(f"chat_agent: {problem}")
