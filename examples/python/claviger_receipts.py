"""The receipts that a caller keeps where the policy's witness works by them (docs/freshness.md).

They are in a mapping of the caller's: "init" and, for each name, "<key> <what>", where the key is ""
when it was not said.
"""
from __future__ import annotations

import base64
import threading
from typing import MutableMapping

PRESENTED_MAX = 32
_learning = threading.Lock()


def shown(kept: MutableMapping[str, str], slot: str) -> list[str]:
    """What is known of this name, also when its key was said before and is not now."""
    entries = list(kept.items())
    what = slot.partition(" ")[2]
    if what == "/v1/state":  # a list is held against all that is known
        return [receipt for _, receipt in entries][:PRESENTED_MAX]
    receipts = [receipt for name, receipt in entries if name.partition(" ")[2] == what]
    receipts = receipts[:PRESENTED_MAX - 1]
    if slot not in kept and "init" in kept:
        receipts.append(kept["init"])
    return receipts


def learn(kept: MutableMapping[str, str], slot: str, receipt: str) -> None:
    """Answers of calls that ran at once come in any order: the newest receipt stays, and of one
    generation the first, so that another branch is noticed."""
    with _learning:
        known = kept.get(slot)
        if known is None or generation(receipt) > generation(known):
            kept[slot] = receipt


def generation(receipt: str) -> int:
    """Which generation a receipt speaks of: the fifth item of its statement."""
    data, at = base64.b64decode(receipt), 0

    def head() -> int:
        nonlocal at
        small, at = data[at] & 31, at + 1
        if small < 24:
            return small
        size = 1 << (small - 24)
        at += size
        return int.from_bytes(data[at - size:at], "big")

    for _ in range(3):  # the record, its statement as bytes, the statement
        head()
    for _ in range(4):  # schema, kind, fleet, name
        length = head()
        at += length
    return head()
