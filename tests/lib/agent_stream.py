"""The agent's side of a stream (docs/sealing.md), byte by byte: for tests that break off or lie."""
import socket
import struct

from claviger_stack import Stack

DATA, END, FAULT = 2, 3, 5


def frame(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BBHI", 1, kind, 0, len(payload)) + payload


def upgrade(stack: Stack, verb: str, name: str, key: str = "agent-state") -> socket.socket:
    """A connection that carries frames."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(60)
    stream.connect(str(stack.dir / "agent.sock"))
    stream.sendall(f"POST /v1/stream/{verb}?name={name}&key={key} HTTP/1.1\r\nHost: x\r\n"
                   "Connection: Upgrade\r\nUpgrade: claviger-stream\r\n"
                   "Content-Length: 0\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return stream


def read_frame(stream: socket.socket) -> tuple[int, bytes]:
    def exactly(n: int) -> bytes:
        found = b""
        while len(found) < n:
            piece = stream.recv(n - len(found))
            if not piece:
                raise ConnectionError("the daemon closed the stream")
            found += piece
        return found
    _, kind, _, length = struct.unpack(">BBHI", exactly(8))
    return kind, exactly(length)
