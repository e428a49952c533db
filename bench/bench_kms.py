#!/usr/bin/env python3
"""Latency of each KMS operation over loopback, with a kept connection and with a new one for each
call, against curl making the same signed request of the same KMS in the same run.

Ours is the whole call (spend, sign, send, check, open the CMS answer); curl's is its own
time_total, without the start of its process. Vouching, which comes before each call, is beside it.
Opening the answer takes one RSA-2048 decryption, which curl does not do: `openssl speed` measures it
in the same run, and "less RSA" compares what is left.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CLAVIGER_SOURCE", str(SOURCE))
os.environ.setdefault("CLAVIGER_BUILD", str(SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests" / "lib"))
from kms_client import HOST, REGION, Client, Lab  # noqa: E402

CALLS = int(os.environ.get("BENCH_CALLS", "60"))
ROUNDS = 3
CONTEXT = {"Purpose": "bench"}


def operations(lab: Lab):
    """(operation, what our client is told, the same as KMS's parameters)"""
    key = lab.key()
    agreement = lab.key(KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")
    blob = lab.ok("GenerateDataKey", {"KeyId": key, "NumberOfBytes": 32,
                                      "EncryptionContext": CONTEXT})["CiphertextBlob"]
    peer = lab.ok("GetPublicKey", {"KeyId": lab.key(KeySpec="ECC_NIST_P256",
                                                    KeyUsage="KEY_AGREEMENT")})["PublicKey"]
    common = {"KeyId": key, "EncryptionContext": CONTEXT}
    ours = {"key_id": key, "context": CONTEXT}
    return [
        ("GenerateDataKey", ours | {"bytes": 32}, common | {"NumberOfBytes": 32}),
        ("Decrypt", ours | {"ciphertext": blob}, common | {"CiphertextBlob": blob}),
        ("GenerateDataKeyPair", ours | {"pair_spec": "ECC_NIST_P256"},
         common | {"KeyPairSpec": "ECC_NIST_P256"}),
        ("GenerateRandom", {"bytes": 32}, {"NumberOfBytes": 32}),
        ("DeriveSharedSecret", {"key_id": agreement, "public_key": peer},
         {"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer}),
    ]


def curl(lab: Lab, operation: str, body: pathlib.Path, urls: int) -> list[float]:
    """Milliseconds of each of so many requests by one curl."""
    credentials = lab.credentials
    out = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--config", "-", "--output", "/dev/null",
         "--write-out", "%{time_total}\n", "--aws-sigv4", f"aws:amz:{REGION}:kms",
         "--header", "Content-Type: application/x-amz-json-1.1",
         "--header", f"X-Amz-Target: TrentService.{operation}", "--data-binary", f"@{body}",
         "--cacert", str(lab.kms_dir / "ca.pem"), "--connect-to", f"::127.0.0.1:{lab.port}",
         *[part for _ in range(urls) for part in (f"https://{HOST}/", "--output", "/dev/null")]],
        input=f'user = "{credentials["AccessKeyId"]}:{credentials["SecretAccessKey"]}"\n',
        text=True, capture_output=True, check=True)
    return [float(line) * 1000 for line in out.stdout.split()]


def measure(lab: Lab, client: Client, operation: str, told: dict, parameters: dict):
    """Medians in ms: vouching; ours and curl's, kept and new."""
    ours, theirs = {False: [], True: []}, {False: [], True: []}
    vouching = []
    body = lab.dir / "body.json"
    for _ in range(ROUNDS):
        body.write_text(json.dumps(lab.for_recipient() | parameters))
        for fresh in (False, True):
            answer = client.ok(operation, times=CALLS // ROUNDS, fresh=fresh, **told)
            ours[fresh] += [us / 1000 for us in answer["call_us"]]
            vouching += [us / 1000 for us in answer["vouch_us"]]
            if fresh:
                for _ in range(CALLS // ROUNDS):
                    theirs[True] += curl(lab, operation, body, 1)
            else:
                # The first opens the connection that the others keep using.
                theirs[False] += curl(lab, operation, body, CALLS // ROUNDS + 1)[1:]
    # So does our first one.
    median = statistics.median
    return (median(vouching), median(ours[False][1:]), median(theirs[False]), median(ours[True]),
            median(theirs[True]))


def rsa_ms() -> float:
    """One RSA-2048 private operation by OpenSSL."""
    out = subprocess.run(["openssl", "speed", "-mr", "-seconds", "1", "rsa2048"], text=True,
                         capture_output=True, check=True).stdout
    # "+F2:<index>:<bits>:<private operations a second>:<public ones>"
    line, = (line for line in out.splitlines() if line.startswith("+F2:"))
    return 1000 / float(line.split(":")[3])


def main() -> None:
    rsa = rsa_ms()
    print(f"medians of {CALLS} calls each, in ms; ratio = ours / curl's; "
          f"RSA-2048 by openssl speed: {rsa:.2f}")
    print(f"{'':20} {'vouch':>7}   {'kept: ours':>10} {'curl':>7} {'ratio':>6} {'less RSA':>8}   "
          f"{'new: ours':>10} {'curl':>7} {'ratio':>6} {'less RSA':>8}")
    with Lab() as lab:
        client = Client(lab)
        for operation, told, parameters in operations(lab):
            vouch, kept, kept_curl, new, new_curl = measure(lab, client, operation, told, parameters)
            print(f"{operation:20} {vouch:7.2f}   {kept:10.2f} {kept_curl:7.2f} "
                  f"{kept / kept_curl:6.2f} {(kept - rsa) / kept_curl:8.2f}   {new:10.2f} "
                  f"{new_curl:7.2f} {new / new_curl:6.2f} {(new - rsa) / new_curl:8.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
