"""A CiphertextForRecipient of the parent's own making, in the shape that KMS uses (RFC 5652 section
6): whoever saw the attested public key can make one."""
from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import struct
import subprocess

DATA = bytes.fromhex("06092a864886f70d010701")
ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")
OAEP = bytes.fromhex("06092a864886f70d010107")
MGF1 = bytes.fromhex("06092a864886f70d010108")
SHA256 = bytes.fromhex("0609608648016503040201")
AES_256_CBC = bytes.fromhex("060960864801650304012a")
VERSION_2 = bytes.fromhex("020102")
NULL = bytes.fromhex("0500")
SEQUENCE, SET, OCTETS, PRIMITIVE_0, CONSTRUCTED_0, CONSTRUCTED_1 = 0x30, 0x31, 0x04, 0x80, 0xa0, 0xa1


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    if size < 0x100:
        return bytes([tag, 0x81, size]) + content
    return bytes([tag, 0x82]) + struct.pack(">H", size) + content


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True,
                          check=True).stdout


def own_key(directory: pathlib.Path) -> bytes:
    """The public half (SubjectPublicKeyInfo) of an RSA key that the parent made."""
    private, public = directory / "own-rsa.pem", directory / "own-rsa.spki"
    if not public.exists():
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out",
                str(private))
        openssl("pkey", "-in", str(private), "-pubout", "-outform", "DER", "-out", str(public))
    return public.read_bytes()


def attested_key(body: bytes) -> bytes:
    """The public key in the document of a request to KMS."""
    document = base64.b64decode(json.loads(body)["Recipient"]["AttestationDocument"])
    at = document.index(b"public_key") + len(b"public_key")
    size = struct.unpack_from(">H", document, at + 1)[0]
    return document[at + 3:at + 3 + size]


def wrap(directory: pathlib.Path, plaintext: bytes, key: bytes, named: bytes | None = None) -> str:
    """plaintext for the holder of key, under the id of `named` (of key): base64."""
    content_key, iv = os.urandom(32), os.urandom(16)
    spki = directory / "recipient.spki"
    spki.write_bytes(key)
    wrapped = openssl("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", str(spki),
                      "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256",
                      "-pkeyopt", "rsa_mgf1_md:sha256", stdin=content_key)
    encrypted = openssl("enc", "-aes-256-cbc", "-K", content_key.hex(), "-iv", iv.hex(),
                        stdin=plaintext)
    sha256 = der(SEQUENCE, SHA256, NULL)
    algorithm = der(SEQUENCE, OAEP, der(SEQUENCE, der(CONSTRUCTED_0, sha256), der(
        CONSTRUCTED_1, der(SEQUENCE, MGF1, sha256))))
    recipient = der(SEQUENCE, VERSION_2, der(PRIMITIVE_0, hashlib.sha256(named or key).digest()),
                    algorithm, der(OCTETS, wrapped))
    content = der(SEQUENCE, DATA, der(SEQUENCE, AES_256_CBC, der(OCTETS, iv)),
                  der(PRIMITIVE_0, encrypted))
    enveloped = der(SEQUENCE, VERSION_2, der(SET, recipient), content)
    return base64.b64encode(der(SEQUENCE, ENVELOPED_DATA, der(CONSTRUCTED_0, enveloped))).decode()
