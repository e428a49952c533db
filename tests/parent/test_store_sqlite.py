"""The store's promises, kept by SQLite, and what a file adds: other processes, damage."""
import contextlib
import sqlite3
import unittest

from store_promises import Promises, StoreCase


class Sqlite(Promises, StoreCase):
    @property
    def store(self):
        return f"sqlite:{self.dir}/store.db"

    def test_a_file_that_another_process_holds_is_unavailable_and_then_is_not(self):
        self.put("a", 1, b"1")
        with contextlib.closing(sqlite3.connect(self.dir / "store.db",
                                                isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            self.refused("store-unavailable", "state.put", b"2", name="a", generation=2)
            self.assertEqual(self.get("a"), (1, b"1"), "reading does not wait for a writer")
            other.execute("ROLLBACK")
        self.put("a", 2, b"2")

    def damaged(self, change):
        """The bytes of a store of sixty states, after the change; its parent is stopped."""
        for i in range(60):
            self.put(f"n{i:02}", 1, b"%02d" % i * 4000)
        self.assertEqual(self.stop(self.process), 0)
        path = self.dir / "store.db"
        with contextlib.closing(sqlite3.connect(path)) as db:
            root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'state'").fetchone()
        whole = path.read_bytes()
        path.write_bytes(change(whole, (root[0] - 1) * 4096))
        return path, whole

    def test_a_damaged_table_is_refused_and_stays_as_it_is(self):
        path, whole = self.damaged(lambda b, root: b[:root] + bytes(64) + b[root + 64:])
        process = self.serve(self.store, name="damaged")
        for i in range(60):
            self.refused("store-failed", "state.get", name=f"n{i:02}")
        self.refused("store-failed", "state.put", b"x", name="n00", generation=2)
        self.refused("json-missing", "state.get")
        self.stop(process)
        path.write_bytes(whole)
        self.process = self.serve(self.store)
        for i in range(60):
            self.assertEqual(self.get(f"n{i:02}"), (1, b"%02d" % i * 4000))

    def refuses_to_open(self, change):
        path, _ = self.damaged(change)
        before = path.read_bytes()
        process = self.spawn("serve", "--services", f"unix:{self.dir}/s", "--relay",
                             f"unix:{self.dir}/r=h:1", "--store", self.store, "--credentials",
                             "env", ready=False)
        self.assertEqual(process.wait(20), 10)
        self.assertIn("store-failed", self.log.read_text())
        self.assertEqual(path.read_bytes(), before)

    def test_a_file_that_was_cut_is_not_opened(self):
        self.refuses_to_open(lambda b, root: b[:len(b) // 2])

    def test_a_file_with_a_damaged_head_is_not_opened(self):
        self.refuses_to_open(lambda b, root: b[:16] + bytes(84) + b[100:])


if __name__ == "__main__":
    unittest.main()
