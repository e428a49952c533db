"""docs/openapi.yaml against the running daemon: same routes, and answers as described."""
import json
import os
import pathlib
import re
import unittest

from common import NOBODY, SEALED, Case, as_uid, policy_of  # also finds tests/lib
from openapi import Description

TEXT = (pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "docs" / "openapi.yaml").read_text()
KEY = {"path": "wallet/main", "purpose": "test", "algorithm": "ed25519"}
HMAC = {**KEY, "algorithm": "hmac-sha256", "message": "aGVsbG8="}
JSON = {"Content-Type": "application/json"}


def json_of(value):
    return json.dumps(value).encode()


UPGRADE = {"Connection": "Upgrade", "Upgrade": "claviger-stream"}


def sealed_before(seen):
    return seen["POST", "/v1/seal"]


def generated_before(seen):
    made = json.loads(seen["POST", "/v1/kms/generate-data-key"])
    return json_of({"ciphertext": made["ciphertext"]})


# Each route as it is meant, with every success that is described, and as it is refused: (path, body,
# headers, expected status). A body that is a function makes it from the successful answers before.
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
    ("POST", "/v1/unseal"): [
        ("/v1/unseal?name=m", sealed_before, {}, 200), ("/v1/unseal?name=m", b"not sealed", {}, 422)],
    ("POST", "/v1/stream/seal"): [
        ("/v1/stream/seal?name=m", None, UPGRADE, 101), ("/v1/stream/seal?name=m", None, {}, 400)],
    ("POST", "/v1/stream/unseal"): [
        ("/v1/stream/unseal?name=m", None, UPGRADE, 101),
        ("/v1/stream/unseal?name=m", None, {}, 400)],
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
    ("POST", "/v1/kms/generate-data-key"): [
        ("/v1/kms/generate-data-key", json_of({"number_of_bytes": 32}), JSON, 200)],
    ("POST", "/v1/kms/decrypt"): [
        ("/v1/kms/decrypt", generated_before, JSON, 200),
        ("/v1/kms/decrypt", json_of({"ciphertext": "AAAA"}), JSON, 422),
        ("/v1/kms/decrypt", json_of({"ciphertext": "?"}), JSON, 400)],
    ("POST", "/v1/random"): [
        ("/v1/random", json_of({"number_of_bytes": 1000}), JSON, 200),
        ("/v1/random", json_of({"number_of_bytes": 1025}), JSON, 400)],
    ("GET", "/v1/evidence"): [("/v1/evidence", None, {}, 200)],
    ("GET", "/v1/witness"): [("/v1/witness", None, {}, 404)],
    ("POST", "/v1/witness/init"): [("/v1/witness/init", None, {}, 403)],
    ("POST", "/v1/witness/csr"): [("/v1/witness/csr", None, {}, 403)],
    ("PUT", "/v1/witness/certificate"): [("/v1/witness/certificate", b"x", {}, 403)],
    ("POST", "/v1/witness/adopt"): [("/v1/witness/adopt?name=a", None, {}, 403)],
    ("GET", "/v1/identity"): [("/v1/identity", None, {}, 200)],
    ("GET", "/v1/status"): [("/v1/status", None, {}, 200)],
    ("GET", "/healthz"): [("/healthz", None, {}, 200)],
    ("GET", "/readyz"): [("/readyz", None, {}, 200)],
    ("GET", "/metrics"): [("/metrics", None, {}, 200)],
}


class OpenApi(Case):
    @classmethod
    def policy(cls, stack):
        policy = policy_of(stack)
        policy["agents"].append({"uid": NOBODY, "may": []})
        return policy

    def test_describes_every_route_of_the_daemon_and_no_other(self):
        metrics = self.api("GET", "/metrics")[2].decode()
        served = set(re.findall(
            r'claviger_request_seconds_count\{method="(\w+)",route="(/[^"]*)"', metrics))
        self.assertEqual(set(Description(TEXT).operations()), served)
        self.assertEqual(served, set(CALLS), "each route has its calls above")

    def test_every_answer_is_described_and_every_described_success_is_answered(self):
        description = Description(TEXT)
        seen, statuses = {}, {}
        for route, calls in CALLS.items():
            for path, body, headers, expected in calls:
                with self.subTest(route=route, path=path, expected=expected):
                    if callable(body):
                        body = body(seen)
                    status, answer, content = self.api(route[0], path, body, headers)
                    self.assertEqual(status, expected, content)
                    statuses.setdefault(route, set()).add(str(status))
                    if status == 200:
                        seen[route] = content
                    if status >= 400:
                        self.refused((status, answer, content), status,
                                     json.loads(content)["code"])
                    self.assertEqual(list(description.faults(
                        *route, status, answer.get("Content-Type", ""), content)), [])
        for route, operation in description.operations().items():
            described = set(operation["responses"]) - {"default"}
            if not route[1].startswith("/v1/witness"):  # below, and in tests/witness
                self.assertEqual(described - statuses[route], set(), route)

    def test_what_is_not_described_is_not_answered(self):
        methods = {}
        for method, path in Description(TEXT).operations():
            methods.setdefault(path, set()).add(method)
        for path, known in methods.items():
            target = path.replace("{name}", "a")
            for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "FOO"):
                if method not in known:
                    with self.subTest(path=path, method=method):
                        status, headers, body = self.api(method, target)
                        self.assertEqual(status, 405, body)
                        self.assertEqual(set(headers["Allow"].split(", ")), known)
            # Not even with a slash behind it, in capitals, below another root, or with a letter more.
            for other in (target + "/", target.upper(), "/v2" + target, "/" + target, target + "x"):
                if "{name}" not in path or other.startswith(("/V", "/v2", "//")):
                    with self.subTest(other=other):
                        self.refused(self.api(sorted(known)[0], other), 404, "api-route")

    def test_every_parameter_is_described_and_no_other_is_taken(self):
        description = Description(TEXT)
        for (method, path), operation in description.operations().items():
            parameters = [description.follow(p) for p in operation.get("parameters", [])]
            described = {p["name"] for p in parameters}
            target = path.replace("{name}", "a")
            required = [f"{p['name']}=m" for p in parameters
                        if p["in"] == "query" and p.get("required")]
            with self.subTest(method=method, path=path):
                for name in {"key", "name", "prefix", "wait"} - described:
                    self.refused(self.api(method, target + f"?{name}=1"), 400, "api-parameter")
                for name in {"If-Match", "If-None-Match"} - described:
                    self.refused(self.api(method, "?".join([target, *required]), None,
                                          {name: '"1"'}), 400, "api-parameter")
                if required:
                    self.refused(self.api(method, target), 400, "api-parameter")
                if "key" in described:
                    self.refused(self.api(method, target + "?" + "&".join([*required, "key=zz"]),
                                          None, UPGRADE if "/stream/" in path else {}),
                                 404, "policy-no-key")

    def test_json_bodies_have_the_members_that_are_described_and_no_other(self):
        description = Description(TEXT)
        wrong = {"string": 7, "integer": "7"}
        for route, operation in description.operations().items():
            content = description.follow(operation.get("requestBody", {})).get("content", {})
            if "application/json" not in content:
                continue
            schema = description.follow(content["application/json"]["schema"])
            path, body, headers, _ = next(c for c in CALLS[route] if c[3] == 200)
            good = json.loads(body if not callable(body) else b'{"ciphertext": "AAAA"}')
            bad = [({**good, "more": 1}, "json-unknown")]
            bad += [({**good, name: wrong[of["type"]]}, "json-type")
                    for name, of in schema["properties"].items()]
            bad += [({n: v for n, v in good.items() if n != name}, "json-missing")
                    for name in schema.get("required", [])]
            for document, code in bad:
                with self.subTest(route=route, document=document):
                    self.refused(self.api(route[0], path, json_of(document), headers), 400, code)

    @unittest.skipUnless(os.getuid() == 0, "needs root to be another agent")
    def test_each_route_asks_for_the_capability_that_is_described(self):
        for route, operation in Description(TEXT).operations().items():
            path, body, headers, expected = next((c for c in CALLS[route] if c[3] < 400),
                                                 CALLS[route][0])

            def call():
                status, _, answer = self.api(route[0], path, b"{}" if callable(body) else body,
                                             headers)
                return [status, answer.decode(errors="replace")]
            status, text = as_uid(NOBODY, call)
            with self.subTest(route=route):
                if "x-capability" in operation:
                    problem = json.loads(text)
                    self.assertEqual((status, problem["code"]), (403, "capability-missing"))
                    self.assertIn(f"capability {operation['x-capability']}:agent-state",
                                  problem["detail"])
                else:
                    self.assertEqual(status, expected, text)

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


class Witnessed(Case):
    """The routes of a witness, where there is one that needs nobody outside (docs/freshness.md)."""

    @classmethod
    def policy(cls, stack):
        policy = policy_of(stack, witness={"mode": "receipts", "key": "agent-state"})
        policy["agents"][0]["may"].append("witness:agent-state")
        return policy

    def test_its_answers_are_described(self):
        description = Description(TEXT)
        for method, path, expected in (("GET", "/v1/witness", 200), ("GET", "/v1/status", 200),
                                       ("POST", "/v1/witness/init", 201)):
            with self.subTest(method=method, path=path, expected=expected):
                status, headers, body = self.api(method, path)
                self.assertEqual(status, expected, body)
                self.assertEqual(list(description.faults(
                    method, path, status, headers.get("Content-Type", ""), body)), [])


if __name__ == "__main__":
    unittest.main()
