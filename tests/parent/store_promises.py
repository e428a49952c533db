"""One set of promises, kept by each engine of the store."""
import concurrent.futures
import os
import threading
import time

from parts import ParentCase
from python_parent import Refused, call

MEBIBYTE = 1 << 20


class StoreCase(ParentCase):
    def serve(self, store, name="services"):
        self.services = str(self.dir / f"{name}.sock")
        return self.spawn("serve", "--services", f"unix:{self.services}", "--relay",
                          f"unix:{self.dir}/{name}-relay.sock=127.0.0.1:9", "--store", store,
                          "--credentials", "env")

    def ask(self, op, data=b"", services=None, **members):
        return call(services or self.services, {"op": op, **members}, data)

    def put(self, name, generation, data, **more):
        return self.ask("state.put", data, name=name, generation=generation, **more)[0]

    def get(self, name, **more):
        result, data = self.ask("state.get", name=name, **more)
        return result["generation"], data

    def refused(self, code, *arguments, **members):
        with self.assertRaises(Refused) as caught:
            self.ask(*arguments, **members)
        self.assertEqual(caught.exception.code, code, str(caught.exception))


class Promises:
    """The cases; a subclass has self.store, the address of a store that is empty at each test."""

    def setUp(self):
        super().setUp()
        self.process = self.serve(self.store)
        for state in self.ask("state.list", prefix="")[0]["states"]:
            self.ask("state.delete", name=state["name"], generation=state["generation"])

    def test_what_was_put_is_what_is_got(self):
        for size in (1, 1000, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 5 * MEBIBYTE + 7):
            with self.subTest(size=size):
                data = os.urandom(size)
                self.put(f"n{size}", 1, data)
                self.assertEqual(self.get(f"n{size}"), (1, data))

    def test_a_put_needs_the_generation_before_it(self):
        self.refused("state-conflict", "state.put", b"2", name="a", generation=2)
        self.put("a", 1, b"1")
        for generation in (1, 3, 2**62):
            self.refused("state-conflict", "state.put", b"x", name="a", generation=generation)
        self.assertEqual(self.get("a"), (1, b"1"))
        self.assertEqual(self.put("a", 2, b"2" * 2 * MEBIBYTE), {"generation": 2})
        self.assertEqual(self.put("a", 3, b"3"), {"generation": 3})
        self.assertEqual(self.get("a"), (3, b"3"))

    def test_a_delete_needs_the_generation_that_is_there(self):
        self.put("a", 1, b"1" * 2 * MEBIBYTE)
        self.refused("state-conflict", "state.delete", name="a", generation=2)
        self.refused("state-not-found", "state.delete", name="b", generation=1)
        self.assertEqual(self.get("a")[0], 1)
        self.ask("state.delete", name="a", generation=1)
        self.refused("state-not-found", "state.get", name="a")
        self.put("a", 1, b"again")
        self.assertEqual(self.get("a"), (1, b"again"))

    def test_names_are_told_apart_byte_by_byte(self):
        names = ["k", "k/", "k/a", "k/a/b", "k%", "K", "ключ", "k\u0001", "k" * 200]
        for name in names:
            self.put(name, 1, name.encode())
        for name in names:
            self.assertEqual(self.get(name), (1, name.encode()))

    def test_a_list_holds_the_names_with_the_prefix_in_order(self):
        for i in range(30):
            self.put(f"k/{i:02}", 1, b"x" * (i + 1))
        self.put("l", 1, b"x")
        self.put("k", 1, b"x")
        states = self.ask("state.list", prefix="k/")[0]["states"]
        self.assertEqual(states, [{"name": f"k/{i:02}", "generation": 1, "size": i + 1}
                                  for i in range(30)])
        self.assertEqual(len(self.ask("state.list", prefix="")[0]["states"]), 32)

    def test_a_key_is_never_overwritten(self):
        name = f"key-{time.monotonic_ns()}"
        self.refused("state-not-found", "key.get", name=name)
        self.ask("key.put", b"first", name=name)
        self.refused("state-conflict", "key.put", b"second", name=name)
        self.refused("state-conflict", "key.put", b"first", name=name)
        self.assertEqual(self.ask("key.get", name=name)[1], b"first")

    def test_of_many_writers_of_one_generation_exactly_one_wins(self):
        def attempt(i):
            try:
                self.put("contended", generation, b"%d" % i * (1 + i % 2 * MEBIBYTE))
                return i
            except Refused as refused:
                self.assertEqual(refused.code, "state-conflict")
                return None
        for generation in (1, 2, 3):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                won = [i for i in pool.map(attempt, range(8)) if i is not None]
            self.assertEqual(len(won), 1)
            found, data = self.get("contended")
            self.assertEqual((found, data[:1]), (generation, b"%d" % won[0]))

    def test_a_reader_sees_whole_states_while_they_change(self):
        stop, seen = threading.Event(), []
        self.put("a", 1, b"1" * 2 * MEBIBYTE)

        def read():
            while not stop.is_set():
                generation, data = self.get("a")
                seen.append((generation, len(data), set(data)))
        reader = threading.Thread(target=read)
        reader.start()
        for generation in range(2, 10):
            self.put("a", generation, b"%d" % generation * (1 + generation % 2 * 2) * MEBIBYTE)
        stop.set()
        reader.join()
        for generation, size, content in seen:
            self.assertEqual(content, {ord(b"%d" % generation)})
            if generation > 1:
                self.assertEqual(size, (1 + generation % 2 * 2) * MEBIBYTE)

    def test_what_was_acknowledged_outlives_kill_9(self):
        acknowledged = {}

        def write(name):
            for generation in range(1, 10000):
                try:
                    self.put(name, generation, b"%d" % generation * 3000)
                except (OSError, EOFError, ValueError, Refused):
                    return
                acknowledged[name] = generation
        threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        self.process.kill()
        self.process.wait()
        for thread in threads:
            thread.join()
        self.process = self.serve(self.store)
        self.assertEqual(len(acknowledged), 4)
        for name, generation in acknowledged.items():
            found, data = self.get(name)
            self.assertIn(found, (generation, generation + 1))
            self.assertEqual(data, b"%d" % found * 3000)
