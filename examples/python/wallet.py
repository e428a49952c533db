#!/usr/bin/env python3
"""A wallet that signs with a derived key that it never sees.

    wallet.py --socket S address
    wallet.py --socket S pay "10 to bob"

The agent holds the capabilities "sign" and "public" for wallet/main, and not "derive": taken over,
it can be made to sign, but the key cannot be carried away. The first use pins the root's id and the
public key in a sealed state, so that a parent that swaps roots is noticed before anything is paid.
A parent that hides the pin together with the root gets a new, empty wallet made; with a freshness
witness (docs/freshness.md) it is refused.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
from typing import Any

from claviger import DEFAULT_SOCKET, Client, Problem

KEY = {"path": "wallet/main", "purpose": "payments", "algorithm": "secp256k1"}
PINNED = "wallet/pinned"


def pinned(claviger: Client) -> dict[str, Any]:
    try:
        return json.loads(claviger.get_state(PINNED).data)
    except Problem as problem:
        if problem.code != "state-not-found":
            raise
    public = claviger.public_key(KEY)
    pin = {"root_id": public["root_id"], "public_key": public["public_key"]}
    claviger.put_state(PINNED, json.dumps(pin).encode(), generation=0)
    return pin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--socket", default=DEFAULT_SOCKET)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("address")
    commands.add_parser("pay").add_argument("order")
    options = parser.parse_args()
    with Client(options.socket) as claviger:
        pin = pinned(claviger)
        address = hashlib.sha256(bytes.fromhex(pin["public_key"])).hexdigest()[:40]
        if options.command == "address":
            print(address)
            return 0
        order = f"{address}: {options.order}".encode()
        signed = claviger.sign({**KEY, "root_id": pin["root_id"]}, order)
        print(json.dumps({"order": order.decode(), "public_key": signed["public_key"],
                          "signature": signed["signature"]}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Problem, OSError) as problem:
        sys.exit(f"wallet: {problem}")
