"""A claviger-kms and a claviger-nsm in a directory of their own, and what tests do with them.

The attested answers are opened by OpenSSL's command line, which shares no code with the KMS.
"""
from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Process, UnixConnection, program, sign  # noqa: E402

HOST = "kms.us-east-1.amazonaws.com"
ACCOUNT = "123456789012"
USER = f"arn:aws:iam::{ACCOUNT}:user/claviger"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
PCRS = {str(i): hashlib.sha384(f"register {i}".encode()).hexdigest() for i in (0, 1, 2, 3, 4, 8)}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def head(major: int, n: int) -> bytes:
    """The head of a CBOR item (RFC 8949 section 3)."""
    if n < 24:
        return bytes([major << 5 | n])
    for info, form in ((24, ">B"), (25, ">H"), (26, ">I")):
        if n < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | info]) + struct.pack(form, n)
    raise ValueError(n)


def text_item(text: str) -> bytes:
    return head(3, len(text)) + text.encode()


def bytes_item(data: bytes | None) -> bytes:
    return b"\xf6" if data is None else head(2, len(data)) + data


def sign_at(now, credentials, operation, body):
    """As claviger_stack.sign, at another time."""
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"content-type": "application/x-amz-json-1.1", "host": HOST, "x-amz-date": stamp,
               "x-amz-target": f"TrentService.{operation}"}
    names = ";".join(sorted(headers))
    canonical = "POST\n/\n\n" + "".join(f"{k}:{headers[k]}\n" for k in sorted(headers)) + \
        f"\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/us-east-1/kms/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + credentials["SecretAccessKey"]).encode()
    for part in (day, "us-east-1", "kms", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials['AccessKeyId']}/{scope}, SignedHeaders={names}, "
        f"Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}")
    return headers


class Recipient:
    """An RSA key as an enclave has one, and the opening of what is encrypted for it."""

    def __init__(self, directory: pathlib.Path, bits: int = 2048, name: str = "recipient"):
        self.key = directory / f"{name}.pem"
        self.directory = directory
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt",
                        f"rsa_keygen_bits:{bits}", "-out", self.key],
                       check=True, capture_output=True)
        self.spki = subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-outform",
                                    "DER"], check=True, capture_output=True).stdout

    def open(self, ciphertext_for_recipient: str) -> bytes:
        cms = self.directory / "answer.cms"
        cms.write_bytes(unb64(ciphertext_for_recipient))
        return subprocess.run(["openssl", "cms", "-decrypt", "-inform", "DER", "-in", cms,
                               "-inkey", self.key, "-binary"],
                              check=True, capture_output=True).stdout


class Lab:
    def __init__(self) -> None:
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-kms-"))
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self.nsm_dir, self.kms_dir = self.dir / "nsm", self.dir / "kms"

    def __enter__(self) -> "Lab":
        try:
            self.run("claviger-nsm", "init", str(self.nsm_dir))
            self.run("claviger-kms", "init", str(self.kms_dir))
            (self.dir / "pcrs.json").write_text(json.dumps(PCRS))
            self.credentials = json.loads((self.kms_dir / "credentials.json").read_text())
            self.nsm = self.start_nsm("nsm.sock")
            self.kms = self.start_kms()
            self.recipient = Recipient(self.dir)
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *unused) -> None:
        self.stack.close()

    def ended_well(self, process: Process) -> None:
        """A program that was not killed ends with status 0: no leak, no undefined behaviour."""
        status = process.stop()
        assert status in (0, -9), f"{process.name} ended with status {status}: {process.log}"

    def run(self, name: str, *arguments: str, check: bool = True):
        return subprocess.run([program(name), *arguments], check=check, capture_output=True,
                              text=True, timeout=60)

    def start_nsm(self, name: str, *more: str) -> Process:
        directory = self.dir / f"{name}.d"
        directory.mkdir()
        process = Process("claviger-nsm", ["serve", str(self.nsm_dir), "--pcrs",
                                           str(self.dir / "pcrs.json"), "--listen",
                                           f"unix:{self.dir / name}", *more], directory)
        self.stack.callback(self.ended_well, process)
        return process.wait_ready()

    def start_kms(self, listen: str = "tcp:127.0.0.1:0") -> Process:
        self.admin_path = self.dir / "admin.sock"
        process = Process("claviger-kms", ["serve", str(self.kms_dir), "--listen", listen,
                                           "--attestation-root", str(self.nsm_dir / "root.pem"),
                                           "--admin", f"unix:{self.admin_path}"], self.dir)
        self.stack.callback(self.ended_well, process)
        process.wait_ready()
        self.port = int(process.ready["listen"].rsplit(":", 1)[1])
        return process

    def nsm_request(self, request: bytes, name: str = "nsm.sock") -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.connect(str(self.dir / name))
            s.sendall(struct.pack(">I", len(request)) + request)
            stream = s.makefile("rb")
            (length,) = struct.unpack(">I", stream.read(4))
            return stream.read(length)

    def document(self, public_key: bytes | None = b"", nsm: str = "nsm.sock") -> bytes:
        """A fresh attestation document; b"" stands for the lab's own recipient."""
        key = self.recipient.spki if public_key == b"" else public_key
        answer = self.nsm_request(
            head(5, 1) + text_item("Attestation") + head(5, 3) + text_item("user_data") +
            bytes_item(None) + text_item("nonce") + bytes_item(b"nonce") +
            text_item("public_key") + bytes_item(key), nsm)
        prefix = head(5, 1) + text_item("Attestation") + head(5, 1) + text_item("document")
        assert answer.startswith(prefix + b"\x59"), answer[:64]
        (length,) = struct.unpack(">H", answer[len(prefix) + 1:len(prefix) + 3])
        document = answer[len(prefix) + 3:]
        assert len(document) == length
        return document

    def for_recipient(self, document: bytes | None = None, **more) -> dict:
        return {"Recipient": {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
                              "AttestationDocument": b64(document or self.document())} | more}

    def connect(self) -> http.client.HTTPConnection:
        context = ssl.create_default_context(cafile=str(self.kms_dir / "ca.pem"))
        plain = socket.create_connection(("127.0.0.1", self.port), 30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection(HOST)
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        return connection

    def raw(self, headers: dict, body: bytes, method: str = "POST", path: str = "/"):
        """(status, headers, JSON or None) of a request as it is given."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text else None

    def call(self, operation: str, parameters: dict | None = None, credentials=None):
        """(status, JSON) of a signed call."""
        body = json.dumps(parameters or {}).encode()
        headers = sign(credentials or self.credentials, HOST, operation, body)
        status, _, answer = self.raw(headers, body)
        return status, answer

    def ok(self, operation: str, parameters: dict | None = None, credentials=None) -> dict:
        status, answer = self.call(operation, parameters, credentials)
        assert status == 200, (operation, status, answer)
        return answer or {}

    def error(self, operation: str, parameters: dict | None = None, credentials=None) -> str:
        """The name of the error that a call ends with."""
        status, answer = self.call(operation, parameters, credentials)
        assert status != 200, (operation, answer)
        return answer["__type"]

    def admin(self, method: str, path: str, body=None):
        with contextlib.closing(UnixConnection(str(self.admin_path))) as connection:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def principal(self, arn: str, **more) -> dict:
        status, credentials = self.admin("POST", "/credentials", {"arn": arn} | more)
        assert status == 200, credentials
        return credentials

    def audit(self, after: int = 0) -> list[dict]:
        out = self.run("claviger-kms", "audit", str(self.kms_dir), "--json", "--after", str(after))
        return json.loads(out.stdout)

    def key(self, **parameters) -> str:
        """A new key's ARN."""
        return self.ok("CreateKey", parameters)["KeyMetadata"]["Arn"]

    def client_environment(self) -> dict:
        """What AWS's own clients need to find this KMS and nothing else."""
        home = self.dir / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"], "HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self.credentials["SecretAccessKey"],
            "AWS_ENDPOINT_URL_KMS": f"https://localhost:{self.port}",
            "AWS_CA_BUNDLE": str(self.kms_dir / "ca.pem"),
            "NODE_EXTRA_CA_CERTS": str(self.kms_dir / "ca.pem")}

    def at(self, operation: str, parameters: dict, **later):
        """(status, JSON) of a call made later (timedelta's arguments) by the KMS's clock."""
        delta = datetime.timedelta(**later)
        self.admin("PUT", "/clock", {"offset_ms": round(delta.total_seconds() * 1000)})
        body = json.dumps(parameters).encode()
        now = datetime.datetime.now(datetime.timezone.utc) + delta
        try:
            status, _, answer = self.raw(sign_at(now, self.credentials, operation, body), body)
        finally:
            self.admin("PUT", "/clock", {"offset_ms": 0})
        return status, answer


class Case(unittest.TestCase):
    """Tests of one class share a lab; what its admin route changed is undone behind each."""

    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())

    def assert_error(self, name, operation, parameters=None, credentials=None):
        self.assertEqual(self.lab.error(operation, parameters, credentials), name)

    def tearDown(self):
        self.lab.admin("DELETE", "/rules")
        self.lab.admin("PUT", "/cms", {"shape": "one"})
