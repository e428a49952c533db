"""claviger-kms: who is believed, over which TLS, and how refusals are named."""
import datetime
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import time
import unittest
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import ACCOUNT, HOST, Case, sign, sign_at  # noqa: E402

SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/enclave/i-0123456789abcdef0"


class Signatures(Case):
    """Who is believed, and how refusals are named."""

    def error_of(self, headers, body=b"{}", method="POST", path="/"):
        status, _, answer = self.lab.raw(headers, body, method, path)
        return status, answer["__type"]

    def headers(self, body=b"{}", **more):
        return sign({**self.lab.credentials, **more}, HOST, "ListKeys", body)

    def test_a_good_signature(self):
        status, headers, _ = self.lab.raw(self.headers(), b"{}")
        self.assertEqual(status, 200)
        self.assertEqual(headers["Content-Type"], "application/x-amz-json-1.1")
        self.assertRegex(headers["x-amzn-RequestId"], "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")

    def test_refusals_by_name(self):
        unsigned = self.headers()
        del unsigned["authorization"]
        changed = self.headers() | {"x-amz-target": "TrentService.ListAliases"}
        more = self.headers() | {"x-amz-other": "x"}
        rows = [
            (unsigned, b"{}", "MissingAuthenticationTokenException"),
            (self.headers() | {"authorization": "Bearer x"}, b"{}", "IncompleteSignatureException"),
            (self.headers(), b"{ }", "InvalidSignatureException"),
            (changed, b"{}", "InvalidSignatureException"),
            (more, b"{}", "InvalidSignatureException"),
            (self.headers(SecretAccessKey="x"), b"{}", "InvalidSignatureException"),
            (self.headers(AccessKeyId="AKIAAAAAAAAAAAAAAAAA"), b"{}",
             "UnrecognizedClientException"),
            (self.headers(Token="nonsense"), b"{}", "UnrecognizedClientException"),
        ]
        for headers, body, name in rows:
            with self.subTest(name=name):
                self.assertEqual(self.error_of(headers, body), (400, name))

    def test_no_header_escapes_by_being_one_too_many(self):
        padding = {f"a-{i:02}": "x" for i in range(70)}
        status, _, answer = self.lab.raw({**padding, **self.headers(), "x-amz-other": "x"}, b"{}")
        self.assertEqual((status, answer), (431, None))

    def test_dates_beyond_five_minutes(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        for minutes, expected in ((-4, 200), (4, 200), (-6, 400), (6, 400)):
            at = now + datetime.timedelta(minutes=minutes)
            status, _, answer = self.lab.raw(
                sign_at(at, self.lab.credentials, "ListKeys", b"{}"), b"{}")
            self.assertEqual(status, expected)
            if expected == 400:
                self.assertEqual(answer["__type"], "InvalidSignatureException")
                self.assertRegex(answer["message"], "expired" if minutes < 0 else "not yet current")

    def test_session_credentials_expire(self):
        session = self.lab.principal(SESSION, session_seconds=1)
        self.assertEqual(set(session), {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"})
        self.lab.ok("ListKeys", {}, session)
        without = {k: v for k, v in session.items() if k != "Token"}
        self.assert_error("UnrecognizedClientException", "ListKeys", {}, without)
        time.sleep(1.1)
        self.assert_error("ExpiredTokenException", "ListKeys", {}, session)

    def test_curl_signs_as_we_verify(self):
        def curl(operation, body, user):
            done = subprocess.run(
                ["curl", "-s", "-w", "\n%{http_code}", "--cacert", self.lab.kms_dir / "ca.pem",
                 "--resolve", f"{HOST}:{self.lab.port}:127.0.0.1", "--aws-sigv4",
                 "aws:amz:us-east-1:kms", "-u", user, "-H",
                 "Content-Type: application/x-amz-json-1.1", "-H",
                 f"X-Amz-Target: TrentService.{operation}", "-d", body,
                 f"https://{HOST}:{self.lab.port}/"], capture_output=True, check=True, text=True)
            text, status = done.stdout.rsplit("\n", 1)
            return int(status), json.loads(text)

        user = "{AccessKeyId}:{SecretAccessKey}".format(**self.lab.credentials)
        status, answer = curl("CreateKey", '{"Description":"by curl"}', user)
        self.assertEqual((status, answer["KeyMetadata"]["Description"]), (200, "by curl"))
        status, answer = curl("CreateKey", "{}", user + "x")
        self.assertEqual((status, answer["__type"]), (400, "InvalidSignatureException"))

    def test_what_is_not_an_operation(self):
        body = b"{}"
        unknown = sign(self.lab.credentials, HOST, "NoSuchThing", body)
        self.assertEqual(self.error_of(unknown), (400, "UnknownOperationException"))
        self.assertEqual(self.error_of(self.headers(), method="PUT"),
                         (400, "UnknownOperationException"))
        self.assertEqual(self.error_of(self.headers(), path="/x"),
                         (400, "UnknownOperationException"))
        plain = self.headers() | {"content-type": "application/json"}
        self.assertEqual(self.error_of(plain), (400, "UnknownOperationException"))
        for body in (b"", b"[]", b"{", b'{"a":1,"a":2}', b"\xff"):
            self.assertEqual(self.error_of(self.headers(body), body),
                             (400, "SerializationException"))

    def test_sessions_are_resumed(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(self.lab.kms_dir / "ca.pem"))
            context.minimum_version = context.maximum_version = version
            session, reused = None, []
            for _ in range(3):
                with socket.create_connection(("127.0.0.1", self.lab.port)) as plain:
                    tls = context.wrap_socket(plain, server_hostname=HOST, session=session)
                    tls.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
                    self.assertIn(b"400 Bad Request", tls.recv(4096))
                    reused.append(tls.session_reused)
                    session = tls.session
            self.assertEqual(reused, [False, True, True], version)

    def test_tls_1_1_is_refused(self):
        context = ssl.create_default_context(cafile=str(self.lab.kms_dir / "ca.pem"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", self.lab.port)) as plain:
            with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                context.wrap_socket(plain, server_hostname=HOST)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(self.lab.kms_dir / "ca.pem"))
            context.minimum_version = context.maximum_version = version
            with socket.create_connection(("127.0.0.1", self.lab.port)) as plain:
                context.wrap_socket(plain, server_hostname=HOST).close()


if __name__ == "__main__":
    unittest.main()
