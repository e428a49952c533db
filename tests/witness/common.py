"""Stacks whose policy has a freshness witness, for the end-to-end tests."""
from __future__ import annotations

import base64
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parent"))
from claviger_stack import Stack  # noqa: E402
from etcd_cluster import BINARY, Cluster  # noqa: E402

VERBS = ("seal", "unseal", "delete", "derive", "attest", "witness")
HEADER = "Claviger-Receipt"


def may(policy: dict) -> dict:
    policy["agents"] = [{"uid": os.getuid(), "may": [f"{verb}:agent-state" for verb in VERBS]}]
    return policy


class Witnessed(Stack):
    """What both modes share."""

    def witness(self) -> dict:
        raise NotImplementedError

    def default_policy(self) -> dict:
        return {**may(super().default_policy()), "witness": self.witness()}

    def start(self) -> None:
        self.prepare()
        self.start_nsm()
        self.start_parent()
        self.start_enclave()

    def cli(self, *arguments: str, check: bool = True):
        """claviger witness …"""
        return self.run("claviger", "witness", "--agent", self.address("agent"), *arguments,
                        check=check)

    def status(self) -> dict:
        return json.loads(self.cli("status").stdout)


class EtcdStack(Witnessed):
    """With a cluster of real etcd servers behind the parent's relays."""

    def __init__(self, members: int = 1) -> None:
        super().__init__()
        (self.dir / "etcd").mkdir()
        self.cluster = Cluster(self.dir / "etcd", members)

    def close(self) -> None:
        self.cluster.close()
        super().close()

    def witness(self) -> dict:
        return {"mode": "etcd", "key": "agent-state", "prefix": "test/",
                "ca_file": str(self.dir / "etcd" / "ca.pem"),
                "endpoints": [f"https://127.0.0.1:{port}" for port in self.cluster.client]}

    def relay_names(self) -> list[str]:
        return [f"witness{i}" for i in range(len(self.cluster.client))]

    def start_parent(self, relay_to=None):
        self.parent_arguments = []
        for name, port in zip(self.relay_names(), self.cluster.client):
            self.parent_arguments += ["--relay", f"{self.address(name)}=127.0.0.1:{port}"]
        return super().start_parent(relay_to)

    def start_enclave(self, policy=None, ready=True):
        self.enclave_arguments = []
        for name in self.relay_names():
            self.enclave_arguments += ["--witness-relay", self.address(name)]
        return super().start_enclave(policy, ready)

    def sign(self, csr: str) -> pathlib.Path:
        """What the operator's CA makes of the enclave's request."""
        etcd = self.dir / "etcd"
        (etcd / "enclave.csr").write_text(csr)
        (etcd / "enclave.ext").write_text("extendedKeyUsage=clientAuth\n")
        subprocess.run(["openssl", "x509", "-req", "-in", "enclave.csr", "-CA", "ca.pem", "-CAkey",
                        "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "enclave.ext",
                        "-out", "enclave.pem"], cwd=etcd, check=True, capture_output=True)
        return etcd / "enclave.pem"

    def certify(self) -> None:
        self.cli("certificate", str(self.sign(self.cli("csr").stdout)))

    def begin(self) -> None:
        self.certify()
        self.cli("init")


class ReceiptStack(Witnessed):
    """With receipts; the init receipt is what it returns at first."""

    def witness(self) -> dict:
        return {"mode": "receipts", "key": "agent-state"}

    def begin(self) -> None:
        self.init = self.cli("init").stdout.strip()


class Case(unittest.TestCase):
    """Tests of one class share a stack."""

    make = EtcdStack

    @classmethod
    def setUpClass(cls) -> None:
        if cls.make is EtcdStack and BINARY is None:
            raise unittest.SkipTest("etcd is not installed")
        cls.stack = cls.make()
        try:
            cls.stack.start()
            cls.stack.begin()
        except BaseException as problem:
            text = getattr(problem, "stderr", "")
            cls.stack.close()
            raise AssertionError(f"{problem} {text}") from problem

    @classmethod
    def tearDownClass(cls) -> None:
        log = cls.stack.running["clavigerd"].log
        cls.stack.close()
        if "Sanitizer" in log:
            raise AssertionError(log[-4000:])

    def refused(self, answer, status: int, code: str) -> dict:
        found, _, body = answer
        problem = json.loads(body)
        self.assertEqual((found, problem["code"]), (status, code), problem)
        return problem


def decode(receipt: str) -> bytes:
    return base64.b64decode(receipt)
