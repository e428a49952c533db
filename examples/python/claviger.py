"""A client of clavigerd's agent API (docs/agent-api.md), over its Unix socket.

    with Client("/run/claviger/agent.sock") as claviger:
        state = claviger.put_state("memory", b"what I know")
        assert claviger.get_state("memory").data == b"what I know"

Python 3.9 or newer, standard library only, with claviger_receipts.py beside it. Client keeps one
connection and belongs to one thread; AsyncClient offers the same calls to asyncio.
"""
from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import select
import socket
from dataclasses import dataclass
from typing import Any, BinaryIO, Iterable, Iterator, MutableMapping, Optional, Union
from urllib.parse import quote, urlencode

import claviger_receipts

DEFAULT_SOCKET = os.environ.get("CLAVIGER_SOCKET", "/run/claviger/agent.sock")
Body = Union[bytes, BinaryIO, Iterable[bytes], None]


class Problem(Exception):
    """What the daemon refused, and why: its problem document (RFC 9457)."""

    def __init__(self, status: int, document: dict[str, Any]):
        self.status = status
        self.code: str = document.get("code", "unknown")
        self.detail: str = document.get("detail", "")
        self.expected: Optional[str] = document.get("expected")
        self.found: Optional[str] = document.get("found")
        self.operation: Optional[str] = document.get("operation")
        super().__init__(f"{self.detail} ({self.code}, status {status}, "
                         f"operation {self.operation})")


@dataclass(frozen=True)
class State:
    """A state's content and the generation it has in the store."""

    data: bytes
    generation: int


@dataclass(frozen=True)
class Stored:
    """What a put made: size is the plaintext's."""

    name: str
    generation: int
    size: int


@dataclass(frozen=True)
class Listed:
    """One state of a listing: sealed_size is what the store holds."""

    name: str
    generation: int
    sealed_size: int


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def drop_if_ended(self) -> None:
        """The daemon closes idle connections and may have been restarted: nothing can be read
        between two calls but that end, and the next call opens another connection."""
        if self.sock is not None and select.select([self.sock], [], [], 0)[0]:
            self.close()


class Client:
    """The agent API, one call a method. `key` may be left out when the policy has one key.
    receipts, where the policy's witness works by them (docs/freshness.md): a mapping that holds the
    init receipt as "init"; it learns the others, and is the caller's to keep."""

    def __init__(self, path: str = DEFAULT_SOCKET, key: Optional[str] = None,
                 timeout: float = 60, receipts: Optional[MutableMapping[str, str]] = None):
        self.key = key
        self.receipts: MutableMapping[str, str] = {} if receipts is None else receipts
        self._connection = _Connection(path, timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # -- state: sealed here, kept by the parent ------------------------------------------------

    def put_state(self, name: str, data: Body, generation: Optional[int] = None,
                  key: Optional[str] = None) -> Stored:
        """Seal and store. generation: the one to replace, 0 for "there must be none"; without
        it, whatever is there is replaced. Raises Problem with status 412 when it is another."""
        headers = {}
        if generation == 0:
            headers["If-None-Match"] = "*"
        elif generation is not None:
            headers["If-Match"] = f'"{generation}"'
        return Stored(**self._json("PUT", f"/v1/state/{quote(name)}", data, headers, key=key))

    def get_state(self, name: str, generation: Optional[int] = None,
                  key: Optional[str] = None) -> State:
        """generation: the one that must be there; Problem with status 412 when it is another."""
        with self.open_state(name, generation, key) as answer:
            return State(answer.read(), int(answer.getheader("ETag", '"0"').strip('"')))

    def wait_state(self, name: str, generation: int, seconds: int = 25,
                   key: Optional[str] = None) -> Optional[State]:
        """The state once it is of another generation than this one; None when the time is over."""
        answer = self._send("GET", f"/v1/state/{quote(name)}", None,
                            {"If-None-Match": f'"{generation}"'}, key=key, wait=str(seconds))
        data = answer.read()
        if answer.status == 304:
            return None
        return State(data, int(answer.getheader("ETag", '"0"').strip('"')))

    @contextlib.contextmanager
    def open_state(self, name: str, generation: Optional[int] = None, key: Optional[str] = None
                   ) -> Iterator[http.client.HTTPResponse]:
        """The unsealed state as a file to read from."""
        headers = {"If-Match": f'"{generation}"'} if generation is not None else {}
        answer = self._send("GET", f"/v1/state/{quote(name)}", None, headers, key=key)
        try:
            yield answer
        finally:
            answer.read()

    def delete_state(self, name: str, generation: Optional[int] = None,
                     key: Optional[str] = None) -> None:
        headers = {"If-Match": f'"{generation}"'} if generation is not None else {}
        self._send("DELETE", f"/v1/state/{quote(name)}", None, headers, key=key).read()

    def list_states(self, prefix: str = "", key: Optional[str] = None) -> list[Listed]:
        more = {"prefix": prefix} if prefix else {}
        answer = self._json("GET", "/v1/state", key=key, **more)
        return [Listed(**entry) for entry in answer["states"]]

    # -- messages that the agent keeps itself --------------------------------------------------

    def seal(self, name: str, data: Body, key: Optional[str] = None) -> bytes:
        return self._send("POST", "/v1/seal", data, key=key, name=name).read()

    def unseal(self, name: str, sealed: Body, key: Optional[str] = None) -> bytes:
        return self._send("POST", "/v1/unseal", sealed, key=key, name=name).read()

    # -- derived keys: `of` is {"path", "purpose", "algorithm", "length"?, "root_id"?} ------------

    def derive_key(self, of: dict[str, Any], key: Optional[str] = None) -> dict[str, Any]:
        """The key itself and what belongs to it, in hex."""
        return self._post("/v1/keys/derive", of, key)

    def public_key(self, of: dict[str, Any], key: Optional[str] = None) -> dict[str, Any]:
        return self._post("/v1/keys/public", of, key)

    def sign(self, of: dict[str, Any], message: bytes, key: Optional[str] = None
             ) -> dict[str, Any]:
        """{"signature", "public_key", "root_id", ...}: by a key that the caller never sees."""
        return self._post("/v1/keys/sign", {**of, "message": _base64(message)}, key)

    def sign_digest(self, of: dict[str, Any], digest: bytes, key: Optional[str] = None
                    ) -> dict[str, Any]:
        return self._post("/v1/keys/sign", {**of, "digest": digest.hex()}, key)

    def hmac(self, of: dict[str, Any], message: bytes, key: Optional[str] = None) -> bytes:
        answer = self._post("/v1/keys/hmac", {**of, "message": _base64(message)}, key)
        return bytes.fromhex(answer["tag"])

    # -- the enclave ---------------------------------------------------------------------------

    def attest(self, nonce: Optional[bytes] = None, report_data: Optional[bytes] = None,
               key: Optional[str] = None) -> bytes:
        """An attestation document for a remote party."""
        given = {"nonce": nonce, "report_data": report_data}
        body = {name: value.hex() for name, value in given.items() if value is not None}
        return base64.b64decode(self._post("/v1/attestation", body, key)["document"])

    def evidence(self, key: Optional[str] = None) -> list[dict[str, Any]]:
        """The last calls to KMS: number, action, operation and document (bytes)."""
        calls = self._json("GET", "/v1/evidence", key=key)["calls"]
        return [{**call, "operation": base64.b64decode(call["operation"]),
                 "document": base64.b64decode(call["document"])} for call in calls]

    def identity(self) -> dict[str, Any]:
        return self._json("GET", "/v1/identity")

    def ready(self) -> bool:
        try:
            self._send("GET", "/readyz").read()
        except Problem:
            return False
        return True

    # -- HTTP ----------------------------------------------------------------------------------

    def _send(self, method: str, path: str, body: Body = None,
              headers: Optional[dict[str, str]] = None, **query: Optional[str]
              ) -> http.client.HTTPResponse:
        if "key" in query and query["key"] is None:
            query["key"] = self.key
        given = {name: value for name, value in query.items() if value is not None}
        target = path + ("?" + urlencode(given, quote_via=quote) if given else "")
        what = "root" if path.startswith("/v1/keys/") else path
        receipt_of = f"{query.get('key') or ''} {what}"
        shown = claviger_receipts.shown(self.receipts, receipt_of)
        if shown:
            headers = {**(headers or {}), "Claviger-Receipt": ",".join(shown)}
        self._connection.drop_if_ended()
        try:
            self._connection.request(method, target, body, headers or {})
            answer = self._connection.getresponse()
        except BaseException:  # half a request, or an answer that would be the next call's
            self._connection.close()
            raise
        if answer.getheader("Claviger-Receipt"):
            claviger_receipts.learn(self.receipts, receipt_of,
                                    answer.getheader("Claviger-Receipt"))
        if answer.status < 400:
            return answer
        text = answer.read()
        try:
            document = json.loads(text)
        except ValueError:
            document = {"detail": text.decode(errors="replace")}
        raise Problem(answer.status, document)

    def _post(self, path: str, document: dict[str, Any], key: Optional[str]) -> dict[str, Any]:
        return self._json("POST", path, json.dumps(document).encode(),
                          {"Content-Type": "application/json"}, key=key)

    def _json(self, method: str, path: str, body: Body = None,
              headers: Optional[dict[str, str]] = None, **query: Optional[str]) -> Any:
        return json.loads(self._send(method, path, body, headers, **query).read())


class AsyncClient:
    """The same calls as coroutines: each runs on a thread, with a connection of its own.

        async with AsyncClient() as claviger:
            state = await claviger.get_state("memory")
    """

    def __init__(self, path: str = DEFAULT_SOCKET, key: Optional[str] = None,
                 timeout: float = 60, receipts: Optional[MutableMapping[str, str]] = None):
        kept: MutableMapping[str, str] = {} if receipts is None else receipts
        self._make = lambda: Client(path, key, timeout, kept)
        self._idle: list[Client] = []

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop().close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("open_state", "close") or not hasattr(Client, name):
            raise AttributeError(name)

        def run(client: Client, arguments: Any, more: Any) -> Any:
            try:  # on the thread: a call that is cancelled keeps its connection until it ends
                return getattr(client, name)(*arguments, **more)
            finally:
                self._idle.append(client)

        async def call(*arguments: Any, **more: Any) -> Any:
            client = self._idle.pop() if self._idle else self._make()
            return await asyncio.to_thread(run, client, arguments, more)
        return call
