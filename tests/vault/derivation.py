#!/usr/bin/env python3
"""Derivation recomputed from docs/derivation.md alone, in Python's standard library.

    derivation.py         every vector of docs/derivation-vectors.json holds (exit 1 otherwise)
    derivation.py make    print the vectors

HKDF, the CBOR of the info, RFC 8032, RFC 7748 and the two Weierstrass curves are written out
here, slowly and in the open, so that nothing of the library under test is trusted.
"""
from __future__ import annotations

import hashlib
import hmac
import json
import os
import pathlib
import sys

SALT = b"claviger derivation v1"
LENGTHS = {"raw": 32, "hmac-sha256": 32, "hmac-sha512": 64, "ed25519": 32, "x25519": 32,
           "p256": 32, "secp256k1": 32}


def cbor(value) -> bytes:
    """Deterministic CBOR (RFC 8949 section 4.2) of texts, numbers, lists and maps."""
    def head(major: int, n: int) -> bytes:
        if n < 24:
            return bytes([major << 5 | n])
        for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
            if n < 1 << 8 * size:
                return bytes([major << 5 | code]) + n.to_bytes(size, "big")
        raise ValueError(n)
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    pairs = sorted((cbor(k), cbor(v)) for k, v in value.items())
    return head(5, len(pairs)) + b"".join(k + v for k, v in pairs)


def hkdf(root: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 with SHA-512."""
    prk = hmac.new(SALT, root, hashlib.sha512).digest()
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha512).digest()
        out, i = out + block, i + 1
    return out[:length]


def info_of(v: dict) -> bytes:
    return cbor(["claviger-derive-1", v["key_arn"], v["context"], v["algorithm"], v["length"],
                 v["purpose"], v["path"]])


class Weierstrass:
    """y^2 = x^3 + a x + b over p, with the generator g of order n (SEC 2)."""

    def __init__(self, p, a, n, g):
        self.p, self.a, self.n, self.g = p, a, n, g

    def add(self, one, two):
        if one is None or two is None:
            return one or two
        (x1, y1), (x2, y2), p = one, two, self.p
        if x1 == x2 and (y1 + y2) % p == 0:
            return None
        slope = (3 * x1 * x1 + self.a) * pow(2 * y1, -1, p) if one == two else \
            (y2 - y1) * pow(x2 - x1, -1, p)
        x = (slope * slope - x1 - x2) % p
        return x, (slope * (x1 - x) - y1) % p

    def multiply(self, k, point):
        out = None
        while k:
            if k & 1:
                out = self.add(out, point)
            point, k = self.add(point, point), k >> 1
        return out

    def public(self, key: bytes) -> bytes:
        x, y = self.multiply(int.from_bytes(key, "big"), self.g)
        return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")

    def verifies(self, public: bytes, digest: bytes, signature: bytes) -> bool:
        r, s = (int.from_bytes(signature[i:i + 32], "big") for i in (0, 32))
        if not (0 < r < self.n and 0 < s <= self.n // 2):
            return False
        point = tuple(int.from_bytes(public[i:i + 32], "big") for i in (1, 33))
        z, w = int.from_bytes(digest, "big"), pow(s, -1, self.n)
        found = self.add(self.multiply(z * w % self.n, self.g),
                         self.multiply(r * w % self.n, point))
        return found is not None and found[0] % self.n == r


P256 = Weierstrass(
    2**256 - 2**224 + 2**192 + 2**96 - 1, -3,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5))
SECP256K1 = Weierstrass(
    2**256 - 2**32 - 977, 0,
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8))
CURVES = {"p256": P256, "secp256k1": SECP256K1}
P25519 = 2**255 - 19


def clamp(scalar: bytes) -> int:
    k = int.from_bytes(scalar, "little")
    return (k & ((1 << 254) - 8)) | 1 << 254


def ed25519_public(seed: bytes) -> bytes:
    """RFC 8032 section 5.1.5."""
    p, d = P25519, -121665 * pow(121666, -1, P25519) % P25519

    def add(one, two):
        (x1, y1), (x2, y2) = one, two
        t = d * x1 * x2 * y1 * y2
        return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, p) % p,
                (y1 * y2 + x1 * x2) * pow(1 - t, -1, p) % p)
    y = 4 * pow(5, -1, p) % p
    square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
    x = pow(square, (p + 3) // 8, p)
    if (x * x - square) % p:
        x = x * pow(2, (p - 1) // 4, p) % p
    base = (x if x % 2 == 0 else p - x, y)
    k, out = clamp(hashlib.sha512(seed).digest()[:32]), (0, 1)
    while k:
        if k & 1:
            out = add(out, base)
        base, k = add(base, base), k >> 1
    return (out[1] | (out[0] & 1) << 255).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    """RFC 7748 section 5, of the base point 9."""
    k, p = clamp(scalar), P25519
    x1, x2, z2, x3, z3 = 9, 1, 0, 9, 1
    for t in reversed(range(255)):
        if k >> t & 1:
            x2, z2, x3, z3 = *step(x1, x2, z2, x3, z3, p),
        else:
            x3, z3, x2, z2 = *step(x1, x3, z3, x2, z2, p),
    return (x2 * pow(z2, -1, p) % p).to_bytes(32, "little")


def step(x1, x2, z2, x3, z3, p):
    """One rung: (2, 3) become (2 + 3, 2 * 3) with the roles as the ladder needs them."""
    a, b, c, d = x3 + z3, x3 - z3, x2 + z2, x2 - z2
    da, cb = d * a, c * b
    x_sum, z_sum = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
    aa, bb = a * a % p, b * b % p
    e = aa - bb
    return x_sum, z_sum, aa * bb % p, e * (aa + 121665 * e) % p


def derive(v: dict) -> bytes:
    root, info = bytes.fromhex(v["root"]), info_of(v)
    if v["algorithm"] in CURVES:
        c = int.from_bytes(hkdf(root, info, 48), "big")
        return (c % (CURVES[v["algorithm"]].n - 1) + 1).to_bytes(32, "big")
    return hkdf(root, info, v["length"])


def public(v: dict, key: bytes):
    if v["algorithm"] in CURVES:
        return CURVES[v["algorithm"]].public(key)
    return {"ed25519": ed25519_public, "x25519": x25519_public}.get(
        v["algorithm"], lambda _: None)(key)


def complete(v: dict) -> dict:
    key = derive(v)
    out = {**v, "info": info_of(v).hex(), "key": key.hex(),
           "root_id": hkdf(bytes.fromhex(v["root"]), b"claviger-root-id-1", 16).hex()}
    if public(v, key) is not None:
        out["public_key"] = public(v, key).hex()
    return out


def make() -> list[dict]:
    base = {"root": bytes(range(32)).hex(),
            "key_arn": "arn:aws:kms:us-east-1:123456789012:key/"
                       "1234abcd-12ab-34cd-56ef-1234567890ab",
            "context": {"Purpose": "AgentSecrets", "enclave": "agent-runtime"},
            "purpose": "wallet", "path": "wallet/main"}
    rows = [{**base, "algorithm": a, "length": n} for a, n in LENGTHS.items()]
    change = {**base, "algorithm": "raw", "length": 32}
    rows += [{**change, "length": 1}, {**change, "length": 1024},
             {**change, "purpose": "signing"}, {**change, "path": "wallet/other"},
             {**change, "context": {"Purpose": "AgentSecrets", "enclave": "other"}},
             {**change, "context": {}}, {**change, "key_arn": base["key_arn"][:-1] + "c"},
             {**change, "root": bytes(range(1, 33)).hex()},
             {**change, "purpose": "a", "path": "bc"}, {**change, "purpose": "ab", "path": "c"}]
    return [complete(v) for v in rows]


def main() -> int:
    if sys.argv[1:] == ["make"]:
        print(json.dumps(make(), indent=1))
        return 0
    source = pathlib.Path(os.environ.get("CLAVIGER_SOURCE", "."))
    vectors = json.loads((source / "docs" / "derivation-vectors.json").read_text())
    keep = ("root", "key_arn", "context", "algorithm", "length", "purpose", "path")
    wrong = [v for v in vectors if complete({k: v[k] for k in keep}) != v]
    unrelated = len({v["key"] for v in vectors if v["length"] > 1})
    expected = sum(v["length"] > 1 for v in vectors)
    print(f"{len(vectors)} vectors, {len(wrong)} wrong; {unrelated} of {expected} keys distinct")
    return 1 if wrong or unrelated != expected or len(vectors) < 17 else 0


if __name__ == "__main__":
    sys.exit(main())
