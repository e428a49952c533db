"""What clients of a fleet saw, and whether one store could have answered all of it.

Each client notes every write and read with the time before it was asked and after it was answered.
The rules, for each name:

- a generation is one write: everybody who read it, or was told that his write became it, has the
  same bytes, and they are bytes that somebody tried to write as that generation;
- a write that was refused is never read;
- what was answered is not taken back: a read or a write that began after generation G was
  acknowledged or read finds G or a later one;
- in the end the store holds the last acknowledged generation, or a later one that was tried and not
  answered.
"""
from __future__ import annotations

import dataclasses
import hashlib
import threading

DONE, REFUSED, UNSURE = "done", "refused", "unsure"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Event:
    kind: str        # "write" or "read"
    client: str
    name: str
    generation: int  # 0: a read that found nothing
    digest: str
    begun: float
    ended: float
    outcome: str = DONE


class History:
    def __init__(self):
        self.events: list[Event] = []
        self.lock = threading.Lock()

    def note(self, *arguments, **members) -> Event:
        event = Event(*arguments, **members)
        with self.lock:
            self.events.append(event)
        return event

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def names(self) -> set[str]:
        return {event.name for event in self.events}

    def acknowledged(self, name: str) -> int:
        return max((e.generation for e in self.of(name)
                    if e.kind == "write" and e.outcome == DONE), default=0)

    def violations(self, final: dict[str, tuple[int, str]]) -> list[str]:
        """final: what the store holds when everything is over, (0, "") for nothing."""
        found = []
        for name in sorted(self.names()):
            events = self.of(name)
            found += same_bytes(name, events) + never_back(name, events)
            found += nothing_lost(name, events, final.get(name, (0, "")))
        return found


def same_bytes(name: str, events: list[Event]) -> list[str]:
    found, seen = [], {}
    tried = {(e.generation, e.digest) for e in events
             if e.kind == "write" and e.outcome != REFUSED}
    for e in events:
        if e.generation == 0 or e.outcome != DONE:
            continue
        if e.kind == "write" and e.generation in seen and seen[e.generation][1] == "write":
            found.append(f"{name}: generation {e.generation} was acknowledged twice")
        if e.generation in seen and seen[e.generation][0] != e.digest:
            found.append(f"{name}: generation {e.generation} has two contents")
        if (e.generation, e.digest) not in tried:
            found.append(f"{name}: {e.client} found generation {e.generation} with bytes that "
                         "nobody wrote, or whose write was refused")
        if e.generation not in seen or e.kind == "write":
            seen[e.generation] = (e.digest, e.kind)
    return found


def never_back(name: str, events: list[Event]) -> list[str]:
    """Over all events in the order of their beginnings, against the newest that had ended."""
    found, newest = [], 0
    done = [e for e in events if e.outcome == DONE]
    ending = sorted(done, key=lambda e: e.ended)
    at = 0
    for e in sorted(done, key=lambda e: e.begun):
        while at < len(ending) and ending[at].ended < e.begun:
            newest = max(newest, ending[at].generation)
            at += 1
        if e.generation < newest or (e.kind == "write" and e.generation == newest):
            found.append(f"{name}: {e.client} {e.kind} generation {e.generation} after "
                         f"generation {newest} was there")
    return found


def nothing_lost(name: str, events: list[Event], final: tuple[int, str]) -> list[str]:
    generation, content = final
    last = max((e.generation for e in events if e.outcome == DONE), default=0)
    if generation < last:
        return [f"{name}: generation {last} was answered, {generation} is there in the end"]
    held = {e.digest for e in events if e.generation == generation and
            (e.outcome == DONE or e.outcome == UNSURE)}
    if generation > 0 and content not in held:
        return [f"{name}: generation {generation} in the end has bytes that nobody wrote"]
    return []
