#!/usr/bin/env python3
"""From the enclave's start to the first unsealed state: clavigerd is executed, measures its policy,
proves itself, gets baseline and credentials from the parent, opens its doors, and an agent that has
been trying all along gets the state that an earlier boot sealed, which takes one Decrypt of KMS.

The floor, in the same run: what cannot be spared, each part alone. Executing the program (--version),
one document of the NSM (as /v1/attestation answers it, verified), the RSA key of the voucher (as
`openssl genpkey` makes one), one call to KMS over a new TLS connection. NSM, KMS and parent are the local ones and share the machine's processors. An enclave's
own start, kernel and all, comes on top.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CLAVIGER_SOURCE", str(SOURCE))
os.environ.setdefault("CLAVIGER_BUILD", str(SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests" / "lib"))
from claviger_stack import Stack, program  # noqa: E402

BOOTS = int(os.environ.get("BENCH_BOOTS", "15"))
STATE = b"what the agent knows " * 200  # about 4 KiB
PATIENCE_S = 60


def until_answered(stack: Stack, path: str, deadline: float) -> None:
    """Tries as an agent does that does not know when the daemon is up."""
    while time.monotonic() < deadline:
        try:
            status, _, body = stack.api("GET", path)
        except OSError:
            time.sleep(0.001)
            continue
        if status == 200:
            return
        raise SystemExit(f"{path}: {status} {body.decode(errors='replace')}")
    raise SystemExit(f"{path}: no answer in {PATIENCE_S} s")


def boot(stack: Stack) -> tuple[float, float]:
    """Milliseconds to the first answer, and to the first unsealed state."""
    stack.running["clavigerd"].kill()
    stack.start_nsm()
    start = time.monotonic()
    stack.start_enclave(ready=False)
    until_answered(stack, "/healthz", start + PATIENCE_S)
    alive = time.monotonic()
    until_answered(stack, "/v1/state/first", start + PATIENCE_S)
    return (alive - start) * 1000, (time.monotonic() - start) * 1000


def timed(call) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(BOOTS):
        start = time.monotonic()
        call()
        taken.append((time.monotonic() - start) * 1000)
    return statistics.median(taken)


def attest(stack: Stack) -> None:
    status, _, body = stack.api("POST", "/v1/attestation", b'{"nonce":"00"}',
                                {"Content-Type": "application/json"})
    assert status == 200, body


def describe(stack: Stack) -> None:
    status, body = stack.kms("DescribeKey", {"KeyId": stack.keys["agent-state"]})
    assert status == 200, body


def main() -> None:
    with Stack() as stack:
        stack.prepare()
        policy = stack.default_policy()
        policy["agents"][0]["may"] += ["attest:agent-state"]
        stack.write_policy(policy)
        stack.start_nsm()
        stack.start_parent()
        stack.start_enclave()
        assert stack.api("PUT", "/v1/state/first", STATE)[0] == 201
        boots = [boot(stack) for _ in range(BOOTS)]
        floors = {
            "execute the program": timed(lambda: subprocess.run(
                [program("clavigerd"), "--version"], check=True, stdout=subprocess.DEVNULL)),
            "one RSA key of 2048 bits": timed(lambda: subprocess.run(
                ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                check=True, capture_output=True)),
            "one document of the NSM": timed(lambda: attest(stack)),
            "one call to KMS": timed(lambda: describe(stack)),
        }
    for name, column in (("first answer", 0), ("first unsealed state", 1)):
        values = sorted(row[column] for row in boots)
        print(f"{name:<26} p50 {statistics.median(values):7.1f} ms, worst of {BOOTS} "
              f"{values[-1]:7.1f} ms")
    for name, value in floors.items():
        print(f"{'floor: ' + name:<32} {value:7.1f} ms")
    floor = sum(floors.values())
    print(f"{'floor: together':<32} {floor:7.1f} ms; the first unsealed state takes "
          f"{statistics.median(row[1] for row in boots) / floor:.1f} times that")


if __name__ == "__main__":
    main()
