"""claviger store: content goes out, comes in and moves between engines; damage is told."""
import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import threading
import time
import unittest

from etcd_cluster import BINARY, WithMember
from parts import program
from python_parent import Refused
from store_promises import MEBIBYTE, StoreCase
from claviger_stack import Stack

HEAD = b"claviger-store-export 1\n"


def read_export(data: bytes):
    """An export by its description alone: ({(kind, name): (generation, bytes)}, the end's line)."""
    stream, records = io.BytesIO(data), {}
    assert stream.readline() == HEAD
    while True:
        line = json.loads(stream.readline())
        if line["kind"] == "end":
            assert stream.read() == b""
            return records, line
        blob = stream.read(line["size"])
        assert stream.read(1) == b"\n"
        assert hashlib.sha256(blob).hexdigest() == line["sha256"]
        records[line["kind"], line["name"]] = (line.get("generation"), blob)


def record(kind, name, blob, **more):
    line = {"kind": kind, "name": name, "sha256": hashlib.sha256(blob).hexdigest(),
            "size": len(blob), **more}
    return json.dumps(line).encode() + b"\n" + blob + b"\n"


def export_of(*records):
    kinds = [json.loads(r.split(b"\n")[0])["kind"] for r in records]
    end = {"kind": "end", "keys": kinds.count("key"), "states": kinds.count("state")}
    return HEAD + b"".join(records) + json.dumps(end).encode() + b"\n"


class ToolCase(StoreCase):
    def tool(self, *arguments, status=0, **more):
        done = subprocess.run([program("claviger"), "store", *map(str, arguments)],
                              capture_output=True, timeout=240, check=False, **more)
        self.assertEqual(done.returncode, status, done.stderr + done.stdout[:2000])
        return done

    def file(self, data: bytes):
        path = self.dir / "export"
        path.write_bytes(data)
        return path

    def new_store(self, name):
        return f"sqlite:{self.dir}/{name}.db"

    def fill(self, store):
        """Through a parent, as an enclave would: what an export must then hold."""
        process = self.serve(store, name="filling")
        content = {}
        for i in range(40):
            blob = os.urandom(100 + i)
            self.put(f"agent/{i:02}", 1, blob)
            if i % 3 == 0:
                blob = os.urandom(i + 1)
                self.put(f"agent/{i:02}", 2, blob)
            content["state", f"agent/{i:02}"] = (1 + (i % 3 == 0), blob)
        blob = os.urandom(3 * MEBIBYTE + 5)
        self.put("agent/large", 1, blob)
        content["state", "agent/large"] = (1, blob)
        for name in ("agent", "other"):
            self.ask("key.put", name.encode() * 30, name=name)
            content["key", name] = (None, name.encode() * 30)
        self.stop(process)
        return content

    def content(self, store):
        return read_export(self.tool("export", store).stdout)[0]


class Tool(ToolCase):
    def test_an_export_holds_everything_and_comes_in_elsewhere(self):
        content = self.fill(self.new_store("a"))
        done = self.tool("export", self.new_store("a"), "--output", self.dir / "out")
        records, end = read_export((self.dir / "out").read_bytes())
        self.assertEqual(records, content)
        self.assertEqual((end["keys"], end["states"]), (2, 41))
        self.assertIn(b"2 keys and 41 states exported", done.stderr)
        done = self.tool("import", self.new_store("b"), "-",
                         input=(self.dir / "out").read_bytes())
        self.assertIn(b"43 copied, 0 there already", done.stdout)
        self.assertEqual(self.content(self.new_store("b")), content)
        done = self.tool("import", self.new_store("b"), self.dir / "out")
        self.assertIn(b"0 copied, 43 there already", done.stdout)

    def test_what_is_newer_in_the_store_stays(self):
        old = export_of(record("state", "k/a", b"old", generation=3),
                        record("state", "k/b", b"theirs", generation=2),
                        record("state", "k/c", b"newer", generation=9),
                        record("key", "k", b"their key"))
        self.tool("import", self.new_store("s"), "-", input=export_of(
            record("state", "k/a", b"new", generation=4),
            record("state", "k/b", b"ours", generation=2),
            record("state", "k/c", b"older", generation=7), record("key", "k", b"our key")))
        done = self.tool("import", self.new_store("s"), self.file(old), status=10)
        self.assertIn(b"1 copied, 0 there already, 1 newer in the store and kept, 2 different",
                      done.stdout)
        self.assertIn(b"state-conflict", done.stderr)
        self.assertIn(b"state k/b", done.stderr)
        self.assertEqual(self.content(self.new_store("s")), {
            ("state", "k/a"): (4, b"new"), ("state", "k/b"): (2, b"ours"),
            ("state", "k/c"): (9, b"newer"), ("key", "k"): (None, b"our key")})

    def test_an_import_that_was_stopped_goes_on(self):
        blobs = {f"k/{i:03}": os.urandom(50_000) for i in range(120)}
        whole = export_of(*(record("state", name, blob, generation=5)
                            for name, blob in blobs.items()))
        store = self.new_store("stopped")
        for part in (0.3, 0.7):
            process = subprocess.Popen([program("claviger"), "store", "import", store, "-"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            process.stdin.write(whole[:int(len(whole) * part)])
            process.stdin.flush()
            while self.imported(store) < 120 * (part - 0.1):
                time.sleep(0.02)
            process.kill()
            process.communicate()
        done = self.tool("import", store, "-", input=whole)
        self.assertRegex(done.stdout.decode(), r"0 keys and 120 states: [1-9]\d* copied, "
                                               r"[1-9]\d* there already")
        self.assertEqual(self.content(store), {("state", n): (5, b) for n, b in blobs.items()})

    def imported(self, store):
        with contextlib.suppress(sqlite3.Error), \
                contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:"))) as db:
            return db.execute("SELECT count(*) FROM state").fetchone()[0]
        return 0

    def test_an_export_that_is_cut_or_changed_is_refused_and_what_came_before_it_is_kept(self):
        whole = export_of(record("key", "k", b"key"), record("state", "k/a", b"A" * 5000,
                                                             generation=1))
        end = whole[whole.rindex(b"\n", 0, -1) + 1:]
        cases = [b"", HEAD[:-1], HEAD.replace(b"1", b"2") + end, whole + b"x",
                 whole.replace(b"AAAA", b"AABA", 1), whole.replace(b'"generation": 1', b'"generation": 0'),
                 whole.replace(b'"size": 5000', b'"size": 4999'), whole.replace(b'"states": 1', b'"states": 2'),
                 whole.replace(b'"size": 5000', b'"size": 99999999999'),
                 whole.replace(b'"name": "k/a"', b'"name": ""'),
                 whole.replace(b'"kind": "state"', b'"kind": "stale"'), HEAD + b"x" * 5000]
        cases += [whole[:at] for at in range(1, len(whole), 97)]
        for i, data in enumerate(cases):
            with self.subTest(i=i, data=data[:200]):
                store = self.new_store(f"cut{i}")
                done = self.tool("import", store, "-", input=data, status=3)
                self.assertIn(b"export-format", done.stderr)
                self.assertLessEqual(set(self.content(store)), {("key", "k"), ("state", "k/a")})

    def test_a_store_that_is_not_there_is_not_made(self):
        for verb in (["export"], ["check"], ["migrate"]):
            to = [self.new_store("to")] if verb == ["migrate"] else []
            done = self.tool(*verb, self.new_store("none"), *to, status=10)
            self.assertIn(b"store-failed", done.stderr)
        self.assertEqual(list(self.dir.glob("none*")), [])
        (self.dir / "empty.db").touch()
        self.tool("check", self.new_store("empty"), status=10)
        self.assertEqual((self.dir / "empty.db").stat().st_size, 0)

    def test_a_wrong_command_line_is_told(self):
        for arguments in (["export"], ["lose", "x"], ["import", "sqlite:x"], ["check", "x:y"],
                          ["check", "sqlite:a", "sqlite:b"], ["check", "sqlite:"]):
            self.assertIn(b"(usage)", self.tool(*arguments, status=2).stderr)

    def test_an_export_that_cannot_be_written_leaves_no_file(self):
        self.fill(self.new_store("a"))
        with open("/dev/full", "wb") as full:
            done = subprocess.run([program("claviger"), "store", "export", self.new_store("a")],
                                  stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)
        self.tool("export", self.new_store("a"), "--output", self.dir / "no" / "file", status=1)

    def test_an_export_of_a_store_in_use_holds_acknowledged_states(self):
        process = self.serve(self.new_store("busy"), name="busy")
        stop = threading.Event()

        def write(name):
            generation = 0
            while not stop.is_set():
                generation += 1
                self.put(name, generation, b"%s:%d" % (name.encode(), generation))
        writers = [threading.Thread(target=write, args=(f"k/{i}",)) for i in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(0.3)
        for _ in range(5):
            for (kind, name), (generation, blob) in self.content(self.new_store("busy")).items():
                self.assertEqual(blob, b"%s:%d" % (name.encode(), generation))
        stop.set()
        for writer in writers:
            writer.join()
        self.stop(process)


class Check(ToolCase):
    """The states are an enclave's own."""

    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        try:
            cls.stack.prepare()
            policy = cls.stack.default_policy()
            policy["agents"][0]["may"].append("derive:agent-state")
            cls.stack.write_policy(policy)
            cls.stack.start_nsm()
            cls.stack.start_parent()
            cls.stack.start_enclave()
            for name, size in (("a", 10), ("b", 10), ("c", 4096 * 3), ("empty", 0), ("big", 100_000)):
                for _ in range(2):
                    assert cls.stack.api("PUT", f"/v1/state/{name}", b"x" * size)[0] < 300
            body = json.dumps({"path": "p", "purpose": "t", "algorithm": "ed25519"}).encode()
            assert cls.stack.api("POST", "/v1/keys/derive", body,
                                 {"Content-Type": "application/json"})[0] == 200
            cls.stack.running["clavigerd"].stop()
            cls.stack.running["claviger-parent"].stop()
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def copy(self, *statements):
        """The store, changed by SQL."""
        path = self.dir / "copy.db"
        shutil.copy(self.stack.dir / "store.db", path)
        with contextlib.closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()
        return f"sqlite:{path}"

    def test_a_whole_store_has_no_faults(self):
        self.assertEqual(self.tool("check", self.copy()).stdout,
                         b"1 keys and 5 states: 0 faults\n")

    def test_what_the_daemons_keep_for_themselves_is_no_sealed_message(self):
        store = self.copy("INSERT INTO state VALUES ('/claviger/witness-certificate', 1, "
                          "CAST('-----BEGIN' AS BLOB))")
        self.assertIn(b"6 states: 0 faults", self.tool("check", store).stdout)

    def test_each_fault_is_told_by_its_name(self):
        blob = "(SELECT blob FROM state WHERE name = 'agent-state/%s')"
        for change, code, words in (
                (f"UPDATE state SET blob = {blob % 'b'} WHERE name = 'agent-state/a'",
                 "seal-context", "agent-state/a"),
                ("UPDATE state SET generation = 7 WHERE name = 'agent-state/a'", "seal-context",
                 "claviger:generation"),
                ("UPDATE state SET blob = substr(blob, 1, length(blob) - 1) "
                 "WHERE name = 'agent-state/c'", "truncated", "agent-state/c"),
                ("UPDATE state SET blob = substr(blob, 1, 40) WHERE name = 'agent-state/c'",
                 "truncated", "agent-state/c"),
                ("UPDATE state SET blob = CAST(blob || x'00' AS BLOB) WHERE name = 'agent-state/a'",
                 "seal-trailing", "agent-state/a"),
                ("UPDATE state SET blob = x'00' WHERE name = 'agent-state/a'", "seal-version",
                 "agent-state/a"),
                ("UPDATE state SET name = 'agent-state//a' WHERE name = 'agent-state/a'",
                 "state-name", "agent-state//a"),
                ("UPDATE key SET blob = zeroblob(7000)", "seal-data-keys", "agent-state")):
            with self.subTest(change=change):
                done = self.tool("check", self.copy(change), status=10)
                self.assertIn(f"({code})", done.stdout.decode())
                self.assertIn(words, done.stdout.decode())
                self.assertIn(b": 1 faults\n", done.stdout)
                self.assertIn(b"store-damaged", done.stderr)

    def test_what_a_store_holds_does_not_steer_the_terminal(self):
        store = self.copy("UPDATE state SET name = 'agent-state/' || char(27) || '[2J' "
                          "WHERE name = 'agent-state/a'")
        done = self.tool("check", store, status=10)
        self.assertIn(b"state agent-state/ [2J: ", done.stdout)
        self.assertNotIn(b"\033", done.stdout + done.stderr)

    def test_a_damaged_file_is_told(self):
        store = self.copy()
        path = pathlib.Path(store.removeprefix("sqlite:"))
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
            root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'state'").fetchone()
        data = bytearray(path.read_bytes())
        data[(root[0] - 1) * 4096:(root[0] - 1) * 4096 + 32] = bytes(32)
        path.write_bytes(data)
        self.assertIn(b"damaged", self.tool("check", store, status=10).stdout)


@unittest.skipIf(BINARY is None, "etcd is not installed")
class Engines(WithMember, ToolCase):
    def etcd(self, prefix):
        path = self.dir / f"{prefix}.json"
        self.cluster.write_config(path, prefix=f"{prefix}/")
        return f"etcd:{path}"

    def test_content_moves_between_the_engines_and_back(self):
        content = self.fill(self.new_store("a"))
        done = self.tool("migrate", self.new_store("a"), self.etcd("moved"))
        self.assertIn(b"43 copied", done.stdout)
        self.assertEqual(self.content(self.etcd("moved")), content)
        self.tool("migrate", self.etcd("moved"), self.new_store("back"))
        self.assertEqual(self.content(self.new_store("back")), content)
        done = self.tool("migrate", self.new_store("back"), self.etcd("moved"))
        self.assertIn(b"0 copied, 43 there already", done.stdout)

    def test_another_writer_during_a_migration_is_never_overwritten(self):
        self.fill(self.new_store("a"))
        process = self.serve(self.etcd("live"), name="live")
        stop, written = threading.Event(), {}

        def write(name):
            generation = 0
            while not stop.is_set():
                with contextlib.suppress(Refused):
                    self.put(name, generation + 1, b"live %d" % (generation + 1))
                    written[name] = generation + 1
                generation = self.get(name)[0]
        writers = [threading.Thread(target=write, args=(f"agent/{i:02}",)) for i in range(4)]
        for writer in writers:
            writer.start()
        done = subprocess.run([program("claviger"), "store", "migrate", self.new_store("a"),
                               self.etcd("live")], capture_output=True, timeout=120, check=False)
        self.assertIn(done.returncode, (0, 10), done.stderr)
        time.sleep(0.3)
        stop.set()
        for writer in writers:
            writer.join()
        for name, generation in written.items():
            self.assertEqual(self.get(name), (generation, b"live %d" % generation))
        self.stop(process)

    def test_a_cluster_out_of_reach_is_told_as_such(self):
        self.fill(self.new_store("a"))
        path = self.dir / "gone.json"
        path.write_text('{"endpoints": ["http://127.0.0.1:9"]}')
        done = self.tool("migrate", self.new_store("a"), f"etcd:{path}", status=9)
        self.assertIn(b"store-unavailable", done.stderr)
        self.assertIn(b"store-unavailable", self.tool("check", f"etcd:{path}", status=9).stderr)

    def test_chunks_that_are_missing_or_nobodys_are_told(self):
        store = self.etcd("holes")
        process = self.serve(store, name="holes")
        self.put("k/large", 1, os.urandom(3 * MEBIBYTE))
        self.stop(process)
        chunks = sorted(key for key in self.cluster.keys("holes/chunk/"))
        self.assertEqual(len(chunks), 3)
        self.cluster.call("kv/put", key="holes/chunk/0123456789abcdef/0000", value="stray")
        done = self.tool("check", store, status=10)
        self.assertIn(b"chunk 0123456789abcdef/0000 belongs to no state", done.stdout)
        self.cluster.call("kv/deleterange", key=chunks[1])
        done = self.tool("check", store, status=10)
        self.assertIn(b"state k/large: 1 chunks too few", done.stdout)
        self.assertIn(b"store-failed", done.stdout)
        self.cluster.call("kv/put", key="holes/state/k/large", value="{}")
        self.assertIn(b"is damaged", self.tool("check", store, status=10).stdout)
        self.tool("export", store, status=10)


if __name__ == "__main__":
    unittest.main()
