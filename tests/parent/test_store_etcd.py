"""The store's promises, kept by etcd's own servers with TLS and client certificates, and what a
cluster adds: several parents, members that die and members that are cut off.
"""
import base64
import concurrent.futures
import contextlib
import http.server
import json
import os
import socket
import sys
import threading
import time
import unittest
import urllib.error

from etcd_cluster import BINARY, Cluster, WithMember
from store_promises import Promises, Refused, StoreCase

WRITERS = 8
STORE_MAX = 192  # services.h


class Etcd(WithMember, Promises, StoreCase):
    @property
    def store(self):
        return f"etcd:{self.cluster.config}"

    def test_what_counts_is_under_no_lease_and_what_was_replaced_is_gone(self):
        def chunks():
            """Of what counts: a put that lost leaves its chunks to the end of their lease."""
            return [pair for pair in self.cluster.pairs() if pair.get("lease", "0") == "0" and
                    base64.b64decode(pair["key"]).startswith(b"test/chunk/")]
        self.put("a", 1, b"x" * 5 * 1024 * 1024)
        self.assertEqual(len(chunks()), 5)
        self.put("a", 2, b"small")
        self.assertEqual(len(chunks()), 1)
        self.ask("state.delete", name="a", generation=2)
        self.assertEqual(chunks(), [])

    def test_without_a_client_certificate_nothing_is_got(self):
        self.stop(self.process)
        path = self.dir / "no-cert.json"
        self.cluster.write_config(path)
        path.write_text(path.read_text().replace('"cert_file"', '"x"').replace('"key_file"', '"y"'))
        process = self.spawn("serve", "--services", f"unix:{self.dir}/s", "--relay",
                             f"unix:{self.dir}/r=h:1", "--store", f"etcd:{path}", "--credentials",
                             "env", ready=False)
        self.assertEqual(process.wait(20), 3)
        self.assertIn("json-unknown", self.log.read_text())
        path.write_text('{"endpoints": ["https://127.0.0.1:%d"], "ca_file": "%s"}' % (
            self.cluster.client[0], self.cluster_dir / "ca.pem"))
        self.serve(f"etcd:{path}")
        self.refused("store-unavailable", "state.get", name="a")

    def test_a_malformed_configuration_is_refused_with_its_place(self):
        self.stop(self.process)
        path = self.dir / "bad.json"
        for text, expected in (("", "JSON"), ("{}", "endpoints"), ('{"endpoints": []}', "endpoints"),
                               ('{"endpoints": ["h:1"]}', "endpoints[0]"),
                               ('{"endpoints": ["http://h:1"], "cert_file": "c"}', "key_file"),
                               ('{"endpoints": ["http://h:1"], "prefix": 3}', "prefix")):
            with self.subTest(text=text):
                path.write_text(text)
                process = self.spawn("serve", "--services", f"unix:{self.dir}/s", "--relay",
                                     f"unix:{self.dir}/r=h:1", "--store", f"etcd:{path}",
                                     "--credentials", "env", ready=False)
                self.assertEqual(process.wait(20), 3)
                self.assertIn(expected, self.log.read_text())


class Hanging(StoreCase):
    """A cluster that takes connections and answers nothing."""

    def test_it_leaves_room_for_credentials(self):
        silent = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.addCleanup(silent.close)
        path = self.dir / "etcd.json"
        path.write_text(json.dumps({"endpoints": [f"http://127.0.0.1:{silent.getsockname()[1]}"]}))
        os.environ.update(AWS_ACCESS_KEY_ID="ASIAEXAMPLE", AWS_SECRET_ACCESS_KEY="s3cr3t" * 6)
        self.serve(f"etcd:{path}")

        def get(_):
            try:
                self.get("a")
            except Refused as refused:
                return refused.code
            except (OSError, EOFError):
                return "closed"
        with concurrent.futures.ThreadPoolExecutor(STORE_MAX + 40) as pool:
            gets = [pool.submit(get, i) for i in range(STORE_MAX + 40)]
            while not any(future.done() for future in gets):
                time.sleep(.05)
            self.assertIn(b"ASIAEXAMPLE", self.ask("credentials")[1])
            codes = {future.result() for future in gets}
        self.assertEqual(codes, {"store-busy", "store-unavailable"})


class Endpoint:
    """A plain HTTP endpoint before a cluster that can lose its answers."""

    def __init__(self, cluster):
        self.lose, self.swallow, self.before, self.refusals = None, False, None, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                lost = outer.lose is not None and self.path.endswith(outer.lose)
                if self.path.endswith("txn") and outer.before is not None:
                    act, outer.before = outer.before, None
                    act()
                status, text = 200, b""
                if not (lost and outer.swallow):
                    try:
                        with cluster.open(cluster.url(0) + self.path, body) as answer:
                            text = answer.read()
                    except urllib.error.HTTPError as error:
                        status, text = error.code, error.read()
                outer.refusals += b"compacted" in text
                if lost:
                    outer.lose = None
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class LostAnswers(WithMember, StoreCase):
    """A transaction that was done and not answered, and one that was neither."""

    def setUp(self):
        super().setUp()
        self.first, self.second = Endpoint(self.cluster), Endpoint(self.cluster)
        self.addCleanup(self.first.close)
        self.addCleanup(self.second.close)
        path = self.dir / "etcd.json"
        path.write_text(json.dumps({"endpoints": [self.first.url, self.second.url],
                                    "prefix": f"{self.id()}/"}))
        direct = self.dir / "direct.json"
        self.cluster.write_config(direct, prefix=f"{self.id()}/")
        self.serve(f"etcd:{direct}", name="direct")
        self.other = self.services
        self.serve(f"etcd:{path}")
        self.put("a", 1, b"one")

    def lose(self, swallow):
        self.first.lose, self.first.swallow = "txn", swallow

    def test_a_put_that_was_done_and_not_answered_is_acknowledged(self):
        for swallow in (False, True):
            for size in (1, 2 * 1024 * 1024):
                generation = self.get("a")[0] + 1
                self.lose(swallow)
                self.put("a", generation, b"x" * size)
                self.assertEqual(self.get("a"), (generation, b"x" * size))

    def test_a_put_that_somebody_built_upon_is_not_called_a_conflict(self):
        self.lose(swallow=False)
        self.second.before = lambda: self.put("a", 3, b"theirs", services=self.other)
        self.refused("store-unavailable", "state.put", b"ours", name="a", generation=2)
        self.assertEqual(self.get("a"), (3, b"theirs"))

    def test_a_put_that_came_too_late_is_a_conflict(self):
        self.lose(swallow=True)
        self.second.before = lambda: self.put("a", 2, b"theirs", services=self.other)
        self.refused("state-conflict", "state.put", b"ours", name="a", generation=2)
        self.assertEqual(self.get("a"), (2, b"theirs"))

    def test_a_delete_that_was_done_and_not_answered_is_acknowledged(self):
        self.lose(swallow=False)
        self.ask("state.delete", name="a", generation=1)
        self.refused("state-not-found", "state.get", name="a")

    def test_a_key_that_was_put_and_not_answered_is_acknowledged_and_anothers_is_not(self):
        self.lose(swallow=False)
        self.ask("key.put", b"ours", name="k")
        self.assertEqual(self.ask("key.get", name="k")[1], b"ours")
        self.lose(swallow=True)
        self.second.before = lambda: self.ask("key.put", b"theirs", name="l", services=self.other)
        self.refused("state-conflict", "key.put", b"ours", name="l")
        self.assertEqual(self.ask("key.get", name="l")[1], b"theirs")

    def test_a_state_that_is_compacted_while_it_is_read_is_read_anew(self):
        large = b"y" * 3 * 1024 * 1024
        self.put("a", 2, large)
        stop = threading.Event()

        def compact():
            while not stop.is_set():
                self.cluster.call("kv/put", key="noise", value="x")
                now = self.cluster.call("kv/range", key="noise")["header"]["revision"]
                with contextlib.suppress(urllib.error.HTTPError):
                    self.cluster.call("kv/compaction", revision=now)
                time.sleep(.1)
        thread = threading.Thread(target=compact)
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while self.first.refusals < 3 and time.monotonic() < deadline:
                try:
                    self.assertEqual(self.get("a"), (2, large))
                except Refused as refused:
                    self.assertEqual(refused.code, "store-unavailable")
        finally:
            stop.set()
            thread.join()
        self.assertGreaterEqual(self.first.refusals, 3, "nothing was compacted in between")
        self.assertEqual(self.get("a"), (2, large))


class Fleet(StoreCase):
    """Two parents before a cluster of three; the writers are the enclaves' side of the channel."""

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self.dir, 3)
        self.addCleanup(self.cluster.close)
        self.parents = []
        for i in range(2):
            self.serve(f"etcd:{self.cluster.config}", name=f"services{i}")
            self.parents.append(self.services)

    def write(self, i: int):
        """Put generation after generation; after an answer that says neither, look."""
        name, generation = f"agent{i}", 0
        while not self.stop_writing.is_set():
            parent = self.parents[(i + generation) % 2]
            try:
                if self.unsure.get(i):
                    found, data = self.get(name, services=parent)
                    self.assertIn(found, (generation, generation + 1))
                    self.assertEqual(data, b"%d:%d" % (i, found))
                    generation, self.unsure[i] = found, False
                    continue
                self.put(name, generation + 1, b"%d:%d" % (i, generation + 1), services=parent)
                generation += 1
            except Refused as refused:
                if refused.code == "state-not-found" and generation == 0:
                    self.unsure[i] = False
                elif refused.code == "store-unavailable":
                    self.unsure[i] = True
                else:
                    self.wrong.append(f"{name} {generation}: {refused.code}: {refused}")
                    return
            except AssertionError as wrong:
                self.wrong.append(str(wrong))
                return
            self.acknowledged[i] = generation

    def test_nothing_acknowledged_is_lost_while_members_die_and_are_cut_off(self):
        self.stop_writing, self.unsure, self.wrong = threading.Event(), {}, []
        self.acknowledged = [0] * WRITERS
        threads = [threading.Thread(target=self.write, args=(i,)) for i in range(WRITERS)]
        for thread in threads:
            thread.start()
        for pause, act in ((2, lambda: self.cluster.kill(0)), (6, lambda: self.cluster.start(0)),
                           (4, lambda: self.cluster.cut_off(1)),
                           (8, lambda: self.cluster.restore(1)), (2, self.stop_writing.set)):
            before = list(self.acknowledged)
            time.sleep(pause)
            self.assertEqual(self.wrong, [])
            act()
        for thread in threads:
            thread.join(60)
        self.assertEqual(self.wrong, [])
        self.assertNotEqual(before, self.acknowledged, "no progress at the end")
        self.cluster.wait(0)
        for i, generation in enumerate(self.acknowledged):
            found, data = self.get(f"agent{i}")
            self.assertIn(found, (generation, generation + 1) if self.unsure.get(i)
                          else (generation,))
            self.assertEqual(data, b"%d:%d" % (i, found))
            self.assertGreater(generation, 5)

    def test_a_minority_says_that_it_is_unavailable_and_recovers(self):
        self.put("a", 1, b"1")
        self.cluster.kill(0)
        self.cluster.kill(1)
        self.refused("store-unavailable", "state.put", b"2", name="a", generation=2)
        self.refused("store-unavailable", "state.get", name="a")
        self.cluster.start(0)
        self.cluster.wait(0)
        found, data = self.get("a")
        self.assertIn((found, data), ((1, b"1"), (2, b"2")))
        self.put("a", found + 1, b"3")


if __name__ == "__main__":
    if BINARY is None:
        print("etcd is not installed: skipped")
        sys.exit(77)
    unittest.main()
