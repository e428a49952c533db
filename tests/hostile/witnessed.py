"""Stages whose policy has a freshness witness: the parent serves any store that it likes.

A caller is honest: it keeps the receipts that it got, and presents them all.
"""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parent"))
from etcd_cluster import BINARY, Cluster  # noqa: E402
from stage import RESULT, Server, Stage, carry, fault, message  # noqa: E402

HEADER = "Claviger-Receipt"


class Witnessed(Stage):
    verbs = (*Stage.verbs, "witness")

    def __init__(self) -> None:
        self.wrapped: dict[str, bytes] = {}  # key.put: what an honest parent keeps
        super().__init__()

    def witness(self) -> dict:
        raise NotImplementedError

    def default_policy(self) -> dict:
        return {**super().default_policy(), "witness": self.witness()}

    def cli(self, *arguments: str, check: bool = True):
        return self.run("claviger", "witness", "--agent", self.address("agent"), *arguments,
                        check=check)

    def answer_state_put(self, call: dict, data: bytes) -> bytes:
        if data[:1] == b"\x02":  # a sealed message; else a tombstone or a certificate
            return super().answer_state_put(call, data)
        if call["generation"] != self.states.get(call["name"], (0,))[0] + 1:
            return fault("state-conflict")
        self.states[call["name"]] = (call["generation"], data)
        return message(RESULT, {"generation": call["generation"]})

    def answer_key_get(self, call: dict, data: bytes) -> bytes:
        if call["name"] not in self.wrapped:
            return fault("state-not-found")
        return message(RESULT, {}, self.wrapped[call["name"]])

    def answer_key_put(self, call: dict, data: bytes) -> bytes:
        if call["name"] in self.wrapped:
            return fault("state-conflict")
        self.wrapped[call["name"]] = data
        return message(RESULT, {})


class EtcdStage(Witnessed):
    """A real etcd, to which the parent carries the bytes."""

    def __init__(self) -> None:
        if BINARY is None:
            raise unittest.SkipTest("etcd is not installed")
        super().__init__()
        (self.dir / "etcd").mkdir()
        self.cluster = Cluster(self.dir / "etcd", 1)

    def honest(self) -> None:
        super().honest()
        self.witness_relay = self.relay_to_witness

    def close(self) -> None:
        if hasattr(self, "witness_server"):
            self.witness_server.close()
        self.cluster.close()
        super().close()

    def witness(self) -> dict:
        return {"mode": "etcd", "key": "agent-state", "prefix": "test/",
                "endpoints": [self.cluster.url(0)],
                "ca_file": str(self.dir / "etcd" / "ca.pem")}

    def relay_to_witness(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.cluster.client[0]), 20) as far:
            carry(connection, far)

    def serve_witness(self, connection: socket.socket) -> None:
        held = connection.dup()
        self.carried.add(held)
        try:
            self.witness_relay(connection)
        finally:
            self.carried.discard(held)
            held.close()

    def start_enclave(self, policy=None, ready: bool = True, patience=None):
        if not hasattr(self, "witness_server"):
            self.witness_server = Server(self.dir / "witness.sock", self.serve_witness)
        return self.spawn(
            "clavigerd", "--policy", str(policy or self.policy_file),
            "--nsm", self.address("between"), "--control", self.address("control"),
            "--services", self.address("services"), "--relay", self.address("relay"),
            "--agent", self.address("agent"), "--witness-relay", self.address("witness"),
            ready=ready)

    def begin(self) -> None:
        etcd = self.dir / "etcd"
        (etcd / "enclave.csr").write_text(self.cli("csr").stdout)
        subprocess.run(["openssl", "x509", "-req", "-in", "enclave.csr", "-CA", "ca.pem", "-CAkey",
                        "ca.key", "-CAcreateserial", "-days", "2", "-out", "enclave.pem"],
                       cwd=etcd, check=True, capture_output=True)
        self.cli("certificate", str(etcd / "enclave.pem"))
        self.cli("init")


class ReceiptStage(Witnessed):
    def __init__(self) -> None:
        self.receipts: dict[str, str] = {}  # by path: the newest
        super().__init__()

    def witness(self) -> dict:
        return {"mode": "receipts", "key": "agent-state"}

    def begin(self) -> None:
        self.receipts["init"] = self.cli("init").stdout.strip()

    def api(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if "init" in self.receipts:
            headers.setdefault(HEADER, ",".join(self.receipts.values()))
        answer = super().api(method, path, body, headers)
        with contextlib.suppress(KeyError):
            self.receipts[path.partition("?")[0]] = answer[1][HEADER]
        return answer
