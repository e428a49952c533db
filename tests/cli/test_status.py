"""claviger status: one look, JSON, and the live screen on a terminal."""
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack, program  # noqa: E402


class Status(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.addClassCleanup(cls.stack.close)
        cls.stack.parent_arguments = ["--metrics", cls.stack.address("metrics")]
        cls.stack.start()
        assert cls.stack.api("PUT", "/v1/state/a", b"x")[0] == 201

    def status(self, *arguments, check=True):
        return self.stack.run("claviger", "status", *arguments, check=check)

    def everywhere(self) -> list[str]:
        return ["--agent", self.stack.address("agent"), "--control", self.stack.address("control"),
                "--parent", self.stack.address("metrics")]

    def test_one_look_is_readable(self):
        text = self.status(*self.everywhere()).stdout
        self.assertNotIn("\033", text, "no control sequence where there is no terminal")
        for line in (r"^clavigerd  \S+, up \d+ s$", r"^  ready +yes$",
                     r"^  identity +agent-runtime, module \S+$",
                     r"^  +PCR0 [0-9a-f]{16}…, policy [0-9a-f]{16}…$",
                     r'^  baseline +match by baseline, release "1\.0\.0", checked \d+ s ago$',
                     r"^  credentials +valid; fetched \d+ times, failed 0$",
                     r"^  KMS +circuit closed, calls \d+, failed 0$",
                     r"^  store +newest generation 1, stored 1, conflicts 0, calls \d+, failed 0$",
                     r"^  requests +answered \d+, 4xx 0, 5xx 0, denied 0, open \d+$",
                     r"^claviger-parent  \S+, up \d+ s$", r"^  credentials +file, valid$",
                     r"^  relay +unix:\S+relay\.sock to 127\.0\.0\.1:\d+$",
                     r"^  connections +open \d+, accepted \d+, broken 0, idle 0$"):
            self.assertRegex(text, re.compile(line, re.M))

    def test_json_has_what_each_said(self):
        found = json.loads(self.status(*self.everywhere(), "--json").stdout)
        self.assertEqual(set(found), {"agent", "control", "parent"})
        for source in ("agent", "control"):
            self.assertTrue(found[source]["ready"])
            self.assertEqual(found[source]["identity"]["pcrs"]["0"], self.stack.pcrs["0"])
            self.assertEqual(found[source]["store"]["generation"], 1)
        self.assertEqual(found["parent"]["store"]["generation"], 1)
        self.assertEqual(found["parent"]["program"], "claviger-parent")

    def test_a_source_that_does_not_answer_is_told_and_the_others_shown(self):
        nobody = self.stack.address("nobody")
        done = self.status("--agent", self.stack.address("agent"), "--parent", nobody, check=False)
        self.assertEqual(done.returncode, 9)
        self.assertIn("ready        yes", done.stdout)
        self.assertIn("parent  no answer: ", done.stdout)
        found = json.loads(self.status("--parent", nobody, "--json", check=False).stdout)
        self.assertEqual(found, {"parent": {"code": "unreachable"}})

    def test_the_words_of_a_refusal_do_not_steer_the_terminal(self):
        body = json.dumps({"code": "internal", "detail": "no\033[2J"}).encode()
        path = self.stack.dir / "refusing.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def refuse():
                client = listener.accept()[0]
                with client:
                    client.recv(65536)
                    client.sendall(b"HTTP/1.1 500 No\r\nContent-Type: application/problem+json\r\n"
                                   b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            thread = threading.Thread(target=refuse)
            thread.start()
            done = self.status("--parent", f"unix:{path}", check=False)
            thread.join(20)
        self.assertIn("parent  no answer: no [2J\n", done.stdout)
        self.assertNotIn("\033", done.stdout + done.stderr)

    def test_json_lines_follow_at_the_interval(self):
        process = subprocess.Popen(
            [program("claviger"), "status", *self.everywhere(), "--json", "--interval", "1"],
            stdout=subprocess.PIPE, text=True)
        try:
            looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.close()
            self.assertEqual(process.wait(20), 0)
        up = [look["agent"]["uptime_s"] for look in looks]
        self.assertEqual(up, sorted(up))
        self.assertGreater(up[2], up[0])

    def test_a_terminal_is_redrawn_with_rates_until_it_is_interrupted(self):
        child, terminal = pty.fork()
        if child == 0:
            os.execv(program("claviger"), ["claviger", "status", *self.everywhere()])
        screen = b""
        deadline = time.monotonic() + 30
        try:
            while screen.count(b"\033[H\033[J") < 3 and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.1)[0]:
                    screen += os.read(terminal, 65536)
                self.stack.api("GET", "/healthz")
            os.write(terminal, b"\x03")
            status = None
            while status is None and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.1)[0]:
                    try:
                        screen += os.read(terminal, 65536)
                    except OSError:  # the other side of the terminal is closed
                        pass
                pid, code = os.waitpid(child, os.WNOHANG)
                status = os.waitstatus_to_exitcode(code) if pid else None
        finally:
            os.close(terminal)
        self.assertEqual(status, 0, screen[-500:])
        text = screen.decode()
        self.assertGreaterEqual(text.count("\033[H\033[J"), 3, "drawn over itself")
        self.assertIn("\033[32mmatch\033[0m", text)
        self.assertRegex(text, r"answered \d+ \([1-9]\d*\.\d/s\)")
        self.assertTrue(text.startswith("\033[?25l"), "the cursor is hidden")
        self.assertIn("\033[?25h", text[-20:], "and shown again")

    def test_a_program_that_lies_cannot_steer_the_terminal(self):
        path = self.stack.dir / "liar.sock"
        server = socket.socket(socket.AF_UNIX)
        self.addCleanup(server.close)
        server.bind(str(path))
        server.listen()
        body = json.dumps({"program": "claviger-parent\033]0;owned\007", "version": "\n\033[2J\u009b2J",
                           "relay": {"rules": [{"address": "\033c"}, 7]}}).encode()

        def lie():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                                   % (len(body), body))
        threading.Thread(target=lie, daemon=True).start()
        text = self.status("--parent", f"unix:{path}").stdout
        self.assertFalse(set(text) & set("\033\007\u009b"), text)

    def test_a_wrong_command_line_is_refused(self):
        for arguments in (["--interval", "0"], ["--interval", "x"], ["--once", "--interval", "2"],
                          ["operand"], ["--colour"]):
            with self.subTest(arguments):
                self.assertEqual(self.status(*arguments, check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main()
