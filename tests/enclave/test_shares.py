"""One agent cannot starve another: memory, work and connections are shared out by agent (R21, R22)."""
import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import unittest

from common import NOBODY, Case, as_uid, policy_of  # also finds tests/lib
from claviger_stack import program
from test_hostile import LyingStack

MIB = 1 << 20
SHARE = 128
WORKING = 16  # CLV_AGENT_WORK_MAX
SANITIZED = b"__asan_init" in pathlib.Path(program("clavigerd")).read_bytes()


@unittest.skipUnless(os.getuid() == 0, "needs root to be several agents")
class Shares(Case):
    stack_type = LyingStack

    @classmethod
    def policy(cls, stack):
        stack.enclave_arguments = ["--agent-memory", str(SHARE), "--agent-rate", "0"]
        policy = policy_of(stack)
        policy["agents"].append({"uid": NOBODY, "may": ["seal:agent-state", "delete:agent-state"]})
        return policy

    def peak_memory(self):
        """What the daemon had at most since it was last asked, in MiB."""
        process = pathlib.Path(f"/proc/{self.stack.running['clavigerd'].process.pid}")
        lines = (process / "status").read_text().splitlines()
        (process / "clear_refs").write_text("5")
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def at_once(self, count, call):
        """The answers of so many calls that are made at the same time."""
        answers, threads = [], []
        for _ in range(count):
            threads.append(threading.Thread(target=lambda: answers.append(call())))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return answers

    @unittest.skipIf(SANITIZED, "an instrumented build keeps freed memory")
    def test_many_large_states_at_once_take_the_agents_share_and_no_more(self):
        state = os.urandom(MIB) * 30
        self.assertEqual(self.api("PUT", "/v1/state/large", state)[0], 201)
        self.peak_memory()
        before = self.peak_memory()
        answers = self.at_once(24, lambda: self.api("GET", "/v1/state/large"))
        self.assertEqual([(a[0], a[2] == state) for a in answers], [(200, True)] * 24)
        # Beside the share: what each connection and OpenSSL take, and a parent's answer under way.
        self.assertLess(self.peak_memory() - before, SHARE + 64)

    def test_bodies_beyond_the_share_are_refused_and_room_comes_back(self):
        def half_a_body():
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(30)
            s.connect(str(self.stack.dir / "agent.sock"))
            s.sendall(b"PUT /v1/state/half HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                      % (30 * MIB))
            s.sendall(bytes(29 * MIB))
            return s
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(half_a_body())
            self.wait_until(lambda: self.api("PUT", "/v1/state/b", bytes(20 * MIB))[0] == 429)
            self.refused(self.api("PUT", "/v1/state/b", bytes(20 * MIB)), 429, "agent-busy")
            self.assertEqual(as_uid(NOBODY, lambda: self.api(
                "PUT", "/v1/state/c", bytes(20 * MIB))[0]), 201)
        self.wait_until(lambda: self.api("PUT", "/v1/state/b", bytes(20 * MIB))[0] in (200, 201))

    def wait_until(self, holds):
        for _ in range(200):
            if holds():
                return
            threading.Event().wait(0.1)
        self.fail("it did not come")

    def test_an_agents_requests_are_worked_on_a_few_at_a_time_and_another_need_not_wait(self):
        lock, under_way, most, begun = threading.Lock(), [0], [0], threading.Event()

        def slow(call, data):
            if call["name"].startswith("agent-state/flood"):
                with lock:
                    under_way[0] += 1
                    most[0] = max(most[0], under_way[0])
                begun.set()
                time.sleep(2)
                with lock:
                    under_way[0] -= 1
            return self.stack.parent.honest(call, data)
        self.assertEqual(as_uid(NOBODY, lambda: self.api("PUT", "/v1/state/mine", b"x")[0]), 201)
        self.stack.parent.lies = {"state.delete": slow}
        flood = []
        making = threading.Thread(target=lambda: flood.extend(self.at_once(40, lambda: self.api(
            "DELETE", "/v1/state/flood", None, {"If-Match": '"1"'})[0])))
        making.start()
        begun.wait()
        self.assertEqual(as_uid(NOBODY, lambda: self.api(
            "DELETE", "/v1/state/mine", None, {"If-Match": '"1"'})[0]), 204)
        making.join()
        self.stack.parent.lies = {}
        self.assertEqual(flood, [412] * 40)
        self.assertLessEqual(most[0], WORKING)

    def test_reading_small_states_waits_for_kms_together(self):
        """What a state takes is known before KMS is asked, and no more is kept from the others."""
        self.assertEqual(self.api("PUT", "/v1/state/small", b"x")[0], 201)
        parent, held = self.stack.parent, []
        honest = parent.kms
        listener = socket.create_server(("127.0.0.1", 0))

        def swallow():
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])
        threading.Thread(target=swallow, daemon=True).start()
        answers = []
        reading = threading.Thread(target=lambda: answers.extend(
            self.at_once(8, lambda: self.api("GET", "/v1/state/small")[2])))
        try:
            parent.relay_to(("127.0.0.1", listener.getsockname()[1]))
            reading.start()
            self.wait_until(lambda: len(held) >= 8)
        finally:
            parent.relay_to(honest)
            listener.close()
            for connection in held:
                connection.close()
        reading.join()
        self.assertEqual(answers, [b"x"] * 8)

    def test_agents_that_take_every_connection_they_can_leave_room_for_another(self):
        path = str(self.stack.dir / "agent.sock")

        def open_connection():
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(path)
            try:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                if s.recv(64).startswith(b"HTTP/1.1 200"):
                    return s
            except OSError:
                pass
            s.close()
            return None

        def greedy(tell, hold):
            os.setresuid(6000, 6000, 6000)
            kept = []
            while (one := open_connection()) is not None:
                kept.append(one)
            os.write(tell, json.dumps(len(kept)).encode())
            os.read(hold, 1)
            os._exit(0)

        with contextlib.ExitStack() as stack:
            kept = []
            while (one := open_connection()) is not None:
                kept.append(stack.enter_context(one))
            told, tell = os.pipe()
            hold, release = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.close(release)
                    greedy(tell, hold)
                finally:
                    os._exit(0)
            second = json.loads(os.read(told, 16))
            self.assertEqual(as_uid(NOBODY, lambda: self.api("GET", "/healthz")[0]), 200)
            os.close(release)
            os.waitpid(child, 0)
            for end in (told, tell, hold):
                os.close(end)
            self.assertGreater(len(kept), 400)
            self.assertGreater(second, 100)
        self.wait_until(lambda: self.answers())

    def answers(self):
        with contextlib.suppress(OSError):
            return self.api("GET", "/healthz")[0] == 200
        return False


if __name__ == "__main__":
    unittest.main()
