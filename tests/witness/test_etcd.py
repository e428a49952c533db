"""The witness in an etcd cluster: first use, acknowledgement, deleting, outages, races, crashes."""
import base64
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import threading
import unittest

from common import BINARY, Case, EtcdStack
from openapi import Description

DERIVE = json.dumps({"path": "wallet/1", "purpose": "test", "algorithm": "ed25519"}).encode()
JSON = {"Content-Type": "application/json"}
TEXT = (pathlib.Path(os.environ.get("CLAVIGER_SOURCE", pathlib.Path(__file__).parents[2])) /
        "docs" / "openapi.yaml").read_text()


def user_data(document: bytes) -> bytes:
    """The user_data of a COSE_Sign1 as the NSM makes it: a byte string of less than 256 bytes."""
    at = document.index(b"iuser_data") + 10
    assert document[at] == 0x58, document[at:at + 4]
    return document[at + 2:at + 2 + document[at + 1]]


@unittest.skipIf(BINARY is None, "etcd is not installed")
class FirstUse(unittest.TestCase):
    """Each step on the way is explicit, and what comes before it is refused."""

    def test_nothing_is_witnessed_before_it_was_begun_and_each_step_is_refused_out_of_order(self):
        with EtcdStack() as stack:
            stack.start()
            put = stack.api("PUT", "/v1/state/memory", b"one")
            self.assertEqual((put[0], json.loads(put[2])["code"]), (503, "witness-uninitialised"))
            derive = stack.api("POST", "/v1/keys/derive", DERIVE, JSON)
            self.assertEqual((derive[0], json.loads(derive[2])["code"]),
                             (503, "witness-uninitialised"))
            self.assertEqual(stack.status()["code"], "witness-uninitialised")

            csr = stack.cli("csr", "--document", str(stack.dir / "csr.bin"))
            self.check_request(stack, csr.stdout)
            put = stack.api("PUT", "/v1/state/memory", b"one")
            self.assertEqual((put[0], json.loads(put[2])["code"]), (503, "witness-certificate"))
            self.check_foreign_certificate(stack)
            stack.cli("certificate", str(stack.sign(csr.stdout)))
            put = stack.api("PUT", "/v1/state/memory", b"one")
            self.assertEqual((put[0], json.loads(put[2])["code"]), (503, "witness-uninitialised"))

            self.check_init(stack)
            self.assertEqual(stack.api("PUT", "/v1/state/memory", b"one")[0], 201)
            again = stack.cli("init", check=False)
            self.assertIn("(witness-initialised)", again.stderr)
            stack.restart_enclave()
            again = stack.cli("init", check=False)
            self.assertIn("(witness-initialised)", again.stderr)
            self.assertEqual(stack.api("GET", "/v1/state/memory")[2], b"one")

    def check_request(self, stack, csr: str) -> None:
        """The document says that this image asked for exactly this request; no agent could have
        had it made, since what agents may say is shorter."""
        der = subprocess.run(["openssl", "req", "-outform", "DER"], input=csr.encode(), check=True,
                             capture_output=True).stdout
        said = b"claviger-witness-csr-1" + hashlib.sha384(der).digest()
        self.assertEqual(user_data((stack.dir / "csr.bin").read_bytes()), said)
        self.assertGreater(len(said), 64)
        stack.run("claviger", "verify", str(stack.dir / "csr.bin"), "--at", "doc", "--root-sha256",
                  (stack.nsm_dir / "root.sha256").read_text().strip(), "--user-data", said.hex())
        subject = subprocess.run(["openssl", "req", "-noout", "-subject", "-verify"],
                                 input=csr.encode(), check=True, capture_output=True)
        self.assertNotIn(b"CN", subject.stdout)
        self.assertIn(b"agent-runtime", subject.stdout)

    def check_foreign_certificate(self, stack) -> None:
        foreign = stack.cli("certificate", str(stack.dir / "etcd" / "client.pem"), check=False)
        self.assertIn("(witness-certificate)", foreign.stderr)

    def check_init(self, stack) -> None:
        record = stack.cli("init", "--document", str(stack.dir / "init.bin")).stdout.strip()
        said = b"claviger-witness-init-1" + hashlib.sha384(base64.b64decode(record)).digest()
        self.assertEqual(user_data((stack.dir / "init.bin").read_bytes()), said)
        calls = json.loads(stack.api("GET", "/v1/evidence")[2])["calls"]
        acts = {call["action"]: call for call in calls}
        self.assertEqual(acts["WitnessInit"]["operation"], record)
        self.assertIn("WitnessRequest", acts)
        self.assertIn("WitnessInit by uid", stack.running["clavigerd"].log)
        self.assertIn(f"uid {os.getuid()} in ", stack.status()["initialised_by"])
        for method, path, answer in (("GET", "/v1/witness", stack.api("GET", "/v1/witness")),):
            self.assertEqual(list(Description(TEXT).faults(
                method, path, answer[0], answer[1]["Content-Type"], answer[2])), [])

    def test_without_the_capability_nobody_begins(self):
        with EtcdStack() as stack:
            stack.prepare()
            policy = stack.default_policy()
            policy["agents"][0]["may"].remove("witness:agent-state")
            stack.write_policy(policy)
            stack.start_nsm()
            stack.start_parent()
            stack.start_enclave()
            for method, path, body in (("POST", "/v1/witness/init", None),
                                       ("POST", "/v1/witness/csr", None),
                                       ("PUT", "/v1/witness/certificate", b"x"),
                                       ("POST", "/v1/witness/adopt?name=a", None)):
                status, _, answer = stack.api(method, path, body)
                self.assertEqual((status, json.loads(answer)["code"]), (403, "capability-missing"))

    def test_state_from_before_the_witness_is_refused_until_it_is_adopted(self):
        with EtcdStack() as stack:
            stack.start()
            policy = stack.default_policy()
            without = {k: v for k, v in policy.items() if k != "witness"}
            stack.write_policy(without)
            (stack.dir / "plain.json").write_bytes(stack.policy_file.read_bytes())
            stack.running["clavigerd"].kill()
            stack.start_nsm()
            super(EtcdStack, stack).start_enclave()  # without relays to a witness
            for data in (b"one", b"two", b"three"):
                stack.api("PUT", "/v1/state/memory", data)
            stack.write_policy(policy)
            stack.restart_enclave()
            stack.begin()
            status, _, answer = stack.api("GET", "/v1/state/memory")
            self.assertEqual((status, json.loads(answer)["code"]), (422, "witness-fork"))
            self.assertEqual(json.loads(stack.cli("adopt", "memory").stdout)["generation"], 3)
            self.assertEqual(stack.api("GET", "/v1/state/memory")[2], b"three")
            again = stack.cli("adopt", "memory", check=False)
            self.assertIn("(witness-fork)", again.stderr)


class Living(Case):
    """What an agent sees is what it sees without a witness, but for deleted names."""

    def test_a_state_is_put_read_replaced_listed_and_deleted(self):
        api = self.stack.api
        self.assertEqual(api("PUT", "/v1/state/life", b"one")[0], 201)
        status, headers, _ = api("PUT", "/v1/state/life", b"two", {"If-Match": '"1"'})
        self.assertEqual((status, headers["ETag"]), (200, '"2"'))
        self.assertEqual(api("PUT", "/v1/state/life", b"x", {"If-Match": '"1"'})[0], 412)
        self.assertEqual(api("PUT", "/v1/state/life", b"x", {"If-None-Match": "*"})[0], 412)
        self.assertEqual(api("GET", "/v1/state/life")[2], b"two")
        self.assertEqual(self.listed("life"), [("life", 2)])
        self.assertEqual(api("DELETE", "/v1/state/life", None, {"If-Match": '"1"'})[0], 412)
        self.assertEqual(api("DELETE", "/v1/state/life")[0], 204)
        self.assertEqual(api("GET", "/v1/state/life")[0], 404)
        self.assertEqual(api("DELETE", "/v1/state/life")[0], 404)
        self.assertEqual(self.listed("life"), [])

    def listed(self, prefix: str):
        states = json.loads(self.stack.api("GET", f"/v1/state?prefix={prefix}")[2])["states"]
        return [(entry["name"], entry["generation"]) for entry in states]

    def test_generations_go_on_after_a_deletion(self):
        api = self.stack.api
        api("PUT", "/v1/state/again", b"one")
        api("DELETE", "/v1/state/again")
        status, headers, _ = api("PUT", "/v1/state/again", b"two", {"If-None-Match": "*"})
        self.assertEqual((status, headers["ETag"]), (201, '"3"'))
        self.assertEqual(api("GET", "/v1/state/again")[2], b"two")

    def test_a_restarted_enclave_goes_on_where_the_witness_is(self):
        api = self.stack.api
        api("PUT", "/v1/state/restart", b"one")
        root = json.loads(api("POST", "/v1/keys/derive", DERIVE, JSON)[2])
        self.stack.restart_enclave()
        self.assertEqual(api("GET", "/v1/state/restart")[2], b"one")
        self.assertEqual(api("PUT", "/v1/state/restart", b"two")[1]["ETag"], '"2"')
        self.assertEqual(json.loads(api("POST", "/v1/keys/derive", DERIVE, JSON)[2]), root)

    def test_what_the_cluster_holds_is_signed_and_says_nothing_of_the_content(self):
        self.stack.api("PUT", "/v1/state/secret", b"the agent's own words")
        dump = subprocess.run(["grep", "-c", "-a", "the agent's own words", "-r",
                               str(self.stack.dir / "etcd")], capture_output=True, text=True)
        self.assertTrue(all(line.endswith(":0") for line in dump.stdout.splitlines()), dump.stdout)

    def test_the_store_tool_knows_tombstones_and_finds_one_that_is_not(self):
        self.stack.api("PUT", "/v1/state/tomb", b"one")
        self.stack.api("DELETE", "/v1/state/tomb")
        copy = self.stack.dir / "copy.db"
        with contextlib.closing(sqlite3.connect(self.stack.dir / "store.db")) as store:
            store.execute(f"VACUUM INTO '{copy}'")
        done = self.stack.run("claviger", "store", "check", f"sqlite:{copy}", check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with contextlib.closing(sqlite3.connect(copy)) as store:
            store.execute("UPDATE state SET generation = 9 WHERE name = 'agent-state/tomb'")
            store.commit()
        done = self.stack.run("claviger", "store", "check", f"sqlite:{copy}", check=False)
        self.assertIn("state agent-state/tomb: expected a tombstone", done.stdout)

    def test_metrics_and_status_count_what_the_witness_did(self):
        self.stack.api("PUT", "/v1/state/counted", b"one")
        text = self.stack.api("GET", "/metrics")[2].decode()
        values = dict(line.split(" ") for line in text.splitlines() if " " in line and
                      line.startswith("claviger_witness_"))
        self.assertGreater(int(values["claviger_witness_reads_total"]), 0)
        self.assertGreater(int(values["claviger_witness_commits_total"]), 0)

    def test_many_names_are_listed_in_order(self):
        for i in range(30):
            self.assertEqual(self.stack.api("PUT", f"/v1/state/many/{i:03}", b"x")[0], 201)
        self.assertEqual(self.listed("many/"), [(f"many/{i:03}", 1) for i in range(30)])


class Outage(Case):
    def test_without_the_witness_nothing_is_acknowledged_and_its_return_is_service(self):
        stack = self.stack
        self.assertEqual(stack.api("PUT", "/v1/state/memory", b"one")[0], 201)
        stack.cluster.kill(0)
        self.refused(stack.api("GET", "/v1/state/memory"), 503, "witness-unavailable")
        self.refused(stack.api("PUT", "/v1/state/memory", b"two"), 503, "witness-unavailable")
        self.refused(stack.api("DELETE", "/v1/state/memory"), 503, "witness-unavailable")
        self.refused(stack.api("GET", "/v1/state"), 503, "witness-unavailable")
        stack.cluster.start(0)
        stack.cluster.wait(0)
        self.assertEqual(stack.api("GET", "/v1/state/memory")[2], b"one")
        self.assertEqual(stack.api("PUT", "/v1/state/memory", b"two")[0], 200)


class Silent(Case):
    def test_those_who_wait_for_a_silent_witness_share_one_attempt(self):
        stack, tried = self.stack, []
        true = stack.cluster.client
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)

        def swallow() -> None:
            with contextlib.suppress(OSError):
                while True:
                    tried.append(listener.accept()[0])

        threading.Thread(target=swallow, daemon=True).start()
        try:
            stack.running["claviger-parent"].stop()
            stack.cluster.client = [listener.getsockname()[1]]
            stack.start_parent()
            stack.cluster.client = true
            stack.restart_enclave()
            before = len(tried)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: stack.api("GET", "/v1/witness"), range(8)))
            for status, _, body in answers:
                self.assertEqual((status, json.loads(body)["code"]), (200, "witness-unavailable"))
            self.assertIn(len(tried) - before, (1, 2))
        finally:
            listener.close()
            for connection in tried:
                connection.close()


class Emptied(Case):
    def test_a_cluster_that_was_emptied_is_another_until_each_state_is_adopted(self):
        stack = self.stack
        for data in (b"one", b"two"):
            stack.api("PUT", "/v1/state/kept", data)
        stack.api("PUT", "/v1/state/gone", b"one")
        self.assertEqual(stack.api("DELETE", "/v1/state/gone")[0], 204)
        keys = subprocess.run(
            ["etcdctl", "--endpoints", f"https://127.0.0.1:{stack.cluster.client[0]}", "--cacert",
             "ca.pem", "--cert", "client.pem", "--key", "client.key", "del", "--prefix", "test/"],
            cwd=stack.dir / "etcd", env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True,
            text=True)
        self.assertEqual(keys.returncode, 0, keys.stderr)
        self.refused(stack.api("GET", "/v1/state/kept"), 503, "witness-other")
        stack.restart_enclave()
        self.refused(stack.api("GET", "/v1/state/kept"), 503, "witness-uninitialised")
        stack.cli("init")
        for name, generation in (("kept", 2), ("gone", 2)):
            self.refused(stack.api("GET", f"/v1/state/{name}"), 422, "witness-fork")
            self.assertEqual(json.loads(stack.cli("adopt", name).stdout)["generation"], generation)
        self.assertEqual(stack.api("GET", "/v1/state/kept")[2], b"two")
        self.refused(stack.api("GET", "/v1/state/gone"), 404, "state-not-found")
        self.assertEqual(stack.api("PUT", "/v1/state/gone", b"again")[1]["ETag"], '"3"')


class SetUpAnew(Case):
    def test_another_init_record_of_the_same_revision_is_another(self):
        """The first write to each new cluster has the same revision."""
        stack, cluster = self.stack, self.stack.cluster
        stack.api("PUT", "/v1/state/kept", b"one")
        before = cluster.call("kv/range", key="test/init")["kvs"][0]
        cluster.kill(0)
        shutil.rmtree(cluster.dir / "m0")
        cluster.start(0)
        cluster.wait(0)
        cluster.call("kv/put", key="test/init", value="another")
        after = cluster.call("kv/range", key="test/init")["kvs"][0]
        self.assertEqual(after["mod_revision"], before["mod_revision"])
        self.refused(stack.api("GET", "/v1/state/kept"), 503, "witness-other")
        self.refused(stack.api("GET", "/v1/state/never"), 503, "witness-other")
        self.refused(stack.api("PUT", "/v1/state/kept", b"two"), 503, "witness-other")


class Untrusted(Case):
    def test_the_parent_cannot_write_the_cluster(self):
        """It carries the connection, and has the certificate, which is public; not the key."""
        stack = self.stack
        etcd = stack.dir / "etcd"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-keyout", "own.key", "-out",
                        "own.pem", "-days", "2", "-subj", "/O=parent"], cwd=etcd, check=True,
                       capture_output=True)
        url = f"https://127.0.0.1:{stack.cluster.client[0]}/v3/kv/put"
        body = '{"key": "eA==", "value": "eA=="}'
        for identity in ([], ["--cert", "own.pem", "--key", "own.key"]):
            out = subprocess.run(["curl", "-sS", "--cacert", "ca.pem", *identity, "-d", body, url],
                                 cwd=etcd, capture_output=True, text=True)
            self.assertNotEqual(out.returncode, 0, out.stdout)
        out = subprocess.run(["curl", "-sS", "--cacert", "ca.pem", "--cert", "enclave.pem", "--key",
                              "own.key", "-d", body, url], cwd=etcd, capture_output=True)
        self.assertNotEqual(out.returncode, 0)

    def test_the_enclave_talks_to_no_server_but_the_cluster(self):
        """The relay leads to a server of another CA: nothing is said, nothing acknowledged."""
        from etcd_cluster import Cluster
        stack = self.stack
        stack.api("PUT", "/v1/state/memory", b"one")
        (stack.dir / "false").mkdir()
        false = Cluster(stack.dir / "false", 1)
        true = stack.cluster.client
        try:
            stack.running["claviger-parent"].stop()
            stack.cluster.client = false.client
            stack.start_parent()
            self.refused(stack.api("GET", "/v1/state/memory"), 503, "witness-unavailable")
            self.assertEqual(len(false.pairs()), 0)
        finally:
            stack.cluster.client = true
            false.close()
            stack.start_parent()
        self.assertEqual(stack.api("GET", "/v1/state/memory")[2], b"one")


if __name__ == "__main__":
    unittest.main()
