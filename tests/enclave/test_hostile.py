"""The enclave under a parent that lies, swaps, replays and vanishes (R20), and images and policies
that are not the ones KMS was told about."""
import base64
import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import unittest

from common import SEALED, Case  # also finds tests/lib
from claviger_stack import Failed, Stack, pcr
from python_parent import PythonParent, Refused, call, frame


class LyingStack(Stack):
    """The stack with a parent written in Python in the place of ours."""

    parent: PythonParent = None

    def start_parent(self, relay_to=None):
        if self.parent is not None:
            self.parent.__exit__()
        host, port = (relay_to or self.kms_target).rsplit(":", 1)
        self.parent = PythonParent(
            str(self.dir / "services.sock"), str(self.dir / "relay.sock"), (host, int(port)),
            self.kms_dir / "credentials.json", self.baseline)
        return self.parent

    def close(self):
        super().close()
        if self.parent is not None:
            self.parent.__exit__()


class HostileCase(Case):
    stack_type = LyingStack

    def tearDown(self):
        self.stack.parent.lies.clear()

    @contextlib.contextmanager
    def lying(self, **lies):
        self.stack.parent.lies = {op.replace("_", ".", 1): lie for op, lie in lies.items()}
        yield
        self.stack.parent.lies = {}


class Replacements(HostileCase):
    def test_expired_or_malformed_ones_do_not_replace_those_that_serve(self):
        control = str(self.stack.dir / "control.sock")
        good = self.stack.credentials
        rows = (("kms-credentials-expired", {**good, "Expiration": "2020-01-01T00:00:00Z"}),
                ("kms-credentials", {**good, "SecretAccessKey": 7}), ("kms-credentials", []))
        for code, credentials in rows:
            time.sleep(2.1)  # the daemon fetches no more often
            with self.lying(credentials=lambda c, d, text=credentials: ({}, json.dumps(
                    text).encode())), self.assertRaises(Refused) as refused:
                call(control, {"op": "reload"})
            self.assertEqual(refused.exception.code, code)
            self.assertIn(self.api("PUT", "/v1/state/credentials", SEALED)[0], (200, 201))


class Store(HostileCase):
    def setUp(self):
        for name, data in (("a", b"the state a"), ("b", b"the state b")):
            self.assertIn(self.api("PUT", f"/v1/state/{name}", data)[0], (200, 201))

    def states(self):
        return self.stack.parent.states

    def test_a_blob_of_another_name_is_refused(self):
        with self.lying(state_get=lambda c, d: (
                {"generation": self.states()[c["name"]][0]},
                self.states()["agent-state/b"][1])):
            self.refused(self.api("GET", "/v1/state/a"), 422, "seal-context")
        self.assertEqual(self.api("GET", "/v1/state/a")[2], b"the state a")

    def test_an_older_generation_under_a_newer_number_is_refused(self):
        old = self.states()["agent-state/a"]
        self.assertEqual(self.api("PUT", "/v1/state/a", b"newer")[0], 200)
        with self.lying(state_get=lambda c, d: (
                {"generation": self.states()[c["name"]][0]}, old[1])):
            self.refused(self.api("GET", "/v1/state/a"), 422, "seal-context")

    def test_every_changed_byte_of_a_stored_state_is_refused(self):
        generation, sealed = self.states()["agent-state/a"]
        step = max(1, len(sealed) // 60)
        for at in range(0, len(sealed), step):
            changed = bytearray(sealed)
            changed[at] ^= 0x40
            with self.subTest(at=at), self.lying(
                    state_get=lambda c, d, m=bytes(changed): ({"generation": generation}, m)):
                status, headers, body = self.api("GET", "/v1/state/a")
                self.assertGreaterEqual(status, 400)
                self.assertNotIn(b"the state", body)
        self.assertEqual(self.api("GET", "/v1/state/a")[2], b"the state a")

    def test_answers_that_are_not_the_protocols_are_refused(self):
        lies = {
            "no generation": ({}, b"x"), "generation of another type": ({"generation": "1"}, b""),
            "generation below one": ({"generation": 0}, b""),
            "generation too large": ({"generation": 2**53 + 1}, b""),
            "an unknown member": ({"generation": 1, "more": 1}, b""),
            "not a frame": b"HTTP/1.1 200 OK\r\n\r\n", "another version": b"\x02" + frame(4)[1:],
            "a frame too large": b"\x01\x04\x00\x00\xff\xff\xff\xff",
            "half a frame": frame(4, b'{"generation":1}')[:12],
            "data before the result": frame(2, b"x"), "not JSON": frame(4, b"{"),
            "no object": frame(4, b"[]") + frame(3), "nothing": None,
            "a call": frame(1, b"{}") + frame(3),
        }
        for what, lie in lies.items():
            with self.subTest(what), self.lying(state_get=lambda c, d, lie=lie: lie):
                status, headers, body = self.api("GET", "/v1/state/a")
                self.assertIn(status, (502, 503, 504), body)
            self.assertEqual(self.api("GET", "/v1/state/a")[2], b"the state a", what)

    def test_a_fault_cannot_speak_for_the_policy_or_for_kms(self):
        for code in ("ok", "capability-missing", "AccessDeniedException", "seal-authentication",
                     "no-such-code", "not-ready"):
            def lie(call, data, code=code):
                raise Refused(code, "said the parent")
            with self.subTest(code), self.lying(state_get=lie):
                problem = self.refused_any(self.api("GET", "/v1/state/a"))
                self.assertIn(problem["code"], ("store-failed", "frame-format"))

    def refused_any(self, answer):
        status, headers, body = answer
        self.assertGreaterEqual(status, 400)
        return json.loads(body)

    def test_a_put_that_is_not_confirmed_is_not_acknowledged(self):
        for said in (({"generation": 99}, b""), ({}, b""), None):
            with self.lying(state_put=lambda c, d, said=said: said):
                self.assertGreaterEqual(self.api("PUT", "/v1/state/a", b"x")[0], 500)

    def test_a_listing_of_names_that_were_not_asked_for_is_refused(self):
        for name in ("other/x", "agent-stat", ""):
            lie = {"states": [{"name": name, "generation": 1, "size": 1}]}
            with self.subTest(name), self.lying(state_list=lambda c, d, lie=lie: (lie, b"")):
                self.refused(self.api("GET", "/v1/state"), 502, "frame-format")

    def test_a_listing_that_would_never_end_is_refused(self):
        state = {"name": "agent-state/b", "generation": 1, "size": 1}
        for states in ([], [state]):  # nothing, and the same name for ever
            lie = {"states": states, "more": True}
            with self.subTest(states=states), \
                    self.lying(state_list=lambda c, d, lie=lie: (lie, b"")):
                self.refused(self.api("GET", "/v1/state"), 502, "frame-format")

    def test_a_parent_that_is_gone_is_an_error_and_its_return_is_service(self):
        self.stack.parent.__exit__()
        began = time.monotonic()
        self.assertIn(self.api("GET", "/v1/state/a")[0], (503, 504))
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(self.api("GET", "/healthz")[0], 200)
        states = self.states()
        self.stack.start_parent()
        self.stack.parent.states = states
        self.assertEqual(self.api("GET", "/v1/state/a")[2], b"the state a")


class Roots(HostileCase):
    KEY = {"path": "wallet", "purpose": "test", "algorithm": "ed25519"}

    def derive(self, **more):
        return self.json_api("POST", "/v1/keys/derive", {**self.KEY, **more})

    def test_one_root_gives_the_same_keys_for_ever_and_another_is_noticed(self):
        status, first = self.derive()
        self.assertEqual(status, 200, first)
        self.assertEqual(self.derive()[1], first)
        root = self.stack.parent.keys["agent-state"]

        # A second root, as a parent would get one: forget the first, and let one be made. The
        # daemon that runs keeps to the first.
        self.stack.parent.keys.clear()
        self.assertEqual(self.derive(), (200, first))
        self.stack.restart_enclave()
        status, other = self.derive()
        self.assertEqual(status, 200, other)
        self.assertNotEqual(other["key"], first["key"])
        self.assertEqual(self.derive(root_id=first["root_id"])[1]["code"], "root-changed")

        self.stack.parent.keys["agent-state"] = root
        self.stack.restart_enclave()
        self.assertEqual(self.derive(root_id=first["root_id"]), (200, first))

    def test_a_blob_that_is_no_root_is_refused(self):
        self.stack.restart_enclave()
        for blob in (b"", b"x", b"x" * 6145, os.urandom(200)):
            with self.subTest(len(blob)), self.lying(key_get=lambda c, d, b=blob: ({}, b)):
                self.assertGreaterEqual(self.derive()[0], 400)
        self.assertEqual(self.derive()[0], 200)


class Control(HostileCase):
    def control(self, request, data=b""):
        return call(str(self.stack.dir / "control.sock"), request, data)

    def setup_request(self, **change):
        request = {"keyId": self.stack.keys["agent-state"],
                   "encryptionContext": {"Purpose": "AgentSecrets"}}
        request.update(change)
        return json.dumps(request).encode()

    def test_setup_gives_a_wrapped_key_and_evidence_and_never_a_key(self):
        answer, document = self.control({"op": "setup"}, self.setup_request())
        self.assertEqual(set(answer), {"key", "keyId", "encryptionContext", "ciphertextBlob"})
        self.assertEqual(answer["encryptionContext"],
                         {"Purpose": "AgentSecrets", "enclave": "agent-runtime"})
        plaintext = self.stack.reveal(answer["ciphertextBlob"])
        self.assertEqual(len(plaintext), 32)
        for form in (plaintext, base64.b64encode(plaintext), plaintext.hex().encode()):
            self.assertNotIn(form, json.dumps(answer).encode() + document)

    def test_each_request_outside_the_policy_is_refused_by_name(self):
        other = self.stack.keys["other"]
        table = [
            (self.setup_request(keyId=other), "policy-no-key"),
            (self.setup_request(keyId=other.split("/")[1]), None),
            (self.setup_request(keyId="alias/agent"), None),
            (self.setup_request(encryptionContext={"Purpose": "Other"}), "policy-context"),
            (self.setup_request(encryptionContext={"More": "x"}), "policy-context"),
            (self.setup_request(extra=1), None),
            (b"{", None), (b"", None), (b"[]", None), (b"x" * 20000, None),
        ]
        for request, code in table:
            with self.subTest(request[:80]), self.assertRaises(Refused) as refused:
                self.control({"op": "setup"}, request)
            if code is not None:
                self.assertEqual(refused.exception.code, code)
        self.assertEqual(self.control({"op": "setup"}, self.setup_request())[0]["key"],
                         "agent-state")

    def test_calls_that_are_not_the_protocols_are_refused(self):
        for request, data in (({"op": "nothing"}, b""), ({}, b""), ({"op": 1}, b""),
                              ({"op": "status", "more": 1}, b""), ({"op": "status"}, b"data")):
            with self.subTest(request), self.assertRaises(Refused):
                self.control(request, data)

    def test_status_tells_identity_and_readiness(self):
        status, data = self.control({"op": "status"})
        self.assertTrue(status["ready"])
        self.assertEqual(status["identity"]["pcrs"]["0"], self.stack.pcrs["0"])
        self.assertEqual(data, b"")

    def test_service_resumes_when_a_flood_of_silent_peers_has_left(self):
        with contextlib.ExitStack() as stack:
            for _ in range(64):
                peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                peer.setblocking(False)
                with contextlib.suppress(OSError):
                    peer.connect(str(self.stack.dir / "control.sock"))
            self.assertEqual(self.api("GET", "/healthz")[0], 200)
        # The slots of those that left are free again in a moment; until then peers are turned away.
        until = time.monotonic() + 20
        while True:
            try:
                self.assertTrue(self.control({"op": "status"})[0]["ready"])
                return
            except (OSError, EOFError):
                self.assertLess(time.monotonic(), until, "service did not resume")
                time.sleep(0.05)


class Credentials(HostileCase):
    def test_credentials_that_kms_refuses_are_reported_by_kms_own_name(self):
        good = self.stack.credentials
        bad = {**good, "AccessKeyId": "AKIAIOSFODNN7EXAMPLE"}
        with self.lying(credentials=lambda c, d: ({}, json.dumps(bad).encode())):
            self.stack.restart_enclave()
            problem = json.loads(self.api("POST", "/v1/seal?name=m", SEALED)[2])
            self.assertIn(problem["code"], ("UnrecognizedClientException",
                                            "InvalidSignatureException"), problem)
        # The parent has good ones again: the next failure fetches them, and the call succeeds.
        time.sleep(2.1)
        self.assertEqual(self.api("POST", "/v1/seal?name=m", SEALED)[0], 200)

    def test_credentials_of_the_wrong_shape_end_the_boot(self):
        for text in (b"", b"{}", b'{"AccessKeyId":1}', b"x" * 20000):
            with self.subTest(text[:20]), self.lying(
                    credentials=lambda c, d, text=text: ({}, text)):
                self.stack.running["clavigerd"].kill()
                self.stack.start_nsm()
                with self.assertRaises(Failed) as failed:
                    self.stack.start_enclave()
                self.assertNotEqual(failed.exception.status, 0)
                self.assertFalse((self.stack.dir / "agent.sock").exists() and
                                 connects(self.stack.dir / "agent.sock"))
        self.stack.restart_enclave()


def connects(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        return s.connect_ex(str(path)) == 0


class Identity(HostileCase):
    """Boots that must not happen, and enclaves that KMS must not answer."""

    def boot_fails(self, code, **start):
        with self.assertRaises(Failed) as failed:
            self.stack.start_enclave(**start)
        self.assertIn(f"({code})", failed.exception.log)
        self.assertFalse(connects(self.stack.dir / "agent.sock"), "nothing listens")
        return failed.exception.status

    def setUp(self):
        if self.stack.running["clavigerd"].process.poll() is None:
            self.stack.running["clavigerd"].kill()

    def tearDown(self):
        super().tearDown()
        self.stack.running["clavigerd"].process.poll()
        self.stack.restart_enclave()

    def test_another_image_does_not_boot(self):
        for register in ("0", "1", "2"):
            self.stack.start_nsm(pcrs={**self.stack.pcrs, register: pcr("another image")})
            self.assertEqual(self.boot_fails("baseline-no-match"), 5)

    def test_a_debug_image_does_not_boot(self):
        self.stack.start_nsm(pcrs={i: "00" * 48 for i in "012"})
        with self.assertRaises(Failed) as failed:
            self.stack.start_enclave()
        self.assertEqual(failed.exception.status, 5)

    def test_the_daemon_does_not_start_twice_in_one_boot(self):
        self.stack.start_nsm()
        self.stack.start_enclave()
        self.stack.running["clavigerd"].kill()
        self.assertEqual(self.boot_fails("policy-pcr-state"), 7)

    def test_a_baseline_that_nobody_signed_does_not_boot(self):
        good = self.stack.baseline.read_bytes()
        self.stack.start_nsm()
        with self.lying(baseline=lambda c, d: (
                {"signature": self.stack.baseline.with_suffix(".json.minisig").read_text()},
                good.replace(b"1.0.0", b"1.0.1"))):
            self.boot_fails("baseline-signature")

    def test_a_parent_without_a_baseline_is_waited_for(self):
        self.stack.start_nsm()
        times = []

        def late(call, data):
            times.append(time.monotonic())
            return None if len(times) < 4 else self.stack.parent.honest(call, data)
        with self.lying(baseline=late):
            self.stack.start_enclave()
        self.assertEqual(len(times), 4)

    def test_a_changed_policy_byte_is_refused_by_kms(self):
        self.assertEqual(self.restart_and_seal(self.stack.policy_file)[0], 200)
        changed = self.stack.dir / "changed.json"
        changed.write_bytes(self.stack.policy_file.read_bytes() + b" ")
        status, problem = self.restart_and_seal(changed)
        self.assertEqual((status, problem["code"]), (502, "AccessDeniedException"), problem)

    def restart_and_seal(self, policy):
        if self.stack.running["clavigerd"].process.poll() is None:
            self.stack.running["clavigerd"].kill()
        self.stack.start_nsm()
        self.stack.start_enclave(policy=policy)
        status, _, body = self.api("POST", "/v1/seal?name=m", SEALED)
        return status, json.loads(body) if status != 200 else None

    def test_an_enclave_under_another_root_does_not_boot(self):
        other = self.stack.dir / "other-nsm"
        self.stack.run("claviger-nsm", "init", str(other))
        self.stack.start_nsm(directory=other)
        self.assertEqual(self.boot_fails("att-cert-root"), 4)


class Relay(HostileCase):
    def impostor(self, context):
        """A TLS server with a certificate of its own that would take any request."""
        listener = socket.create_server(("127.0.0.1", 0))
        heard = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    plain, _ = listener.accept()
                    with contextlib.suppress(OSError), \
                            context.wrap_socket(plain, server_side=True) as tls:
                        heard.append(tls.recv(65536))
        threading.Thread(target=serve, daemon=True).start()
        return listener, heard

    def resumes(self, seconds=15):
        """Service comes back by itself: after repeated failures KMS is left alone for a while."""
        until = time.monotonic() + seconds
        while self.api("POST", "/v1/seal?name=m", SEALED)[0] != 200:
            self.assertLess(time.monotonic(), until, "service did not resume")
            time.sleep(0.1)

    def certificate(self, name):
        key, cert = self.stack.dir / "forged.key", self.stack.dir / "forged.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out",
                        str(cert), "-days", "1", "-subj", f"/CN={name}", "-addext",
                        f"subjectAltName=DNS:{name}"], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context

    def test_a_forged_kms_behind_the_relay_hears_nothing(self):
        listener, heard = self.impostor(self.certificate("kms.us-east-1.amazonaws.com"))
        honest = self.stack.parent.kms
        try:
            self.stack.parent.relay_to(("127.0.0.1", listener.getsockname()[1]))
            status, headers, body = self.api("POST", "/v1/seal?name=m", SEALED)
            self.assertEqual(json.loads(body)["code"], "kms-tls", body)
            self.assertFalse(any(heard), "no byte of a request reached the impostor")
        finally:
            self.stack.parent.relay_to(honest)
            listener.close()
        self.resumes()

    def test_a_relay_to_nowhere_is_an_error_in_bounded_time(self):
        honest = self.stack.parent.kms
        self.stack.parent.relay_to(("127.0.0.1", 1))
        try:
            began = time.monotonic()
            self.assertGreaterEqual(self.api("POST", "/v1/seal?name=m", SEALED)[0], 500)
            self.assertLess(time.monotonic() - began, 29)
        finally:
            self.stack.parent.relay_to(honest)
        self.resumes()


if __name__ == "__main__":
    unittest.main()
