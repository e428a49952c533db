"""Acknowledged means durable (R19): SIGKILL at random instants, a full disk, short writes.

CLAVIGER_CRASHES sets how many kills (default 20). The daemon and the parent are killed in turns,
sometimes both, while an agent keeps replacing a state; afterwards the state must be the last one
acknowledged, or the one that was under way when the kill came.
"""
import http.client
import os
import pathlib
import random
import resource
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack  # noqa: E402

CRASHES = int(os.environ.get("CLAVIGER_CRASHES", "20"))
SEED = int(os.environ.get("CLAVIGER_SEED", str(random.randrange(1 << 32))))
NAME = "/v1/state/crash"


def body_of(number: int, size: int) -> bytes:
    return (b"%016d" % number) * (size // 16)


def number_of(body: bytes) -> int:
    number = int(body[:16])
    assert body == body_of(number, len(body)), "a torn state"
    return number


class Writer(threading.Thread):
    """Replaces the state as fast as it is answered, and knows what was acknowledged."""

    def __init__(self, stack: Stack, first: int):
        super().__init__()
        self.stack, self.tried, self.acknowledged = stack, first - 1, first - 1
        self.stopping = False

    def run(self):
        while not self.stopping:
            number = self.tried + 1
            size = random.choice((16, 4096, 65536, 1 << 20))
            self.tried = number
            try:
                status, _, _ = self.stack.api("PUT", NAME, body_of(number, size))
            except (OSError, http.client.HTTPException):
                return
            if status not in (200, 201):
                return
            self.acknowledged = number


class Crash(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.close)
        random.seed(SEED)
        self.stack.start()

    def read(self) -> int:
        """The state's number, once the daemon can reach its parent again."""
        deadline = time.monotonic() + 30
        while True:
            status, _, body = self.stack.api("GET", NAME)
            if status == 200:
                return number_of(body)
            if status == 404:
                return 0
            self.assertLess(time.monotonic(), deadline, body)
            time.sleep(0.05)

    def kill(self, *names: str):
        for name in names:
            self.stack.running[name].kill()
        if "claviger-parent" in names:
            self.stack.start_parent()
        if "clavigerd" in names:
            self.stack.start_nsm()
            self.stack.start_enclave()

    def test_kills_at_random_instants(self):
        victims = (("clavigerd",), ("claviger-parent",), ("claviger-parent",),
                   ("clavigerd", "claviger-parent"))
        held = acknowledged = under_way = 0
        for crash in range(CRASHES):
            writer = Writer(self.stack, held + 1)
            writer.start()
            time.sleep(random.random() * 0.8)
            self.kill(*random.choice(victims))
            writer.stopping = True
            writer.join()
            found = self.read()
            self.assertIn(found, range(writer.acknowledged, writer.tried + 1),
                          f"crash {crash}, seed {SEED}")
            acknowledged += writer.acknowledged - held
            under_way += found != writer.acknowledged
            held = found
        print(f"{CRASHES} kills: {acknowledged} states acknowledged, none lost; {under_way} that "
              f"were under way had been stored", file=sys.stderr)

    def small_disk(self) -> list[str]:
        """A file system of 8 MiB at DIR/disk that the parent keeps its store on; what enters it."""
        disk = self.stack.dir / "disk"
        disk.mkdir()
        holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=8m none {disk} && echo ready && "
             "exec sleep 3600"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.kill)
        self.addCleanup(holder.stdout.close)
        if holder.stdout.readline() != "ready\n":
            self.skipTest("this machine allows no mount namespace")
        return ["nsenter", "-t", str(holder.pid), "-m"]

    def test_a_disk_without_room_keeps_the_last_state(self):
        enter = self.small_disk()
        self.stack.prefix["claviger-parent"] = enter
        self.stack.store = f"sqlite:{self.stack.dir}/disk/store.db"
        self.stack.start_parent()
        self.assertEqual(self.stack.api("PUT", NAME, body_of(1, 4096))[0], 201)

        def shell(command: str) -> str:
            return subprocess.run([*enter, "sh", "-c", f"cd {self.stack.dir}/disk; {command}"],
                                  check=True, capture_output=True, text=True).stdout
        refused = stored = 0
        for room in (0, 4, 12, 36, 100, 300, 1000, 1500, 4000):  # KiB
            free = int(shell("stat -f -c '%f * %S / 1024' . | xargs -0 -I{} sh -c 'echo $(({}))'"))
            shell(f"fallocate -l {max(free - room, 1)}K filler")
            before = self.read()
            status, _, answer = self.stack.api("PUT", NAME, body_of(before + 1, 1 << 20))
            self.assertIn(status, (200, 503), answer)
            refused += status == 503
            stored += status == 200
            now = self.read()
            self.assertEqual(now, before + 1 if status == 200 else before, f"{room} KiB")
            self.kill("claviger-parent")
            self.assertEqual(self.read(), now, f"{room} KiB")
            shell("rm filler")
        self.assertGreater(refused, 3)
        self.assertGreater(stored, 0)
        self.assertEqual(self.stack.api("PUT", NAME, body_of(77, 1 << 20))[0], 200)
        self.assertEqual(self.read(), 77)

    def test_writes_that_are_cut_short_and_then_fail_keep_the_last_state(self):
        store = self.stack.dir / "store.db"
        self.assertEqual(self.stack.api("PUT", NAME, body_of(1, 4096))[0], 201)
        refused = 0
        for room in range(0, 200_000, 13_001):
            parent = self.stack.running["claviger-parent"].process.pid
            size = max(path.stat().st_size for path in store.parent.glob("store.db*"))
            # Files may grow by `room` bytes more: the write that passes it is cut short, the next
            # one fails.
            resource.prlimit(parent, resource.RLIMIT_FSIZE,
                             (size + room, resource.RLIM_INFINITY))
            before = self.read()
            status, _, answer = self.stack.api("PUT", NAME, body_of(before + 1, 1 << 20))
            self.assertIn(status, (200, 503), answer)
            refused += status == 503
            now = self.read()
            self.assertEqual(now, before + 1 if status == 200 else before)
            self.kill("claviger-parent")
            self.assertEqual(self.read(), now)
        self.assertGreater(refused, 5)
        self.assertEqual(self.stack.api("PUT", NAME, body_of(77, 1 << 20))[0], 200)
        self.assertEqual(self.read(), 77)


if __name__ == "__main__":
    unittest.main(verbosity=2)
