"""What the parent's end-to-end tests share: an upstream, a running program, a client."""
import contextlib
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import program  # noqa: E402

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Upstream:
    """A TCP server on loopback; each connection is handed to a function in a thread."""

    def __init__(self, serve):
        self.serve = serve
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.socket.getsockname()[1]
        self.taken = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.taken.append(connection)
                threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        with contextlib.suppress(OSError):
            self.serve(connection)

    def close(self):
        self.socket.close()
        for connection in self.taken:
            connection.close()


def echo(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def read_all(connection) -> bytes:
    pieces = []
    while data := connection.recv(1 << 16):
        pieces.append(data)
    return b"".join(pieces)


def closed(connection) -> bool:
    """The other side closes within the timeout, with or without a reset."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


class ParentCase(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-"))
        self.addCleanup(shutil.rmtree, self.dir, True)

    def upstream(self, serve=echo) -> Upstream:
        server = Upstream(serve)
        self.addCleanup(server.close)
        return server

    def spawn(self, *arguments, env=None, ready=True):
        self.log = self.dir / "log"
        ready_file = self.dir / "ready"
        ready_file.unlink(missing_ok=True)
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                [program("claviger-parent"), *map(str, arguments),
                 "--ready-file", str(ready_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 40
        while ready and not ready_file.exists():
            self.assertIsNone(process.poll(), self.log.read_text())
            self.assertLess(time.monotonic(), deadline, "not ready in time")
            time.sleep(0.01)
        self.ready = json.loads(ready_file.read_text()) if ready else None
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.wait()

    def stop(self, process, seconds=20) -> int:
        process.send_signal(signal.SIGTERM)
        return process.wait(seconds)

    def lines(self, event: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if event in line]

    def wait_lines(self, event: str, count: int = 1, seconds: float = 15) -> list[str]:
        deadline = time.monotonic() + seconds
        while len(self.lines(event)) < count:
            self.assertLess(time.monotonic(), deadline,
                            f"no {event} in the log: {self.log.read_text()}")
            time.sleep(0.02)
        return self.lines(event)

    def connect(self, path, seconds: float = 20) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(seconds)
        self.addCleanup(client.close)
        client.connect(str(path))
        return client
