"""A parent in Python, for tests: it speaks docs/protocol.md from its text alone, and can be told to
lie. What it is told to answer goes out as it is, so that the enclave meets a parent that is not
ours.
"""
from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import socketserver
import struct
import threading

CALL, DATA, END, RESULT, FAULT = 1, 2, 3, 4, 5
PIECE = 1 << 20


class Refused(Exception):
    """A fault to answer with."""

    def __init__(self, code: str, message: str = "refused"):
        super().__init__(message)
        self.code = code


def frame(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHI", 1, kind, 0, len(payload)) + payload


def read_exactly(sock: socket.socket, n: int) -> bytes:
    out = b""
    while len(out) < n:
        piece = sock.recv(n - len(out))
        if not piece:
            raise EOFError
        out += piece
    return out


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    _, kind, _, length = struct.unpack(">BBHI", read_exactly(sock, 8))
    return kind, read_exactly(sock, length)


def read_data(sock: socket.socket) -> bytes:
    out = bytearray()
    while True:
        kind, payload = read_frame(sock)
        if kind == END:
            return bytes(out)
        out += payload


def send_data(sock: socket.socket, data: bytes) -> None:
    for at in range(0, len(data), PIECE):
        sock.sendall(frame(DATA, data[at:at + PIECE]))
    sock.sendall(frame(END))


def call(path: str, request: dict, data: bytes = b"", timeout: float = 60):
    """One call to a control address on a Unix socket: (result, data), or Refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(path)
        sock.sendall(frame(CALL, json.dumps(request).encode()))
        send_data(sock, data)
        kind, payload = read_frame(sock)
        answer = json.loads(payload)
        if kind == FAULT:
            raise Refused(answer["code"], answer["message"])
        return answer, read_data(sock)


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 256


class PythonParent:
    """Services and relay on Unix sockets; `lies` maps an op to a function that answers instead.

    A lie gets (call, data) and gives (result, data) or raises Refused; bytes instead of a pair are
    sent as they are, and None closes the connection.
    """

    def __init__(self, services: str, relay: str, kms: tuple[str, int],
                 credentials: pathlib.Path, baseline: pathlib.Path):
        self.kms, self.credentials, self.baseline = kms, credentials, baseline
        self.states: dict[str, tuple[int, bytes]] = {}
        self.keys: dict[str, bytes] = {}
        self.lies: dict = {}
        self.calls: list[str] = []
        self.relayed: list[socket.socket] = []
        self.lock = threading.Lock()
        self.servers = [self._serve(services, self._services), self._serve(relay, self._relay)]

    def __enter__(self) -> "PythonParent":
        return self

    def __exit__(self, *_) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def _serve(self, path: str, handle):
        pathlib.Path(path).unlink(missing_ok=True)

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError, EOFError):
                    handle(self.request)
        server = _UnixServer(path, Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def _services(self, sock: socket.socket) -> None:
        while True:
            _, payload = read_frame(sock)
            request, data = json.loads(payload), read_data(sock)
            self.calls.append(request["op"])
            answer = self.lies.get(request["op"], self.honest)
            try:
                said = answer(request, data)
            except Refused as fault:
                sock.sendall(frame(FAULT, json.dumps(
                    {"code": fault.code, "message": str(fault)}).encode()))
                continue
            if said is None:
                return
            if isinstance(said, bytes):
                sock.sendall(said)
                continue
            sock.sendall(frame(RESULT, json.dumps(said[0]).encode()))
            send_data(sock, said[1])

    def honest(self, request: dict, data: bytes):
        op, name = request["op"], request.get("name")
        if op == "baseline":
            signature = pathlib.Path(f"{self.baseline}.minisig").read_text()
            return {"signature": signature}, self.baseline.read_bytes()
        if op == "credentials":
            return {}, self.credentials.read_bytes()
        with self.lock:
            return getattr(self, op.replace(".", "_"))(name, request, data)

    def state_get(self, name, request, data):
        if name not in self.states:
            raise Refused("state-not-found")
        return {"generation": self.states[name][0]}, self.states[name][1]

    def state_put(self, name, request, data):
        if request["generation"] != self.states.get(name, (0, b""))[0] + 1:
            raise Refused("state-conflict")
        self.states[name] = request["generation"], data
        return {"generation": request["generation"]}, b""

    def state_delete(self, name, request, data):
        if name not in self.states:
            raise Refused("state-not-found")
        if self.states[name][0] != request["generation"]:
            raise Refused("state-conflict")
        del self.states[name]
        return {}, b""

    def state_watch(self, name, request, data):
        return {"generation": self.states.get(name, (0, b""))[0]}, b""

    def state_list(self, name, request, data):
        return {"states": [{"name": n, "generation": g, "size": len(d)}
                           for n, (g, d) in sorted(self.states.items())
                           if n.startswith(request["prefix"])]}, b""

    def key_get(self, name, request, data):
        if name not in self.keys:
            raise Refused("state-not-found")
        return {}, self.keys[name]

    def key_put(self, name, request, data):
        if name in self.keys:
            raise Refused("state-conflict")
        self.keys[name] = data
        return {}, b""

    def relay_to(self, kms: tuple[str, int]) -> None:
        """Send new connections elsewhere, and end the ones there are."""
        self.kms = kms
        while self.relayed:
            with contextlib.suppress(OSError):
                self.relayed.pop().shutdown(socket.SHUT_RDWR)

    def _relay(self, sock: socket.socket) -> None:
        with socket.create_connection(self.kms, 20) as upstream:
            self.relayed.append(upstream)
            def pump(one, other):
                with contextlib.suppress(OSError):
                    while piece := one.recv(65536):
                        other.sendall(piece)
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_WR)
            back = threading.Thread(target=pump, args=(upstream, sock), daemon=True)
            back.start()
            pump(sock, upstream)
            back.join(30)
