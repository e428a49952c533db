"""Agents told apart by the file that they run, measured anew for each request (R22)."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

from common import Case, policy_of  # also finds tests/lib
from claviger_stack import program

AGENT_UID, DAEMON_UID = 4001, 4002
FILTERED = b"__asan_init" not in pathlib.Path(program("clavigerd")).read_bytes()
CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH = 1 << 19, 1 << 2

# An agent: asks on one connection, and may become another program, or hand the connection to a
# child and end, between its two requests. It prints each status and what was said.
SCRIPT = """
import os, socket, sys
mode, path, other = sys.argv[1:4]
def ask(s):
    s.sendall(b"GET /v1/state/a HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += s.recv(65536)
    head, _, body = answer.partition(b"\\r\\n\\r\\n")
    size = int(head.lower().split(b"content-length: ")[1].split()[0])
    while len(body) < size:
        body += s.recv(65536)
    print(head.split()[1].decode(), body.decode(), flush=True)
if mode == "again":
    s = socket.socket(fileno=int(path))
else:
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
ask(s)
if mode == "exec":
    s.set_inheritable(True)
    os.execv(other, [other, __file__, "again", str(s.detach()), ""])
if mode == "orphan":
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            pass
        ask(s)
"""


@unittest.skipUnless(os.getuid() == 0, "needs root to be another agent")
class Executable(Case):
    @classmethod
    def policy(cls, stack):
        shutil.chown(stack.dir, DAEMON_UID)
        cls.good, cls.bad = stack.dir / "good", stack.dir / "bad"
        python = pathlib.Path(sys.executable).resolve().read_bytes()
        cls.good.write_bytes(python)
        cls.bad.write_bytes(python + b"\n")
        cls.good.chmod(0o711)  # may be executed, not read: measuring it needs the capability
        cls.bad.chmod(0o711)
        cls.script = stack.dir / "agent.py"
        cls.script.write_text(SCRIPT)
        cls.sha256 = hashlib.sha256(python).hexdigest()
        policy = policy_of(stack)
        policy["agents"].append({"uid": AGENT_UID, "exe_sha256": cls.sha256,
                                 "may": ["unseal:agent-state/a"]})
        stack.enclave_arguments = ["--user", str(DAEMON_UID)]
        return policy

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("services", "relay"):
            shutil.chown(cls.stack.dir / f"{name}.sock", DAEMON_UID)
        status = cls.stack.api("PUT", "/v1/state/a", b"for one program")[0]
        assert status == 201, status

    def agent(self, executable, mode="once"):
        """[(status, body)] of one run of the agent as its own user."""
        out = subprocess.run(
            ["setpriv", f"--reuid={AGENT_UID}", f"--regid={AGENT_UID}", "--clear-groups",
             executable, "-S", self.script, mode, self.stack.dir / "agent.sock", self.bad],
            capture_output=True, text=True, timeout=60, check=False)
        answers = [line.split(" ", 1) for line in out.stdout.splitlines()]
        self.assertTrue(answers, out.stderr)
        return [(int(status), body) for status, body in answers]

    def denied(self, answer, said):
        status, body = answer
        problem = json.loads(body)
        self.assertEqual((status, problem["code"]), (403, "agent-unknown"))
        self.assertIn(said, problem["found"])

    def test_the_program_that_is_named_is_served_and_another_is_told_its_own_hash(self):
        self.assertEqual(self.agent(self.good), [(200, "for one program")])
        bad = hashlib.sha256(self.bad.read_bytes()).hexdigest()
        self.denied(self.agent(self.bad)[0], f"executable {bad}")
        self.assertEqual(self.agent(self.good), [(200, "for one program")])

    def test_a_program_that_becomes_another_behind_its_connection_is_noticed(self):
        first, second = self.agent(self.good, "exec")
        self.assertEqual(first, (200, "for one program"))
        self.denied(second, "executable ")

    def test_a_connection_whose_process_has_ended_is_nobodys(self):
        first, second = self.agent(self.good, "orphan")
        self.assertEqual(first, (200, "for one program"))
        self.denied(second, "executable not measurable")

    def test_a_file_that_was_replaced_is_measured_anew(self):
        before = self.good.read_bytes()
        self.good.unlink()
        self.good.write_bytes(before + b"\n\n")
        self.good.chmod(0o711)
        self.denied(self.agent(self.good)[0], "executable ")
        self.good.unlink()
        self.good.write_bytes(before)
        self.good.chmod(0o711)
        self.assertEqual(self.agent(self.good), [(200, "for one program")])

    def opener(self):
        daemon = self.stack.running["clavigerd"].process.pid
        child, = pathlib.Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
        return int(child)

    def test_without_what_opens_executables_such_rows_are_closed_and_others_are_not(self):
        os.kill(self.opener(), signal.SIGKILL)
        self.denied(self.agent(self.good)[0], "executable not measurable")
        self.assertEqual(self.api("GET", "/v1/state/a")[2], b"for one program")
        self.stack.restart_enclave()
        self.assertEqual(self.agent(self.good), [(200, "for one program")])

    def test_what_opens_executables_can_do_nothing_else(self):
        child = self.opener()
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{child}/status").read_text().splitlines())
        self.assertEqual(int(status["CapEff"], 16), CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH)
        self.assertEqual(int(status["CapPrm"], 16), CAP_SYS_PTRACE | CAP_DAC_READ_SEARCH)
        self.assertEqual(status["Uid"].split(), [str(DAEMON_UID)] * 4)
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertEqual(len(os.listdir(f"/proc/{child}/fd")), 1)
        if FILTERED:
            self.assertEqual(status["Seccomp"], "2")

    def test_the_table_names_the_executable(self):
        table = self.stack.run("claviger", "policy", "table", str(self.stack.policy_file)).stdout
        self.assertRegex(table, rf"uid {AGENT_UID} running {self.sha256[:12]} +unseal +agent-state +a\n")


class NoExecutable(Case):
    def test_a_policy_that_names_no_executable_has_no_process_that_opens_them(self):
        daemon = self.stack.running["clavigerd"].process.pid
        children = pathlib.Path(f"/proc/{daemon}/task/{daemon}/children").read_text()
        self.assertEqual(children.strip(), "")


if __name__ == "__main__":
    unittest.main()
