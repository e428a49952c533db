"""The agents' API, end to end: the whole life of a state, bad input, capabilities, slow peers."""
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import unittest

from common import NOBODY, SEALED, Case, as_uid, policy_of

AGENT = os.path.join(os.environ["CLAVIGER_SOURCE"], "examples", "python", "agent.py")


class WholeLife(Case):
    def test_state_survives_the_death_of_the_enclave(self):
        status, headers, body = self.api("PUT", "/v1/state/life", SEALED)
        self.assertEqual((status, headers["ETag"]), (201, '"1"'), body)
        self.stack.restart_enclave()
        status, headers, body = self.api("GET", "/v1/state/life")
        self.assertEqual((status, headers["ETag"], body), (200, '"1"', SEALED))

    def test_the_store_never_holds_plaintext(self):
        needle = b"needle in the store"
        self.assertEqual(self.api("PUT", "/v1/state/needle", needle * 100)[0], 201)
        self.assertEqual(self.api("GET", "/v1/state/needle")[2], needle * 100)
        for path in self.stack.dir.glob("store.db*"):
            self.assertNotIn(needle, path.read_bytes())

    def test_generations_are_compared_and_swapped(self):
        put = "/v1/state/counted"
        self.assertEqual(self.api("PUT", put, b"1", {"If-None-Match": "*"})[0], 201)
        self.refused(self.api("PUT", put, b"x", {"If-None-Match": "*"}), 412, "api-precondition")
        self.assertEqual(self.api("PUT", put, b"2", {"If-Match": '"1"'})[0], 200)
        self.refused(self.api("PUT", put, b"x", {"If-Match": '"1"'}), 412, "api-precondition")
        self.refused(self.api("GET", put, None, {"If-Match": '"1"'}), 412, "api-precondition")
        self.refused(self.api("DELETE", put, None, {"If-Match": '"1"'}), 412, "api-precondition")
        self.assertEqual(self.api("GET", put)[2], b"2")
        self.assertEqual(self.api("DELETE", put, None, {"If-Match": '"2"'})[0], 204)
        self.refused(self.api("GET", put), 404, "state-not-found")

    def test_sizes_from_nothing_to_the_limit_come_back_equal(self):
        for size in (0, 1, 4095, 4096, 4097, 1 << 20, 32 << 20):
            data = os.urandom(min(size, 1 << 16)) * max(1, size >> 16)
            data = data[:size]
            with self.subTest(size=len(data)):
                self.assertIn(self.api("PUT", "/v1/state/sized", data)[0], (200, 201))
                self.assertEqual(self.api("GET", "/v1/state/sized")[2], data)

    def test_listing_shows_the_names_of_a_prefix(self):
        for name in ("list/a", "list/b", "other"):
            self.assertEqual(self.api("PUT", f"/v1/state/{name}", b"x")[0], 201)
        listing = json.loads(self.api("GET", "/v1/state?prefix=list/")[2])
        self.assertEqual([s["name"] for s in listing["states"]], ["list/a", "list/b"])
        self.assertTrue(all(s["generation"] == 1 and s["sealed_size"] > 1
                            for s in listing["states"]))

    def test_a_message_opens_only_under_its_own_name(self):
        sealed = self.api("POST", "/v1/seal?name=one", SEALED)[2]
        self.assertEqual(self.api("POST", "/v1/unseal?name=one", sealed)[2], SEALED)
        self.refused(self.api("POST", "/v1/unseal?name=two", sealed), 422, "seal-context")
        changed = sealed[:-20] + bytes([sealed[-20] ^ 1]) + sealed[-19:]
        self.refused(self.api("POST", "/v1/unseal?name=one", changed), 422,
                     "seal-authentication")
        self.refused(self.api("POST", "/v1/unseal?name=one", sealed[:-1]), 400, "truncated")
        self.refused(self.api("POST", "/v1/unseal?name=one", sealed + b"x"), 422, "seal-trailing")

    def test_a_stream_that_an_agent_leaves_open_does_not_hold_up_the_end(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(str(self.stack.dir / "agent.sock"))
            s.sendall(b"POST /v1/stream/seal?name=m HTTP/1.1\r\nHost: x\r\n"
                      b"Connection: Upgrade\r\nUpgrade: claviger-stream\r\n\r\n")
            self.assertTrue(s.recv(4096).startswith(b"HTTP/1.1 101"))
            self.assertEqual(self.stack.running["clavigerd"].stop(), 0)
            while s.recv(65536):
                pass
        self.stack.restart_enclave()

    def test_the_example_agent_remembers_across_a_crash(self):
        def agent(*arguments):
            return subprocess.run(
                [sys.executable, AGENT, "--socket", str(self.stack.dir / "agent.sock"),
                 *arguments], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(agent("remember", "the meeting is at ten").returncode, 0)
        self.stack.restart_enclave()
        self.assertEqual(agent("remember", "bring the map").returncode, 0)
        recalled = agent("recall")
        self.assertEqual(recalled.returncode, 0, recalled.stderr)
        self.assertIn("the meeting is at ten\n", recalled.stdout)
        self.assertIn("bring the map\n", recalled.stdout)


class BadInput(Case):
    # method, path, body, headers, status, code
    TABLE = [
        ("GET", "/", None, {}, 404, "api-route"),
        ("GET", "/v1/state/", None, {}, 404, "api-route"),
        ("GET", "/v1/nothing", None, {}, 404, "api-route"),
        ("PATCH", "/v1/state/a", b"x", {}, 405, "api-method"),
        ("DELETE", "/healthz", None, {}, 405, "api-method"),
        ("GET", "/v1/seal", None, {}, 405, "api-method"),
        ("GET", "/v1/state/a?key=nope", None, {}, 404, "policy-no-key"),
        ("GET", "/v1/state/a?key=agent-state&key=agent-state", None, {}, 400, "api-parameter"),
        ("GET", "/v1/state/a?key", None, {}, 400, "api-parameter"),
        ("GET", "/v1/state/a?name=b", None, {}, 400, "api-parameter"),
        ("GET", "/v1/state/a?" + "&".join(f"x{i}=1" for i in range(20)), None, {}, 400,
         "api-parameter"),
        ("GET", "/v1/state/%zz", None, {}, 400, "bad-encoding"),
        ("GET", "/v1/state/a%00b", None, {}, 400, "bad-encoding"),
        ("GET", "/v1/state/%ff%fe", None, {}, 400, "bad-encoding"),
        ("GET", "/v1/state/a%2f..%2fb", None, {}, 400, "state-name"),
        ("GET", "/v1/state/../../etc/passwd", None, {}, 400, "state-name"),
        ("GET", "/v1/state/a%20b", None, {}, 400, "state-name"),
        ("GET", "/v1/state/" + "a" * 129, None, {}, 413, "too-large"),
        ("GET", "/v1/state/" + "a" * 128, None, {}, 400, "state-name"),
        ("PUT", "/v1/state/a", b"x", {"If-Match": "1"}, 400, "api-parameter"),
        ("PUT", "/v1/state/a", b"x", {"If-Match": '"0"'}, 400, "api-parameter"),
        ("PUT", "/v1/state/a", b"x", {"If-Match": '"99999999999999999999"'}, 400,
         "api-parameter"),
        ("PUT", "/v1/state/a", b"x", {"If-None-Match": '"1"'}, 400, "api-parameter"),
        ("PUT", "/v1/state/a", b"x", {"If-Match": '"1"', "If-None-Match": "*"}, 400,
         "api-parameter"),
        ("PUT", "/v1/state/a", bytes((32 << 20) + 1), {}, 413, "too-large"),
        ("GET", "/healthz", b"a body", {}, 413, "too-large"),
        ("POST", "/v1/seal", b"x", {}, 400, "api-parameter"),
        ("POST", "/v1/unseal?name=m", b"", {}, 400, "truncated"),
        ("POST", "/v1/unseal?name=m", b"\x01garbage", {}, 422, "seal-version"),
        ("POST", "/v1/keys/derive", b"{}", {"Content-Type": "text/plain"}, 415,
         "api-media-type"),
        ("POST", "/v1/keys/derive", b"", {}, 400, "json-malformed"),
        ("POST", "/v1/keys/derive", b"{", {}, 400, "json-malformed"),
        ("POST", "/v1/keys/derive", b"[]", {}, 400, "json-type"),
        ("POST", "/v1/keys/derive", b'{"path":1}', {}, 400, "json-type"),
        ("POST", "/v1/keys/derive", b'{"path":"a","path":"a"}', {}, 400, "json-malformed"),
        ("POST", "/v1/keys/derive", b"{" * 9000, {}, 413, "too-large"),
        ("POST", "/v1/attestation", b'{"nonce":"0"}', {}, 400, "bad-encoding"),
        ("POST", "/v1/attestation", b'{"nonce":"%s"}' % (b"00" * 513), {}, 400, "json-value"),
        ("POST", "/v1/attestation", b'{"other":1}', {}, 400, "json-unknown"),
    ]
    KEY = {"path": "p", "purpose": "q", "algorithm": "ed25519"}
    DERIVATIONS = [
        ({"more": 1}, "json-unknown"), ({"algorithm": "rsa"}, "derive-invalid"),
        ({"length": 31}, "derive-invalid"), ({"length": 0}, "json-value"),
        ({"length": "32"}, "json-type"), ({"length": 1025, "algorithm": "raw"}, "json-value"),
        ({"path": ""}, "derive-invalid"), ({"path": "x" * 129}, "derive-invalid"),
        ({"purpose": "\n"}, "derive-invalid"), ({"message": "aGk="}, "json-unknown"),
    ]

    def test_each_bad_request_gets_its_own_problem_and_the_next_is_served(self):
        for method, path, body, headers, status, code in self.TABLE:
            with self.subTest(method=method, path=path[:60], code=code):
                self.refused(self.api(method, path, body, headers), status, code)
                self.assertEqual(self.api("GET", "/healthz")[0], 200)

    def test_each_bad_derivation_gets_its_own_problem(self):
        for change, code in self.DERIVATIONS:
            with self.subTest(change=str(change)[:60]):
                status, problem = self.json_api("POST", "/v1/keys/derive", {**self.KEY, **change})
                self.assertEqual((status, problem["code"]), (400, code), problem)

    def test_a_wrong_method_is_told_the_right_ones(self):
        self.assertEqual(self.api("PATCH", "/v1/state/a")[1]["Allow"], "PUT, GET, DELETE")
        self.assertNotIn("Allow", self.api("GET", "/v1/state/missing")[1])

    def test_a_body_too_large_without_a_length_is_refused_too(self):
        def pieces():
            for _ in range(33):
                yield bytes(1 << 20)
        answer = self.api("PUT", "/v1/state/a", pieces())
        self.refused(answer, 413, "too-large")

    def test_a_chunked_body_is_sealed_whole(self):
        answer = self.api("PUT", "/v1/state/pieces", iter([b"one ", b"two ", b"three"]))
        self.assertEqual(answer[0], 201, answer)
        self.assertEqual(self.api("GET", "/v1/state/pieces")[2], b"one two three")

    def connect(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(20)
        s.connect(str(self.stack.dir / "agent.sock"))
        return s

    def test_bytes_that_are_not_http_close_the_connection_and_nothing_else(self):
        for junk in (b"\x00" * 100, b"GET\r\n\r\n", os.urandom(4096), b"GET / HTTP/1.1\r\n" +
                     b"X: " + b"y" * 100000 + b"\r\n\r\n",
                     b"PUT /v1/state/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                     b"PUT /v1/state/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999"
                     b"\r\n\r\n"):
            with self.subTest(junk=junk[:20]), self.connect() as s:
                with contextlib.suppress(ConnectionError):
                    s.sendall(junk)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                self.assertEqual(self.api("GET", "/healthz")[0], 200)

    def test_half_a_body_changes_nothing_that_is_stored(self):
        self.api("PUT", "/v1/state/half", b"whole")
        with self.connect() as s:
            s.sendall(b"PUT /v1/state/half HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        time.sleep(0.2)
        self.assertEqual(self.api("GET", "/v1/state/half")[2], b"whole")

    def test_a_thousand_idle_connections_cost_nobody_their_answer(self):
        idle = []
        with contextlib.ExitStack() as stack:
            for _ in range(1000):
                with contextlib.suppress(OSError):
                    idle.append(stack.enter_context(self.connect()))
            time.sleep(0.5)
            if os.getuid() == 0:
                began = time.monotonic()  # idle connections are closed after 30 s
                status = as_uid(NOBODY, lambda: self.api("GET", "/healthz")[0])
                self.assertEqual(status, 200)
                self.assertLess(time.monotonic() - began, 20)
        time.sleep(0.5)
        began = time.monotonic()
        self.assertEqual(self.api("GET", "/healthz")[0], 200)
        self.assertLess(time.monotonic() - began, 20)


class Rate(Case):
    @classmethod
    def policy(cls, stack):
        stack.enclave_arguments = ["--agent-rate", "20"]
        return policy_of(stack)

    def test_an_agent_that_asks_too_fast_is_told_so_and_served_again_later(self):
        answers = [self.api("GET", "/v1/identity") for _ in range(100)]
        refused = [a for a in answers if a[0] != 200]
        self.assertGreater(len(refused), 20)
        for answer in refused:
            self.refused(answer, 429, "agent-rate")
        self.assertEqual(self.api("GET", "/healthz")[0], 200, "health is not metered")
        if os.getuid() == 0:
            self.assertEqual(as_uid(NOBODY, lambda: self.api("GET", "/v1/identity")[0]), 200)
        time.sleep(0.3)
        self.assertEqual(self.api("GET", "/v1/identity")[0], 200)


class Logs(Case):
    @classmethod
    def policy(cls, stack):
        stack.enclave_arguments = ["--log", "json"]
        return policy_of(stack)

    def lines(self):
        text = self.stack.running["clavigerd"].log
        return [json.loads(line) for line in text.splitlines()]

    def test_each_refusal_is_in_the_log_under_the_operation_it_was_told(self):
        names = ["nothing", "%ff%fe", "a%0a2026-01-01 forged", "%1b%5b2J", "%22" * 120, "%5c" * 120,
                 "%e2%82", "x" * 300, "%c3%a9" * 60]
        for name in names:
            for target in (f"/v1/state/{name}", f"/{name}", f"/v1/state/a?{name}=1"):
                with self.subTest(target=target[:40]):
                    status, headers, body = self.api("GET", target.replace(" ", "%20"))
                    problem = json.loads(body)
                    self.assertGreaterEqual(status, 400)
                    found = [line for line in self.lines()
                             if line.get("operation") == problem["operation"]]
                    self.assertEqual(len(found), 1, "one line of this operation")
                    self.assertIn(problem["code"], found[0]["message"])
                    self.assertNotRegex(found[0]["message"], r"[\x00-\x1f]")

    def test_raw_bytes_in_a_path_do_not_keep_a_request_out_of_the_log(self):
        before = len(self.lines())
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.stack.dir / "agent.sock"))
            s.sendall(b"GET /\xff\xfe\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 404"))
        self.assertEqual([line["event"] for line in self.lines()[before:]], ["api.refused"])

    def test_what_agents_store_is_not_in_the_log(self):
        self.assertEqual(self.api("PUT", "/v1/state/logged", b"needle-in-the-log")[0], 201)
        self.assertEqual(self.api("GET", "/v1/state/logged")[2], b"needle-in-the-log")
        status, key = self.json_api("POST", "/v1/keys/derive", {
            "path": "p", "purpose": "q", "algorithm": "raw"})
        self.assertEqual(status, 200)
        log = self.stack.running["clavigerd"].log
        self.assertNotIn("needle", log)
        self.assertNotIn(key["key"], log)
        self.assertIn("PUT /v1/state/{name}", log)


@unittest.skipUnless(os.getuid() == 0, "needs root to be several agents")
class Capabilities(Case):
    @classmethod
    def policy(cls, stack):
        policy = policy_of(stack)
        policy["agents"] = [
            {"uid": 0, "may": ["seal:agent-state", "unseal:agent-state", "delete:agent-state"]},
            {"uid": 4001, "may": ["seal:agent-state/mine/*", "unseal:agent-state/mine/*",
                                  "sign:agent-state/wallet/*", "public:agent-state/*"]},
            {"gid": 4002, "may": ["unseal:agent-state/shared"]},
        ]
        return policy

    def call(self, uid, method, path, body=None):
        def run():
            status, headers, answer = self.api(
                method, path, body, {"Content-Type": "application/json"} if body else {})
            return [status, answer.decode(errors="replace")]
        status, text = as_uid(uid, run)
        return status, text

    def denied(self, answer, capability):
        status, text = answer
        problem = json.loads(text)
        self.assertEqual((status, problem["code"]), (403, "capability-missing"), text)
        self.assertIn(capability, problem["detail"])

    def test_an_agent_that_the_policy_does_not_name_gets_nothing(self):
        status, text = self.call(NOBODY, "GET", "/v1/state/shared")
        self.assertEqual((status, json.loads(text)["code"]), (403, "agent-unknown"))
        self.assertEqual(self.call(NOBODY, "GET", "/healthz")[0], 200)

    def test_an_agent_does_what_its_patterns_allow_and_is_told_what_is_missing(self):
        self.assertEqual(self.api("PUT", "/v1/state/secret", SEALED)[0], 201)
        self.assertEqual(self.call(4001, "PUT", "/v1/state/mine/a", b"x")[0], 201)
        self.assertEqual(self.call(4001, "GET", "/v1/state/mine/a"), (200, "x"))
        self.denied(self.call(4001, "GET", "/v1/state/secret"), "unseal:agent-state/secret")
        self.denied(self.call(4001, "PUT", "/v1/state/secret", b"x"), "seal:agent-state/secret")
        self.denied(self.call(4001, "DELETE", "/v1/state/mine/a"), "delete:agent-state/mine/a")
        self.denied(self.call(4001, "GET", "/v1/state"), "unseal:agent-state")
        self.assertEqual(self.call(4001, "GET", "/v1/state?prefix=mine/")[0], 200)
        self.assertEqual(self.api("GET", "/v1/state/secret")[2], SEALED)

    def test_a_group_is_told_apart_too(self):
        self.assertIn(self.api("PUT", "/v1/state/shared", b"for all")[0], (200, 201))
        self.assertEqual(self.call(4002, "GET", "/v1/state/shared"), (200, "for all"))
        self.denied(self.call(4002, "PUT", "/v1/state/shared", b"x"), "seal:agent-state/shared")

    def test_a_key_can_be_used_by_an_agent_that_may_not_read_it(self):
        body = {"path": "wallet/main", "purpose": "pay", "algorithm": "ed25519"}
        self.assertEqual(self.call(4001, "POST", "/v1/keys/public",
                                   json.dumps(body).encode())[0], 200)
        signed = json.dumps({**body, "message": "aGk="}).encode()
        self.assertEqual(self.call(4001, "POST", "/v1/keys/sign", signed)[0], 200)
        self.denied(self.call(4001, "POST", "/v1/keys/derive", json.dumps(body).encode()),
                    "derive:agent-state/wallet/main")
        other = json.dumps({**body, "path": "other", "message": "aGk="}).encode()
        self.denied(self.call(4001, "POST", "/v1/keys/sign", other), "sign:agent-state/other")

    def test_a_denied_body_changes_nothing(self):
        self.assertIn(self.api("PUT", "/v1/state/shared", b"for all")[0], (200, 201))
        status, text = self.call(4002, "PUT", "/v1/state/shared", bytes(8 << 20))
        self.denied((status, text), "seal:agent-state/shared")
        self.assertEqual(self.api("GET", "/v1/state/shared")[2], b"for all")

    def test_what_an_agent_may_do_is_in_its_identity(self):
        status, text = self.call(4001, "GET", "/v1/identity")
        self.assertEqual(status, 200)
        agent = json.loads(text)["agent"]
        self.assertEqual((agent["uid"], agent["may"][0]), (4001, "seal:agent-state/mine/*"))


if __name__ == "__main__":
    unittest.main()
