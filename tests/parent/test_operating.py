"""Operating the parent: reloads and restarts lose no request, the service manager is told, logs fit
the journal, metrics say what happened."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from endpoints import Endpoint
from parts import ParentCase, closed, program, read_all
from python_parent import Refused, call

CREDENTIALS = {"AccessKeyId": "AKIAEXAMPLE000000000", "SecretAccessKey": "s3cr3t"}


def answer_with(text: bytes):
    """An upstream that says who it is, to each line that comes."""
    def serve(connection):
        with connection:
            while connection.recv(65536):
                connection.sendall(text)
    return serve


class OperatingCase(ParentCase):
    def setUp(self):
        super().setUp()
        self.config_file = self.dir / "parent.json"
        (self.dir / "credentials.json").write_text(json.dumps(CREDENTIALS))
        self.config = {"services": f"unix:{self.dir}/services.sock",
                       "store": f"sqlite:{self.dir}/store.db",
                       "credentials": f"file:{self.dir}/credentials.json"}

    def relay(self, name: str) -> pathlib.Path:
        return self.dir / f"{name}.sock"

    def rule(self, name: str, port: int) -> str:
        return f"unix:{self.relay(name)}=127.0.0.1:{port}"

    def write(self, **more):
        self.config.update(more)
        self.config_file.write_text(json.dumps(self.config))

    def serve(self, *options, **more):
        self.write(**more)
        self.process = self.spawn("serve", "--config", self.config_file, *options)
        return self.process

    def reload(self, **more):
        """Changes the file; true when the reload was taken, false when it was refused."""
        self.write(**more)
        before = len(self.lines("relay.counts"))
        taken = len(self.lines(" reloaded "))
        self.process.send_signal(signal.SIGHUP)
        self.wait_lines("relay.counts", before + 1)
        return len(self.lines(" reloaded ")) > taken

    def ask(self, name: str) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.relay(name)))
            client.sendall(b"?\n")
            return client.recv(100)

    def services(self, **request):
        return call(str(self.dir / "services.sock"), request)

    def http(self, path: str) -> tuple[int, str]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(self.dir / "metrics.sock"))
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = read_all(client).decode().partition("\r\n\r\n")
        return int(head.split()[1]), body


class Callers:
    """Threads that use relay and services without a pause; every call that fails is kept."""

    def __init__(self, case: OperatingCase, relay: str, threads: int = 4):
        self.case, self.relay, self.stop = case, relay, threading.Event()
        self.done, self.lost, self.lock = 0, [], threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, number: int):
        generation = 0
        while not self.stop.is_set():
            try:
                said = self.case.ask(self.relay)
                if not said:
                    raise EOFError("the relay closed without an answer")
                generation += 1
                self.case.services(op="credentials")
                call(str(self.case.dir / "services.sock"),
                     {"op": "state.put", "name": f"s{number}", "generation": generation}, b"x")
                with self.lock:
                    self.done += 1
            except (OSError, EOFError, Refused) as error:
                with self.lock:
                    self.lost.append(repr(error))


class Reload(OperatingCase):
    def test_no_request_is_lost_through_many_reloads(self):
        one, two = (self.upstream(answer_with(t)).port for t in (b"one", b"two"))
        self.serve(relay=[self.rule("kms", one)])
        with Callers(self, "kms") as callers:
            for i in range(30):
                rules = [self.rule("kms", (one, two)[i % 2])]
                rules += [self.rule("other", one)] if i % 3 == 0 else []
                self.assertTrue(self.reload(relay=rules, relay_idle=100 + i), self.log.read_text())
        self.assertEqual(callers.lost, [])
        self.assertGreater(callers.done, 30)

    def test_a_rule_may_come_change_and_go_and_connections_go_on(self):
        one, two = (self.upstream(answer_with(t)).port for t in (b"one", b"two"))
        self.serve(relay=[self.rule("a", one)])
        before = self.connect(self.relay("a"))
        before.sendall(b"?")
        self.assertEqual(before.recv(9), b"one")
        self.assertTrue(self.reload(relay=[self.rule("a", two), self.rule("b", one)]))
        self.assertEqual((self.ask("a"), self.ask("b")), (b"two", b"one"))
        before.sendall(b"?")
        self.assertEqual(before.recv(9), b"one", "a connection goes on to where it went")
        self.assertTrue(self.reload(relay=[self.rule("b", one)]))
        with self.assertRaises(ConnectionRefusedError):
            self.connect(self.relay("a"))
        before.sendall(b"?")
        self.assertEqual(before.recv(9), b"one")
        self.assertEqual(self.ask("b"), b"one")

    def test_what_is_malformed_or_takes_a_restart_changes_nothing(self):
        one, two = (self.upstream(answer_with(t)).port for t in (b"one", b"two"))
        self.serve(relay=[self.rule("a", one)], log_level="info")
        good = dict(self.config)
        bad = [({"relay": ["nonsense"]}, "usage"),
               ({"relay": [self.rule("a", two), self.rule("a", one)]}, "once"),
               ({"relay": [self.rule("a", two), "unix:/no/such/dir/s=h:1"]}, "cannot be bound"),
               ({"relay": [self.rule("a", two)], "relay_allowlist": "/none"}, "/none"),
               ({"relay": [self.rule("a", two)], "baseline": "/none",
                 "baseline_signature": "/none"}, "/none"),
               ({"relay": [self.rule("a", two)], "baseline": "/none"}, "together"),
               ({"relay": [self.rule("a", two)], "credentials": "vault"}, "--credentials"),
               ({"relay": [self.rule("a", two)], "log_level": "loud"}, "--log-level"),
               ({"relay": [self.rule("a", two)], "relay_idle": 0}, "--relay-idle"),
               ({"relay": [self.rule("a", two)], "store": "sqlite:/other"}, "restart"),
               ({"relay": [self.rule("a", two)], "services": "unix:/other"}, "restart"),
               ({"relay": [self.rule("a", two)], "colour": "red"}, "json-unknown"),
               ({"relay": self.rule("a", two)}, "array"), ({"relay_idle": 1.5}, "integer")]
        for change, expected in bad:
            with self.subTest(change=str(change)[:60]):
                self.config = dict(good)
                self.assertFalse(self.reload(**change))
                self.assertIn(expected, self.lines("reload.failed")[-1])
                self.assertEqual(self.ask("a"), b"one")
        self.config = dict(good)
        self.assertTrue(self.reload(relay=[self.rule("a", two)]))
        self.assertEqual(self.ask("a"), b"two")

    def test_the_command_line_goes_before_the_file(self):
        one, two = (self.upstream(answer_with(t)).port for t in (b"one", b"two"))
        self.serve("--relay", self.rule("a", two), relay=[self.rule("a", one)])
        self.assertEqual(self.ask("a"), b"two")
        self.assertTrue(self.reload())
        self.assertEqual(self.ask("a"), b"two")

    def test_the_source_of_credentials_may_change_and_is_asked_at_once(self):
        endpoint = Endpoint()
        self.addCleanup(endpoint.close)
        os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint.url
        self.addCleanup(os.environ.pop, "AWS_EC2_METADATA_SERVICE_ENDPOINT")
        one = self.upstream(answer_with(b"one")).port
        self.serve(relay=[self.rule("a", one)])
        read = lambda: json.loads(self.services(op="credentials")[1])["AccessKeyId"]
        self.assertEqual(read(), CREDENTIALS["AccessKeyId"])
        self.assertTrue(self.reload(credentials="imds"))
        deadline = time.monotonic() + 10
        while endpoint.issued < 1:
            self.assertLess(time.monotonic(), deadline, "not asked before a call")
            time.sleep(0.02)
        self.assertEqual(read(), "ASIAEXAMPLE000000001")
        self.assertTrue(self.reload())
        while endpoint.issued < 2:
            self.assertLess(time.monotonic(), deadline, "a reload asks anew")
            time.sleep(0.02)
        endpoint.fault = 500
        self.assertTrue(self.reload())
        self.wait_lines("credentials.failed")
        self.assertEqual(read(), "ASIAEXAMPLE000000002", "those from before are still valid")
        self.assertTrue(self.reload(credentials=f"file:{self.dir}/credentials.json"))
        self.assertEqual(read(), CREDENTIALS["AccessKeyId"])
        self.assertNotIn("s3cr3t", self.log.read_text())

    def test_the_baseline_may_be_other_files(self):
        for name in ("a", "b"):
            (self.dir / name).write_text(f"baseline {name}")
            (self.dir / f"{name}.sig").write_text(f"signature {name}")
        one = self.upstream(answer_with(b"one")).port
        for name in ("a", "b"):
            change = {"baseline": f"{self.dir}/{name}", "baseline_signature": f"{self.dir}/{name}.sig",
                      "relay": [self.rule("r", one)]}
            self.assertTrue(self.reload(**change) if name == "b" else self.serve(**change))
            result, data = self.services(op="baseline")
            self.assertEqual((result["signature"], data),
                             (f"signature {name}", f"baseline {name}".encode()))


class Activation(OperatingCase):
    """The service manager holds the sockets: here the test, as systemd does it."""

    def listeners(self, *paths) -> list[socket.socket]:
        sockets = []
        for path in paths:
            sockets.append(socket.socket(socket.AF_UNIX))
            self.addCleanup(sockets[-1].close)
            sockets[-1].bind(str(path))
            sockets[-1].listen(256)
        return sockets

    def activate(self, sockets, notify=None, ready=True):
        self.write()
        self.log = self.dir / "log"
        ready_file = self.dir / "ready"
        ready_file.unlink(missing_ok=True)
        script = 'export LISTEN_PID=$$; exec "$@"'
        env = {**os.environ, "LISTEN_FDS": str(len(sockets))}
        if notify:
            env["NOTIFY_SOCKET"] = str(notify)
        fds = [s.fileno() for s in sockets]

        def pass_sockets():
            kept = [os.dup(fd) for fd in fds]
            for i, fd in enumerate(kept):
                os.dup2(fd, 3 + i, inheritable=True)
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                ["sh", "-c", script, "sh", program("claviger-parent"), "serve", "--config",
                 str(self.config_file), "--ready-file", str(ready_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, close_fds=False,
                preexec_fn=pass_sockets)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 30
        while ready and not ready_file.exists():
            self.assertIsNone(process.poll(), self.log.read_text())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        return process

    def test_a_restart_loses_no_connection_and_no_call(self):
        port = self.upstream(answer_with(b"one")).port
        self.config["relay"] = [self.rule("kms", port)]
        sockets = self.listeners(self.relay("kms"), self.dir / "services.sock")
        process = self.activate(sockets)
        with Callers(self, "kms") as callers:
            for _ in range(4):
                time.sleep(0.3)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(30), 0, self.log.read_text())
                process = self.activate(sockets)
            time.sleep(0.3)
        self.assertEqual(callers.lost, [])
        self.assertGreater(callers.done, 20)
        self.assertEqual(self.stop(process), 0)
        self.assertTrue(self.relay("kms").exists(), "the socket's file is not ours")

    def test_a_socket_that_nobody_takes_is_an_error_that_names_it(self):
        port = self.upstream(answer_with(b"one")).port
        self.config["relay"] = [self.rule("kms", port)]
        sockets = self.listeners(self.relay("kms"), self.dir / "services.sock", self.dir / "extra")
        process = self.activate(sockets, ready=False)
        self.assertEqual(process.wait(30), 2)
        self.assertIn("descriptor 5", self.log.read_text())

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "systemd-socket-activate")
    def test_systemds_own_activator_starts_it_at_the_first_connection(self):
        port = self.upstream(answer_with(b"one")).port
        self.write(relay=[self.rule("kms", port)])
        with open(self.dir / "log", "wb") as log:
            process = subprocess.Popen(
                ["systemd-socket-activate", "-l", str(self.dir / "services.sock"), "-l",
                 str(self.relay("kms")), program("claviger-parent"), "serve", "--config",
                 str(self.config_file)], stdout=log, stderr=log)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 20
        while not self.relay("kms").exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertEqual(self.ask("kms"), b"one")
        self.assertEqual(json.loads(self.services(op="credentials")[1]), CREDENTIALS)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(30), 0)

    def test_the_service_manager_hears_of_start_reload_and_end(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(notify.close)
        notify.bind(str(self.dir / "notify"))
        notify.settimeout(20)
        port = self.upstream(answer_with(b"one")).port
        self.config["relay"] = [self.rule("kms", port)]
        process = self.activate([], notify=self.dir / "notify")
        hear = lambda: dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines())
        self.assertEqual(hear()["READY"], "1")
        process.send_signal(signal.SIGHUP)
        reloading = hear()
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertLess(abs(int(reloading["MONOTONIC_USEC"]) / 1e6 - time.monotonic()), 20)
        self.assertEqual(hear()["READY"], "1")
        self.assertEqual(self.stop(process), 0)
        self.assertEqual(hear()["STOPPING"], "1")


class Journal(OperatingCase):
    def logged(self, *options) -> list[str]:
        """What is written where standard error is the journal's, by device and inode."""
        port = self.upstream(answer_with(b"one")).port
        self.write(relay=[self.rule("a", port)], relay_connections=1)
        log = self.dir / "journal"
        with open(log, "wb") as out:
            st = os.fstat(out.fileno())
            process = subprocess.Popen(
                [program("claviger-parent"), "serve", "--config", str(self.config_file), *options],
                stderr=out, env={**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 20
        while "serving" not in log.read_text():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        first = self.connect(self.relay("a"))
        first.sendall(b"?")
        first.recv(9)
        self.assertTrue(closed(self.connect(self.relay("a"))))
        self.stop(process)
        return log.read_text().splitlines()

    def test_lines_begin_with_their_priority_and_leave_out_what_it_adds(self):
        lines = self.logged()
        self.assertTrue(any(line.startswith("<6>serving ") for line in lines), lines)
        self.assertTrue(any(line.startswith("<4>relay.refused relay-limit ") for line in lines),
                        lines)
        self.assertFalse(any("claviger-parent info" in line for line in lines))

    def test_json_lines_have_it_too(self):
        lines = self.logged("--log", "json")
        warning = next(line for line in lines if "relay.refused" in line)
        self.assertTrue(warning.startswith("<4>{"))
        self.assertEqual(json.loads(warning[3:])["level"], "warning")

    def test_the_last_line_of_a_failed_start_is_an_error(self):
        with open(self.dir / "journal", "wb") as out:
            st = os.fstat(out.fileno())
            done = subprocess.run(
                [program("claviger-parent"), "serve"], stderr=out,
                env={**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino}"})
        self.assertEqual(done.returncode, 2)
        self.assertTrue((self.dir / "journal").read_text().startswith("<3>claviger-parent: "))

    def test_the_level_may_change_at_a_reload(self):
        port = self.upstream(answer_with(b"one")).port
        self.serve(relay=[self.rule("a", port)], log_level="error")
        self.assertEqual(self.log.read_text(), "")
        self.assertTrue(self.reload(log_level="debug"))
        with contextlib.suppress(Refused):
            self.services(op="state.get", name="none")
        self.wait_lines("debug state.get")


class Metrics(OperatingCase):
    def values(self) -> dict[str, int]:
        status, text = self.http("/metrics")
        self.assertEqual(status, 200)
        named, found = set(), {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                named.add(line.split()[2])
            elif not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                self.assertIn(name.split("{")[0], named, "a value before its type")
                self.assertNotIn(name, found, "a value that occurs twice")
                found[name] = int(value)
        return found

    def test_what_happened_is_counted(self):
        port = self.upstream(answer_with(b"one")).port
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = server.getsockname()[1]
        self.serve(relay=[self.rule("a", port), self.rule("dead", nobody)],
                   metrics=f"unix:{self.dir}/metrics.sock")
        self.assertEqual(self.ask("a"), b"one")
        self.assertTrue(closed(self.connect(self.relay("dead"))))
        self.services(op="credentials")
        call(str(self.dir / "services.sock"), {"op": "state.put", "name": "n", "generation": 1},
             b"x")
        with self.assertRaises(Refused):
            self.services(op="state.get", name="none")
        with self.assertRaises(Refused):
            self.services(op="no.such.call")
        deadline = time.monotonic() + 10
        while self.values()["claviger_relay_connections"] > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        found = self.values()
        for name, value in (("claviger_relay_accepted_total", 2),
                            ('claviger_relay_refused_total{why="upstream"}', 1),
                            ('claviger_relay_bytes_total{direction="up"}', 2),
                            ('claviger_relay_bytes_total{direction="down"}', 3),
                            ('claviger_service_calls_total{call="state.put"}', 1),
                            ('claviger_service_faults_total{call="state.put"}', 0),
                            ('claviger_service_faults_total{call="state.get"}', 1),
                            ('claviger_service_faults_total{call="unknown"}', 1),
                            ("claviger_credentials_valid", 1),
                            ("claviger_credentials_fetches_total", 1)):
            self.assertEqual(found[name], value, name)

    def test_the_status_tells_no_secret(self):
        port = self.upstream(answer_with(b"one")).port
        self.serve(relay=[self.rule("a", port)], metrics=f"unix:{self.dir}/metrics.sock")
        self.services(op="credentials")
        call(str(self.dir / "services.sock"), {"op": "state.put", "name": "n", "generation": 1},
             b"x")
        status, text = self.http("/status")
        self.assertEqual(status, 200)
        found = json.loads(text)
        self.assertEqual(found["store"]["generation"], 1)
        self.assertEqual(found["credentials"]["source"], "file")
        self.assertTrue(found["credentials"]["valid"])
        self.assertEqual(found["relay"]["rules"], [
            {"address": f"unix:{self.relay('a')}", "upstream": f"127.0.0.1:{port}",
             "allowed": True}])
        for secret in (*CREDENTIALS.values(), "credentials.json"):
            self.assertNotIn(secret, text)

    def test_the_status_names_the_store_after_reloads_of_the_file_that_named_it(self):
        port = self.upstream(answer_with(b"one")).port
        self.serve(relay=[self.rule("a", port)], metrics=f"unix:{self.dir}/metrics.sock")
        for _ in range(3):
            self.assertTrue(self.reload())
            self.assertEqual(json.loads(self.http("/status")[1])["store"]["engine"], "sqlite")

    def test_other_pages_and_methods_are_refused(self):
        port = self.upstream(answer_with(b"one")).port
        self.serve(relay=[self.rule("a", port)], metrics=f"unix:{self.dir}/metrics.sock")
        self.assertEqual(self.http("/healthz")[0], 200)
        self.assertEqual(self.http("/other")[0], 404)
        client = self.connect(self.dir / "metrics.sock")
        client.sendall(b"POST /metrics HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        self.assertIn(b"405", read_all(client))


if __name__ == "__main__":
    unittest.main()
