"""The running daemon behind its bars, as another user, and inside a strict container."""
import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "lib"))
from claviger_stack import Stack, program  # noqa: E402

UID, GID = 12345, 12346
# A build with AddressSanitizer loads no filter: its runtime opens files and traces itself.
FILTERED = b"__asan_init" not in pathlib.Path(program("clavigerd")).read_bytes()


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


@unittest.skipUnless(os.getuid() == 0, "needs root to become another user")
class Sandbox(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
        self.addCleanup(self.stack.close)

    def start(self):
        self.stack.prepare()
        self.stack.start_nsm()
        self.stack.start_parent()
        # What a deployment does with groups: the parent's sockets are open to the daemon's user.
        os.chmod(self.stack.dir, 0o755)
        for name in ("services", "relay"):
            os.chown(self.stack.dir / f"{name}.sock", UID, GID)
        os.chown(self.stack.dir, UID, GID)
        return self.stack.start_enclave().process.pid

    def wait_status(self, pid, member, value):
        """The bars come down right behind the ready file."""
        deadline = time.monotonic() + 20
        while status_of(pid)[member] != value and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(status_of(pid)[member], value)

    def work(self):
        body = os.urandom(300000)
        status, _, answer = self.stack.api("PUT", "/v1/state/memory", body)
        self.assertEqual(status, 201, answer)
        status, _, answer = self.stack.api("GET", "/v1/state/memory")
        self.assertEqual((status, answer), (200, body))
        done = self.stack.setup({"keyId": self.stack.keys["agent-state"]})
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_daemon_serves_as_another_user_without_capabilities(self):
        self.stack.enclave_arguments = ["--user", f"{UID}:{GID}"]
        pid = self.start()
        self.wait_status(pid, "Uid", "\t".join([str(UID)] * 4))
        self.assertEqual(status_of(pid)["Gid"], "\t".join([str(GID)] * 4))
        self.assertEqual(int(status_of(pid)["CapEff"], 16), 0)
        self.assertEqual(status_of(pid)["NoNewPrivs"], "1")
        self.work()

    @unittest.skipUnless(FILTERED, "this build loads no filter")
    def test_every_thread_is_filtered(self):
        pid = self.start()
        self.wait_status(pid, "Seccomp", "2")
        self.work()
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            self.assertIn("Seccomp:\t2", (task / "status").read_text())

    def test_no_core_can_be_dumped_and_no_other_user_can_trace(self):
        pid = self.start()
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        # /proc files of a process that is not dumpable belong to root.
        self.assertEqual(os.stat(f"/proc/{pid}/mem").st_uid, 0)

    def test_the_daemon_runs_in_a_strict_container(self):
        """No capability, its own mounts and processes, and a root that cannot be written."""
        probe = subprocess.run(["unshare", "-m", "-p", "--fork", "true"], capture_output=True)
        if probe.returncode != 0:
            self.skipTest("this machine allows no namespaces")
        enter = ("mount -o bind,remount,ro / 2>/dev/null || mount --bind / / && "
                 "mount -o bind,remount,ro /; exec setpriv --pdeathsig=KILL --bounding-set=-all --inh-caps=-all "
                 f"--no-new-privs --reuid={UID} --regid={GID} --clear-groups \"$@\"")
        # The directory of the stack stays writable: it stands for the container's /run.
        keep = f"mount --bind {self.stack.dir} {self.stack.dir} && "
        self.stack.prefix["clavigerd"] = ["unshare", "-m", "-p", "--fork", "--kill-child",
                                          "sh", "-c", keep + enter, "sh"]
        os.chmod(self.stack.dir, 0o755)
        self.stack.prepare()
        for path in (self.stack.policy_file, self.stack.kms_dir / "ca.pem"):
            os.chmod(path, 0o644)
        os.chmod(self.stack.kms_dir, 0o755)
        self.stack.start_nsm()
        self.stack.start_parent()
        for name in ("services", "relay"):
            os.chown(self.stack.dir / f"{name}.sock", UID, GID)
        os.chown(self.stack.dir, UID, GID)
        self.stack.start_enclave()
        self.work()


if __name__ == "__main__":
    unittest.main(verbosity=2)
