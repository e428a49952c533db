#!/usr/bin/env python3
"""A tool-using agent whose API keys are unsealed just in time.

    tool_agent.py --socket S store weather < the-api-key
    tool_agent.py --socket S call weather "Zurich"

The key of each tool is a sealed state of its own. It is fetched for one call and dropped behind it
(copies that Python made stay in freed memory until that is used again), and is never in the
environment, arguments or files; an agent whose capability is
"unseal:agent-state/tools/weather" can be talked into misusing the weather, and nothing else.
"""
from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import sys
from typing import Iterator

from claviger import DEFAULT_SOCKET, Client, Problem


@contextlib.contextmanager
def api_key(claviger: Client, tool: str) -> Iterator[bytearray]:
    key = bytearray(claviger.get_state(f"tools/{tool}").data)
    try:
        yield key
    finally:
        key[:] = bytes(len(key))


def call_tool(claviger: Client, tool: str, question: str) -> str:
    """Where a real tool would be called over TLS: here the key signs the request."""
    with api_key(claviger, tool) as key:
        signature = hmac.new(key, question.encode(), hashlib.sha256).hexdigest()
    return f"{tool}({question}) signed {signature}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default=DEFAULT_SOCKET)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("store").add_argument("tool")
    call = commands.add_parser("call")
    call.add_argument("tool")
    call.add_argument("question")
    options = parser.parse_args()
    with Client(options.socket) as claviger:
        if options.command == "store":
            stored = claviger.put_state(f"tools/{options.tool}",
                                        sys.stdin.buffer.read().strip())
            print(f"stored the key of {options.tool} as generation {stored.generation}")
        else:
            print(call_tool(claviger, options.tool, options.question))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Problem, OSError) as problem:
        sys.exit(f"tool_agent: {problem}")
