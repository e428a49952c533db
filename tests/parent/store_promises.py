"""One set of promises, kept by each engine of the store."""
import concurrent.futures
import json
import os
import threading
import time

from parts import ParentCase
from python_parent import Refused, call

MEBIBYTE = 1 << 20
WAITING_MAX = 64  # store.h


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

    def list(self, prefix):
        """All pages."""
        states, more = [], True
        while more:
            after = {"after": states[-1]["name"]} if states else {}
            page = self.ask("state.list", prefix=prefix, **after)[0]
            states += page["states"]
            more = page["more"]
        return states

    def watch(self, name, generation, wait_ms, **more):
        return self.ask("state.watch", name=name, generation=generation, wait_ms=wait_ms,
                        **more)[0]["generation"]

    def refused(self, code, *arguments, **members):
        with self.assertRaises(Refused) as caught:
            self.ask(*arguments, **members)
        self.assertEqual(caught.exception.code, code, str(caught.exception))


class Promises:
    """The cases; a subclass has self.store, the address of a store that is empty at each test."""

    def setUp(self):
        super().setUp()
        self.process = self.serve(self.store)
        for state in self.list(""):
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

    def test_a_list_of_any_length_comes_in_pages(self):
        names = sorted([f"many/{i:04}" for i in range(700)] +
                       [f"many/\u0001{i}" + "\u0002" * 200 for i in range(60)])
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self.put(name, 1, b"x"), names))
        first = self.ask("state.list", prefix="many/")[0]
        self.assertTrue(first["more"])
        self.assertLess(len(json.dumps(first)), 65536)
        self.assertEqual([state["name"] for state in self.list("many/")], names)
        self.assertEqual(self.ask("state.list", prefix="many/", after=names[-1])[0],
                         {"states": [], "more": False})
        self.assertEqual(self.ask("state.list", prefix="many/", after="a")[0], first)

    def test_a_waiting_call_is_told_of_each_change(self):
        def later(seconds, change, *arguments, **members):
            timer = threading.Timer(seconds, change, arguments, members)
            timer.start()
            return timer
        self.assertEqual(self.watch("w", 0, 0), 0)
        self.assertEqual(self.watch("w", 7, 5000), 0, "it is another one already")
        timers = [later(0.3, self.put, "w", 1, b"1"), later(4.5, self.put, "w", 2, b"2")]
        self.assertEqual(self.watch("w", 0, 5000), 1, "at once, not when the time is over")
        for timer in timers:
            timer.join()
        timer = later(0.3, self.put, "w", 3, b"3" * 2 * MEBIBYTE)
        self.assertEqual(self.watch("w", 2, 5000), 3)
        timer.join()
        timer = later(0.3, self.ask, "state.delete", name="w", generation=3)
        self.assertEqual(self.watch("w", 3, 5000), 0)
        timer.join()

    def test_a_waiting_call_ends_with_its_time_and_not_for_other_names(self):
        self.put("w", 1, b"1")
        timer = threading.Timer(0.2, self.put, ("w2", 1, b"other"))
        timer.start()
        begun = time.monotonic()
        self.assertEqual(self.watch("w", 1, 1000), 1)
        self.assertGreaterEqual(time.monotonic() - begun, 0.9, "it came back before its time")
        timer.join()
        self.refused("json-value", "state.watch", name="w", generation=1, wait_ms=5001)
        self.refused("json-value", "state.watch", name="w", generation=-1, wait_ms=0)

    def test_a_change_through_another_parent_is_seen(self):
        first = self.services
        self.serve(self.store, name="second")
        timer = threading.Timer(0.3, self.put, ("w", 1, b"1"))
        timer.start()
        self.assertEqual(self.watch("w", 0, 5000, services=first), 1)
        timer.join()
        self.services = first

    def test_those_that_wait_are_bounded_and_starve_nobody(self):
        def wait(i):
            try:
                return self.watch(f"none{i}", 0, 2000)
            except Refused as refused:
                return refused.code
        with concurrent.futures.ThreadPoolExecutor(WAITING_MAX + 8) as pool:
            waiting = [pool.submit(wait, i) for i in range(WAITING_MAX + 8)]
            self.put("meanwhile", 1, b"1")
            self.assertEqual(self.get("meanwhile"), (1, b"1"))
            answers = [future.result() for future in waiting]
        self.assertEqual((answers.count(0), answers.count("store-busy")), (WAITING_MAX, 8))

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
