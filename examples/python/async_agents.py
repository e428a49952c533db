#!/usr/bin/env python3
"""Several agents in one process: asyncio, one sealed state each, all at the same time.

    async_agents.py --socket S 8
"""
from __future__ import annotations

import argparse
import asyncio
import sys

from claviger import DEFAULT_SOCKET, AsyncClient, Problem


async def live(claviger: AsyncClient, number: int, turns: int = 3) -> int:
    name, generation = f"async/{number}", None
    for turn in range(turns):
        stored = await claviger.put_state(name, f"{number}:{turn}".encode(), generation=generation)
        generation = stored.generation
    state = await claviger.get_state(name, generation=generation)
    assert state.data == f"{number}:{turns - 1}".encode(), state
    return state.generation


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default=DEFAULT_SOCKET)
    parser.add_argument("agents", type=int)
    options = parser.parse_args()
    async with AsyncClient(options.socket) as claviger:
        ended = await asyncio.gather(*(live(claviger, n) for n in range(options.agents)))
    print(f"{len(ended)} agents, each at generation {sorted(set(ended))}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (Problem, OSError) as problem:
        sys.exit(f"async_agents: {problem}")
