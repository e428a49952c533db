"""Finds secrets in the memory of a running program (R13).

A test knows each key: it takes the CiphertextBlob out of a message and has claviger-kms open it from
its own database. Reading another process's memory takes root, or the same user with ptrace allowed.
"""
import base64
import hashlib
import hmac
import pathlib
import struct
import unittest

from claviger_stack import Stack, program

# AddressSanitizer keeps freed memory aside and maps terabytes of shadow: that is not the daemon.
SANITIZED = b"__asan_init" in pathlib.Path(program("clavigerd")).read_bytes()


def memory_of(pid):
    """Every readable page, as one piece for each mapping."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            if "r" not in rights or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                yield line.strip(), memory.read(end - start)
            except OSError:
                continue  # guard pages and the like


def skip_unless_readable(pid):
    try:
        next(memory_of(pid))
    except PermissionError:
        raise unittest.SkipTest("this machine does not let root read a process's memory")


def find(pid, secret):
    """Where any 16 bytes of the secret are: an allocator writes its own over the first of a freed
    block."""
    parts = [secret[at:at + 16] for at in range(0, len(secret) - 15, 16)]
    return [where for where, piece in memory_of(pid) if any(part in piece for part in parts)]


def header_of(message):
    """Message id and the one encrypted data key (message format version 2)."""
    message_id, at = message[3:35], 35
    aad, = struct.unpack_from(">H", message, at)
    at += 2 + aad + 2  # and the count of keys
    for _ in range(3):  # provider, provider information, the key
        size, = struct.unpack_from(">H", message, at)
        value = message[at + 2:at + 2 + size]
        at += 2 + size
    return message_id, value


def hkdf_sha512(key, salt, info, size):
    block, out = b"", b""
    prk = hmac.new(salt, key, hashlib.sha512).digest()
    for counter in range(1, size // 64 + 2):
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha512).digest()
        out += block
    return out[:size]


def secrets_of(stack: Stack, message: bytes) -> dict[str, bytes]:
    """The data key of a message and the key derived from it."""
    message_id, encrypted = header_of(message)
    key = stack.reveal(base64.b64encode(encrypted).decode())
    assert len(key) == 32
    return {"data key": key,
            "message key": hkdf_sha512(key, message_id, b"\x04\x78DERIVEKEY", 32)}
