#!/usr/bin/env python3
"""Checks a piece of evidence from POST /v1/attestation, as a remote party does.

    verify_evidence.py document.bin --root-sha256 HEX --nonce HEX --report-data HEX --pcr 0=HEX

The whole of it in Python's standard library, to be read: COSE_Sign1 (RFC 9052), X.509 by its DER
(RFC 5280), ECDSA on P-384 (FIPS 186-5). It checks what a remote party must: the pinned root, each
signature and validity period down to the leaf, the document's signature, and that nonce, report_data
and PCRs are the expected ones. For production use `claviger verify`, which checks more of each rule.
"""
from __future__ import annotations

import argparse
import datetime
import hashlib
import pathlib
import sys
from typing import Any

AWS_ROOT = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
P = 2**384 - 2**128 - 2**96 + 2**32 - 1
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
G = (0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
     0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F)
ECDSA_SHA384 = bytes.fromhex("06082a8648ce3d040303")
P384_KEY = bytes.fromhex("06072a8648ce3d020106052b81040022")


class Refused(Exception):
    pass


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(what)


# -- CBOR (RFC 8949), as far as documents use it ----------------------------------------------

def cbor(data: bytes, at: int = 0) -> tuple[Any, int]:
    major, small, at = data[at] >> 5, data[at] & 31, at + 1
    if small == 31:
        require(major == 5, "an indefinite length where none may be")
        out: dict[Any, Any] = {}
        while data[at] != 0xFF:
            key, at = cbor(data, at)
            require(key not in out, f"{key} occurs twice")
            out[key], at = cbor(data, at)
        return out, at + 1
    n = small
    if small >= 24:
        size = 1 << (small - 24)
        n, at = int.from_bytes(data[at:at + size], "big"), at + size
    if major in (0, 1):
        return (n if major == 0 else -1 - n), at
    if major in (2, 3):
        piece = data[at:at + n]
        require(len(piece) == n, "cut short")
        return (piece if major == 2 else piece.decode()), at + n
    if major == 4:
        items = []
        for _ in range(n):
            item, at = cbor(data, at)
            items.append(item)
        return items, at
    if major == 5:
        out = {}
        for _ in range(n):
            key, at = cbor(data, at)
            require(key not in out, f"{key} occurs twice")
            out[key], at = cbor(data, at)
        return out, at
    require(major == 7 and n == 22, "an item that documents do not use")
    return None, at


def byte_string(data: bytes) -> bytes:
    n = len(data)
    head = bytes([0x40 | n]) if n < 24 else b"\x58" + bytes([n]) if n < 256 else \
        b"\x59" + n.to_bytes(2, "big")
    return head + data


# -- DER and X.509 ----------------------------------------------------------------------------

def der(data: bytes, at: int) -> tuple[int, bytes, bytes, int]:
    """(tag, content, whole, next) of the element at this place."""
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start:start + size], "big"), start + size
    require(start + length <= len(data), "a certificate is cut short")
    return data[at], data[start:start + length], data[at:start + length], start + length


def elements(content: bytes) -> list[tuple[int, bytes, bytes]]:
    out, at = [], 0
    while at < len(content):
        tag, inner, whole, at = der(content, at)
        out.append((tag, inner, whole))
    return out


class Certificate:
    def __init__(self, data: bytes):
        tbs, algorithm, signature = elements(der(data, 0)[1])
        fields = [f for f in elements(tbs[1]) if f[0] != 0xA0]
        require(algorithm[1] == ECDSA_SHA384, "a certificate is not signed with ecdsa-with-SHA384")
        self.signed, self.signature = tbs[2], signature[1][1:]
        self.issuer, self.subject = fields[2][2], fields[4][2]
        self.not_before, self.not_after = (self.time(*t[:2]) for t in elements(fields[3][1]))
        key = elements(fields[5][1])
        require(key[0][1] == P384_KEY and key[1][1][:2] == b"\0\x04", "a key is not on P-384")
        point = key[1][1][2:]
        self.key = int.from_bytes(point[:48], "big"), int.from_bytes(point[48:], "big")

    @staticmethod
    def time(tag: int, text: bytes) -> datetime.datetime:
        form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"
        return datetime.datetime.strptime(text.decode(), form).replace(
            tzinfo=datetime.timezone.utc)

    def check_signature(self, data: bytes, signature: bytes) -> bool:
        r, s = (int.from_bytes(e[1], "big") for e in elements(der(signature, 0)[1]))
        return ecdsa(self.key, data, r, s)


# -- ECDSA ------------------------------------------------------------------------------------

def add(one, two):
    if one is None or two is None:
        return one or two
    (x1, y1), (x2, y2) = one, two
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, P) if one == two else \
        (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def multiply(k: int, point):
    out = None
    while k:
        if k & 1:
            out = add(out, point)
        point, k = add(point, point), k >> 1
    return out


def ecdsa(key, data: bytes, r: int, s: int) -> bool:
    if not (0 < r < N and 0 < s < N):
        return False
    z, w = int.from_bytes(hashlib.sha384(data).digest(), "big"), pow(s, -1, N)
    point = add(multiply(z * w % N, G), multiply(r * w % N, key))
    return point is not None and point[0] % N == r


# -- the document -----------------------------------------------------------------------------

def verify(document: bytes, root_sha256: str) -> dict[str, Any]:
    (protected, unprotected, payload, signature), end = cbor(document)
    require(end == len(document) and protected == bytes.fromhex("a1013822") and unprotected == {},
            "not a COSE_Sign1 with ES384")
    claims, end = cbor(payload)
    require(end == len(payload) and claims["digest"] == "SHA384", "not an attestation document")
    require(hashlib.sha256(claims["cabundle"][0]).hexdigest() == root_sha256,
            "the first certificate is not the pinned root")
    at = datetime.datetime.fromtimestamp(claims["timestamp"] / 1000, datetime.timezone.utc)
    above = None
    for raw in [*claims["cabundle"], claims["certificate"]]:
        certificate = Certificate(raw)
        require(certificate.not_before <= at <= certificate.not_after, "a certificate has expired")
        if above is not None:
            require(certificate.issuer == above.subject and
                    above.check_signature(certificate.signed, certificate.signature),
                    "a certificate is not signed by the one before it")
        above = certificate
    signed = b"\x84\x6aSignature1" + byte_string(protected) + b"\x40" + byte_string(payload)
    require(len(signature) == 96 and ecdsa(above.key, signed, int.from_bytes(signature[:48], "big"),
                                           int.from_bytes(signature[48:], "big")),
            "the document's signature does not verify")
    return claims


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("document", type=pathlib.Path)
    parser.add_argument("--root-sha256", default=AWS_ROOT)
    parser.add_argument("--nonce", type=bytes.fromhex)
    parser.add_argument("--report-data", type=bytes.fromhex)
    parser.add_argument("--pcr", action="append", default=[], metavar="INDEX=HEX")
    options = parser.parse_args()
    claims = verify(options.document.read_bytes(), options.root_sha256.lower())
    for name, expected in (("nonce", options.nonce), ("user_data", options.report_data)):
        require(expected is None or claims.get(name) == expected, f"{name} is another")
    for pcr in options.pcr:
        index, _, value = pcr.partition("=")
        found = claims["pcrs"].get(int(index))
        require(found is not None and found.hex() == value.lower(), f"PCR{index} is another")
        require(any(found), f"PCR{index} is zero: debug mode")
    print(f"verified: module {claims['module_id']}, {len(claims['pcrs'])} PCRs, at "
          f"{claims['timestamp']} ms")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Refused, ValueError, KeyError, IndexError, TypeError) as fault:
        sys.exit(f"refused: {fault}")
