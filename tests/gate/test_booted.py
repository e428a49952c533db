"""Measured boot (R6) as a booted module shows it: `claviger policy hash` is the PCR16 of the running
enclave, files are in the registers that the policy names, every register is locked, and what the gate
counts is on /metrics."""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "tests" / "lib"))
from claviger_stack import Stack  # noqa: E402

AGENT = b"#!/usr/bin/python3\nprint('an agent')\n"
ZEROS = bytes(48)


def extended(data: bytes) -> bytes:
    return hashlib.sha384(ZEROS + hashlib.sha384(data).digest()).digest()


class Module:
    """A client of the NSM of its own, as a program inside the enclave could be."""

    def __init__(self, path: pathlib.Path):
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(str(path))

    def close(self) -> None:
        self.connection.close()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.connection.recv(size - len(data))
            assert piece, "the module went away"
            data += piece
        return data

    def ask(self, request: bytes) -> bytes:
        self.connection.sendall(struct.pack(">I", len(request)) + request)
        return self.read(*struct.unpack(">I", self.read(4)))

    @staticmethod
    def index(number: int) -> bytes:
        return b"\x65index" + (bytes([number]) if number < 24 else bytes([0x18, number]))

    def register(self, number: int) -> tuple[bool, bytes]:
        """{"DescribePCR": {"lock": bool, "data": bytes}}, in either order."""
        answer = self.ask(b"\xa1\x6bDescribePCR\xa1" + self.index(number))
        data = answer.index(b"\x64data\x58\x30") + 7
        return answer[answer.index(b"\x64lock") + 5] == 0xf5, answer[data:data + 48]

    def extend(self, number: int) -> bytes:
        return self.ask(b"\xa1\x69ExtendPCR\xa2" + self.index(number) + b"\x64data\x41\x00")


class Booted(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.exit = contextlib.ExitStack()
        try:
            cls.stack = stack = cls.exit.enter_context(Stack())
            stack.prepare()
            agent = stack.dir / "agent.py"
            agent.write_bytes(AGENT)
            policy = stack.default_policy()
            policy["measure"] = {"17": str(agent), "31": str(agent)}
            policy["agents"][0]["may"].append("attest:agent-state")
            stack.write_policy(policy)
            stack.start_nsm()
            stack.start_parent()
            stack.start_enclave()
            cls.module = Module(stack.dir / "nsm.sock")
            cls.exit.callback(cls.module.close)
        except BaseException:
            cls.exit.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        cls.exit.close()

    def metrics(self) -> dict[str, float]:
        text = self.stack.api("GET", "/metrics")[2].decode()
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def test_policy_hash_is_register_16_of_the_booted_module(self) -> None:
        printed = self.stack.run("claviger", "policy", "hash", str(self.stack.policy_file)).stdout
        locked, value = self.module.register(16)
        self.assertTrue(locked)
        self.assertEqual(printed, value.hex() + "\n")
        self.assertEqual(value, extended(self.stack.policy_file.read_bytes()))

    def test_files_are_in_the_registers_that_the_policy_names(self) -> None:
        for number in range(17, 32):
            _, value = self.module.register(number)
            self.assertEqual(value, extended(AGENT) if number in (17, 31) else ZEROS, number)

    def test_no_register_can_be_extended_any_more(self) -> None:
        for number in range(32):
            before = self.module.register(number)
            self.assertTrue(before[0], f"PCR{number} is open")
            self.assertIn(b"ReadOnlyIndex", self.module.extend(number))
            self.assertEqual(self.module.register(number), before)

    def test_a_remote_party_sees_the_policy_and_the_files(self) -> None:
        status, _, body = self.stack.api(
            "POST", "/v1/attestation", b'{"nonce":"0011"}', {"Content-Type": "application/json"})
        self.assertEqual(status, 200, body)
        document = self.stack.dir / "document"
        document.write_bytes(base64.b64decode(json.loads(body)["document"]))
        pins = [f"16={extended(self.stack.policy_file.read_bytes()).hex()}",
                f"17={extended(AGENT).hex()}"]
        for pin in pins:
            self.stack.run("claviger", "verify", str(document), "--root-sha256",
                           (self.stack.nsm_dir / "root.sha256").read_text().strip(), "--pcr", pin,
                           "--nonce", "0011")

    def test_what_the_gate_counts_is_on_metrics(self) -> None:
        before = self.metrics()
        for i in range(3):
            status, _, body = self.stack.api("PUT", f"/v1/state/counted{i}", b"x")
            self.assertEqual(status, 201, body)
        after = self.metrics()
        spent = "claviger_vouchers_spent_total"
        self.assertGreaterEqual(after[spent] - before[spent], 3)
        self.assertGreaterEqual(after["claviger_vouchers_total"], after[spent])
        keys = ("claviger_voucher_keys_pooled_total", "claviger_voucher_keys_made_total")
        self.assertEqual(sum(after[name] for name in keys), after["claviger_vouchers_total"])
        for name in ("claviger_vouchers_refused_total", "claviger_vouchers_expired_total",
                     "claviger_vouchers_mismatched_total", "claviger_clock_backwards_total",
                     "claviger_clock_jumped_total"):
            self.assertEqual(after[name], 0, name)
        for name in ("claviger_voucher_keys_ready", "claviger_vouchers_ahead_ready",
                     "claviger_vouchers_ahead_taken_total", "claviger_vouchers_ahead_missed_total"):
            self.assertIn(name, after)


if __name__ == "__main__":
    unittest.main(verbosity=2)
