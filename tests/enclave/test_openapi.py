"""docs/openapi.yaml against the running daemon: same routes, and answers as described."""
import json
import os
import pathlib
import re
import unittest

from common import SEALED, Case  # also finds tests/lib
from openapi import Description

TEXT = (pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "docs" / "openapi.yaml").read_text()
KEY = {"path": "wallet/main", "purpose": "test", "algorithm": "ed25519"}
HMAC = {**KEY, "algorithm": "hmac-sha256", "message": "aGVsbG8="}
JSON = {"Content-Type": "application/json"}


def json_of(value):
    return json.dumps(value).encode()


# Each route once as it is meant, and as it is refused: (path, body, headers, expected status).
CALLS = {
    ("PUT", "/v1/state/{name}"): [
        ("/v1/state/a", SEALED, {}, 201), ("/v1/state/a", SEALED, {}, 200),
        ("/v1/state/a", SEALED, {"If-Match": '"9"'}, 412), ("/v1/state/..", b"", {}, 400)],
    ("GET", "/v1/state/{name}"): [
        ("/v1/state/a", None, {}, 200), ("/v1/state/b", None, {}, 404),
        ("/v1/state/a?wait=1", None, {"If-None-Match": '"2"'}, 304),
        ("/v1/state/a?wait=60", None, {}, 400)],
    ("GET", "/v1/state"): [("/v1/state", None, {}, 200), ("/v1/state?x=1", None, {}, 400)],
    ("POST", "/v1/reseal"): [
        ("/v1/reseal?name=a", None, {}, 200), ("/v1/reseal?name=b", None, {}, 404)],
    ("DELETE", "/v1/state/{name}"): [
        ("/v1/state/a", None, {}, 204), ("/v1/state/a", None, {}, 404)],
    ("POST", "/v1/seal"): [("/v1/seal?name=m", SEALED, {}, 200), ("/v1/seal", SEALED, {}, 400)],
    ("POST", "/v1/unseal"): [("/v1/unseal?name=m", b"not sealed", {}, 422)],
    ("POST", "/v1/stream/seal"): [("/v1/stream/seal?name=m", None, {}, 400)],
    ("POST", "/v1/stream/unseal"): [("/v1/stream/unseal?name=m", None, {}, 400)],
    ("POST", "/v1/keys/derive"): [
        ("/v1/keys/derive", json_of(KEY), JSON, 200), ("/v1/keys/derive", b"{}", JSON, 400)],
    ("POST", "/v1/keys/public"): [("/v1/keys/public", json_of(KEY), JSON, 200)],
    ("POST", "/v1/keys/sign"): [
        ("/v1/keys/sign", json_of({**KEY, "message": "aGVsbG8="}), JSON, 200),
        ("/v1/keys/sign", json_of(KEY), JSON, 400)],
    ("POST", "/v1/keys/hmac"): [("/v1/keys/hmac", json_of(HMAC), JSON, 200)],
    ("POST", "/v1/attestation"): [
        ("/v1/attestation", json_of({"nonce": "00ff", "report_data": "01"}), JSON, 200),
        ("/v1/attestation", json_of({"report_data": "00" * 65}), JSON, 400)],
    ("POST", "/v1/kms/decrypt"): [
        ("/v1/kms/decrypt", json_of({"ciphertext": "AAAA"}), JSON, 422),
        ("/v1/kms/decrypt", json_of({"ciphertext": "?"}), JSON, 400)],
    ("POST", "/v1/kms/generate-data-key"): [
        ("/v1/kms/generate-data-key", json_of({"number_of_bytes": 32}), JSON, 200)],
    ("POST", "/v1/random"): [
        ("/v1/random", json_of({"number_of_bytes": 1000}), JSON, 200),
        ("/v1/random", json_of({"number_of_bytes": 1025}), JSON, 400)],
    ("GET", "/v1/evidence"): [("/v1/evidence", None, {}, 200)],
    ("GET", "/v1/identity"): [("/v1/identity", None, {}, 200)],
    ("GET", "/v1/status"): [("/v1/status", None, {}, 200)],
    ("GET", "/healthz"): [("/healthz", None, {}, 200)],
    ("GET", "/readyz"): [("/readyz", None, {}, 200)],
    ("GET", "/metrics"): [("/metrics", None, {}, 200)],
}


class OpenApi(Case):
    def test_describes_every_route_of_the_daemon_and_no_other(self):
        metrics = self.api("GET", "/metrics")[2].decode()
        served = set(re.findall(
            r'claviger_request_seconds_count\{method="(\w+)",route="(/[^"]*)"', metrics))
        self.assertEqual(set(Description(TEXT).operations()), served)
        self.assertEqual(served, set(CALLS), "each route has its calls above")

    def test_every_answer_is_one_that_is_described(self):
        description = Description(TEXT)
        for (method, route), calls in CALLS.items():
            for path, body, headers, expected in calls:
                with self.subTest(method=method, path=path, expected=expected):
                    status, answer, content = self.api(method, path, body, headers)
                    self.assertEqual(status, expected, content)
                    self.assertEqual(list(description.faults(
                        method, route, status, answer.get("Content-Type", ""), content)), [])

    def test_the_check_itself_sees_what_is_not_described(self):
        description = Description(TEXT)
        answer = b'{"status":"ok","more":1}'
        self.assertEqual(list(description.faults("GET", "/healthz", 200, "application/json",
                                                 answer)), [".more: not described"])
        self.assertTrue(list(description.faults("GET", "/healthz", 200, "application/json",
                                                b"{}")))
        self.assertTrue(list(description.faults("GET", "/healthz", 202, "application/json",
                                                b'{"status":"ok"}')))
        self.assertTrue(list(description.faults("GET", "/healthz", 200, "text/html", b"")))


if __name__ == "__main__":
    unittest.main()
