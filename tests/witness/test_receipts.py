"""The witness as receipts that the callers keep: what is demanded, and what a receipt is good for."""
import base64
import json
import pathlib
import shutil
import subprocess
import sys
import unittest

from common import HEADER, Case, ReceiptStack

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
DERIVE = json.dumps({"path": "wallet/1", "purpose": "test", "algorithm": "ed25519"}).encode()


class Receipts(Case):
    make = ReceiptStack

    def call(self, method, path, body=None, receipt=None, **headers):
        if receipt is not None:
            headers[HEADER] = receipt
        return self.stack.api(method, path, body, headers)

    def put(self, name, data, receipt):
        status, headers, body = self.call("PUT", f"/v1/state/{name}", data, receipt)
        self.assertLess(status, 300, body)
        return headers[HEADER]

    def get(self, name, receipt):
        status, headers, body = self.call("GET", f"/v1/state/{name}", None, receipt)
        self.assertEqual(status, 200, body)
        return body, headers.get(HEADER, receipt)

    def test_each_seal_answers_with_a_receipt_that_the_next_call_presents(self):
        receipt = self.put("chain", b"one", self.stack.init)
        receipt = self.put("chain", b"two", receipt)
        body, same = self.get("chain", receipt)
        self.assertEqual((body, same), (b"two", receipt))

    def test_no_receipt_is_no_answer(self):
        self.put("bare", b"one", self.stack.init)
        for method, path, body in (("GET", "/v1/state/bare", None), ("PUT", "/v1/state/bare", b"x"),
                                   ("DELETE", "/v1/state/bare", None),
                                   ("GET", "/v1/state/never", None), ("GET", "/v1/state", None),
                                   ("POST", "/v1/reseal?name=bare", None),
                                   ("POST", "/v1/keys/derive", DERIVE)):
            with self.subTest(method=method, path=path):
                self.refused(self.call(method, path, body), 428, "witness-receipt")

    def test_a_receipt_of_another_name_is_none(self):
        other = self.put("other", b"one", self.stack.init)
        self.put("mine", b"one", self.stack.init)
        self.refused(self.call("GET", "/v1/state/mine", None, other), 428, "witness-receipt")
        body, _ = self.get("mine", f"{other}, {self.stack.init}")
        self.assertEqual(body, b"one")

    def test_any_changed_byte_of_a_receipt_is_refused(self):
        receipt = bytearray(base64.b64decode(self.put("forged", b"one", self.stack.init)))
        for at in range(0, len(receipt), 7):
            forged = bytearray(receipt)
            forged[at] ^= 1
            text = base64.b64encode(forged).decode()
            self.refused(self.call("GET", "/v1/state/forged", None, text), 422, "witness-record")
        self.refused(self.call("GET", "/v1/state/forged", None, "?"), 422, "witness-record")

    def test_an_older_receipt_reads_what_is_newer_and_writes_nothing(self):
        """Other callers may have written; but nobody overwrites what he has not seen."""
        first = self.put("shared", b"one", self.stack.init)
        second = self.put("shared", b"two", first)
        problem = self.call("PUT", "/v1/state/shared", b"three", first)
        self.refused(problem, 409, "state-conflict")
        self.assertNotIn(HEADER, problem[1])
        self.refused(self.call("DELETE", "/v1/state/shared", None, first), 409, "state-conflict")
        body, newest = self.get("shared", first)
        self.assertEqual(body, b"two")
        self.put("shared", b"three", newest)
        self.refused(self.call("PUT", "/v1/state/shared", b"x", second), 409, "state-conflict")

    def test_the_init_receipt_claims_to_know_of_nothing(self):
        self.put("known", b"one", self.stack.init)
        self.refused(self.call("PUT", "/v1/state/known", b"x", self.stack.init), 409,
                     "state-conflict")
        self.refused(self.call("GET", "/v1/state/never", None, self.stack.init), 404,
                     "state-not-found")

    def test_the_newest_of_several_receipts_counts(self):
        first = self.put("several", b"one", self.stack.init)
        second = self.put("several", b"two", first)
        third = self.put("several", b"three", f"{second},{first},{self.stack.init}")
        self.assertEqual(self.get("several", f"{first},{third}")[0], b"three")

    def test_deleting_gives_a_receipt_and_generations_go_on(self):
        receipt = self.put("gone", b"one", self.stack.init)
        status, headers, _ = self.call("DELETE", "/v1/state/gone", None, receipt)
        self.assertEqual(status, 204)
        deleted = headers[HEADER]
        self.refused(self.call("GET", "/v1/state/gone", None, deleted), 404, "state-not-found")
        answer = self.call("GET", "/v1/state/gone", None, receipt)
        self.refused(answer, 404, "state-not-found")
        self.assertIn(HEADER, answer[1], "who did not hear of it gets the receipt, too")
        listed = json.loads(self.call("GET", "/v1/state?prefix=gone", None, deleted)[2])["states"]
        self.assertEqual(listed, [])
        status, headers, _ = self.call("PUT", "/v1/state/gone", b"two", deleted)
        self.assertEqual((status, headers["ETag"]), (201, '"3"'))

    def test_a_root_has_a_receipt_too(self):
        status, headers, body = self.call("POST", "/v1/keys/derive", DERIVE, self.stack.init)
        self.assertEqual(status, 200, body)
        root = headers[HEADER]
        again = self.call("POST", "/v1/keys/derive", DERIVE, root)
        self.assertEqual((again[0], again[2]), (200, body))
        self.stack.restart_enclave()
        again = self.call("POST", "/v1/keys/derive", DERIVE, root)
        self.assertEqual((again[0], again[2]), (200, body))

    def test_receipts_outlive_the_enclave(self):
        receipt = self.put("outlive", b"one", self.stack.init)
        self.stack.restart_enclave()
        self.assertEqual(self.get("outlive", receipt)[0], b"one")
        self.put("outlive", b"two", receipt)

    def test_init_may_be_asked_for_again_and_is_of_the_same_standing(self):
        receipt = self.put("twice", b"one", self.stack.init)
        again = self.stack.cli("init").stdout.strip()
        self.assertEqual(self.get("twice", again)[0], b"one")
        self.assertEqual(self.get("twice", receipt)[0], b"one")

    def test_too_many_receipts_are_refused(self):
        many = ",".join([self.stack.init] * 33)
        self.refused(self.call("GET", "/v1/state/a", None, many), 422, "witness-record")


NODE = """
import http from "node:http";
import { Claviger } from "%s";
const receipts = new Map([["init", process.argv[1]]]);
const claviger = new Claviger(process.argv[2], { receipts });
await claviger.putState("node", "one", { key: "agent-state" });
const older = receipts.get("agent-state /v1/state/node");
await claviger.putState("node", "two");
receipts.delete("agent-state /v1/state/node");
const late = http.createServer((_, answer) => {
  answer.setHeader("Claviger-Receipt", older);
  answer.end("one");
}).listen(process.argv[2] + ".late");
const behind = new Claviger(process.argv[2] + ".late", { receipts });
await behind.getState("node");
await behind.close();
late.close();
const { data } = await claviger.getState("node");
if (data.toString() !== "two" || receipts.size !== 2) throw new Error("not what was put");
await claviger.deriveKey({ path: "p", purpose: "q", algorithm: "ed25519" });
await claviger.listStates();
await claviger.deleteState("node");
try { await claviger.getState("node"); } catch (problem) {
  if (problem.code !== "state-not-found") throw problem;
}
await claviger.putState("node", "three");
await claviger.close();
"""


class Clients(Case):
    make = ReceiptStack

    def test_the_python_client_keeps_and_presents_receipts(self):
        sys.path.insert(0, str(EXAMPLES / "python"))
        from claviger import Client, Problem
        path = str(self.stack.dir / "agent.sock")
        kept = {"init": self.stack.init}
        with Client(path, receipts=kept) as client:
            client.put_state("py", b"one")
            client.put_state("py", b"two")
            early = dict(kept)
            client.put_state("py", b"three")
            client.derive_key({"path": "p", "purpose": "q", "algorithm": "ed25519"})
            self.assertEqual([state.name for state in client.list_states("py")], ["py"])
            self.assertEqual(client.get_state("py").data, b"three")
        self.assertEqual(set(kept), {"init", " /v1/state/py", " root"})
        with Client(path, receipts=early) as client:
            with self.assertRaises(Problem) as refused:
                client.put_state("py", b"unseen")
            self.assertEqual(refused.exception.code, "state-conflict")
            client.get_state("py")
            client.put_state("py", b"four")
        with Client(path) as client, self.assertRaises(Problem) as refused:
            client.get_state("py")
        self.assertEqual(refused.exception.code, "witness-receipt")

    def test_the_python_client_keeps_the_newest_of_answers_that_cross(self):
        sys.path.insert(0, str(EXAMPLES / "python"))
        from claviger import Client
        path = str(self.stack.dir / "agent.sock")
        kept = {"init": self.stack.init}
        with Client(path, receipts=kept) as slow, Client(path, receipts=kept) as quick:
            answer = slow._connection.getresponse

            def late():
                held = answer()
                quick.get_state("crossed")
                quick.put_state("crossed", b"two")
                return held

            slow._connection.getresponse = late
            slow.put_state("crossed", b"one")
            quick.put_state("crossed", b"three")  # an older receipt would be a conflict

    def test_the_python_client_knows_a_name_whose_key_was_said_before(self):
        sys.path.insert(0, str(EXAMPLES / "python"))
        from claviger import Client
        with Client(str(self.stack.dir / "agent.sock"), receipts={"init": self.stack.init}) as client:
            client.put_state("said", b"one", key="agent-state")
            client.put_state("said", b"two")  # the init receipt alone would be a conflict
            client.put_state("said", b"three", key="agent-state")

    @unittest.skipIf(shutil.which("node") is None, "node is not installed")
    def test_the_node_client_keeps_and_presents_receipts(self):
        script = NODE % (EXAMPLES / "node" / "claviger.mjs")
        done = subprocess.run(["node", "--input-type=module", "-e", script, self.stack.init,
                               str(self.stack.dir / "agent.sock")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
