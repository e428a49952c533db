"""The relay: bytes arrive unchanged, nobody starves anybody, and what is refused is one line."""
import hashlib
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from parts import ParentCase, closed, echo, program, read_all

MANY = 2000


class RelayCase(ParentCase):
    def relay(self, port, *options, host="127.0.0.1"):
        """The relay alone, on a Unix socket; its allowlist has the upstream."""
        self.allow((host, port))
        self.path = self.dir / "relay.sock"
        return self.spawn("proxy", "--config", self.dir / "list.yaml", *options,
                          f"unix:{self.path}", host, port)

    def allow(self, *entries):
        text = "".join(f"- {{address: {host}, port: {port}}}\n" for host, port in entries)
        (self.dir / "list.yaml").write_text("allowlist:\n" + text if text else "allowlist: []\n")

    def serve(self, rules, *options):
        """The relay within the whole parent."""
        self.path = self.dir / "relay.sock"
        return self.spawn("serve", "--services", f"unix:{self.dir}/services.sock", "--store",
                          f"sqlite:{self.dir}/store.db", "--credentials", "env",
                          *(x for i, rule in enumerate(rules)
                            for x in ("--relay", f"unix:{self.dir}/relay{i or ''}.sock={rule}")),
                          *options)

    def processor_seconds(self, process) -> float:
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def assert_echoes(self, client, text=b"hello"):
        client.sendall(text)
        found = b""
        while len(found) < len(text):
            piece = client.recv(65536)
            self.assertNotEqual(piece, b"", "closed early")
            found += piece
        self.assertEqual(found, text)


class Carries(RelayCase):
    def test_bytes_arrive_unchanged_in_both_directions(self):
        self.relay(self.upstream().port)
        client = self.connect(self.path)
        data = os.urandom(16 << 20)
        threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)),
                         daemon=True).start()
        self.assertEqual(hashlib.sha256(read_all(client)).digest(),
                         hashlib.sha256(data).digest())

    def test_a_half_closed_connection_carries_the_other_half(self):
        def late(connection):
            question = read_all(connection)
            time.sleep(0.3)
            connection.sendall(b"answer to " + question)
            connection.close()
        self.relay(self.upstream(late).port)
        client = self.connect(self.path)
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(read_all(client), b"answer to question")

    def test_one_byte_at_a_time_arrives(self):
        self.relay(self.upstream().port)
        client = self.connect(self.path)
        for byte in b"slowly":
            self.assert_echoes(client, bytes([byte]))

    def test_a_receiver_that_does_not_read_stops_its_sender_alone(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        process = self.serve([f"127.0.0.1:{self.upstream(lambda c: stop.wait()).port}",
                              f"127.0.0.1:{self.upstream().port}"])
        stuck = self.connect(self.path)
        stuck.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                sent += stuck.send(bytes(65536))
            except BlockingIOError:
                time.sleep(0.05)
        self.assertLess(sent, 64 << 20, "the sender is not held back")
        before = self.processor_seconds(process)
        time.sleep(1)
        self.assertLess(self.processor_seconds(process) - before, 0.3, "waiting is busy")
        self.assert_echoes(self.connect(self.dir / "relay1.sock"))

    def test_2000_connections_are_carried_and_idle_ones_starve_nobody(self):
        process = self.relay(self.upstream().port)
        clients = [self.connect(self.path) for _ in range(MANY)]
        for client in clients:
            self.assert_echoes(client, b"x")
        worst = 0.0
        for client in clients[::100]:
            start = time.monotonic()
            self.assert_echoes(client, b"y" * 1000)
            worst = max(worst, time.monotonic() - start)
        self.assertLess(worst, 2.0)
        descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
        self.assertLess(descriptors, 2 * MANY + 200, "idle connections hold more than two each")
        self.assertEqual(self.lines("relay.refused"), [])

    def test_an_upstream_that_closes_ends_the_connection(self):
        self.relay(self.upstream(lambda c: c.close()).port)
        self.assertTrue(closed(self.connect(self.path)))


class Refuses(RelayCase):
    def closed_port(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            return server.getsockname()[1]

    def test_a_refused_upstream_is_one_line_and_service_goes_on(self):
        process = self.serve([f"127.0.0.1:{self.closed_port()}",
                              f"127.0.0.1:{self.upstream().port}"])
        self.assertTrue(closed(self.connect(self.path)))
        self.assertEqual(len(self.wait_lines("relay.refused")), 1)
        self.assertIn("Connection refused", self.lines("relay.refused")[0])
        self.assert_echoes(self.connect(self.dir / "relay1.sock"))
        self.assertEqual(self.stop(process), 0)

    def test_a_name_that_does_not_resolve_is_one_line_and_starves_nobody(self):
        self.serve(["no-such-host.invalid:443", f"127.0.0.1:{self.upstream().port}"])
        waiting = self.connect(self.path)
        self.assert_echoes(self.connect(self.dir / "relay1.sock"))
        self.assertTrue(closed(waiting))
        self.assertEqual(len(self.wait_lines("relay.refused")), 1)
        self.assertIn("no-such-host.invalid:443", self.lines("relay.refused")[0])

    def test_a_storm_of_refusals_is_a_line_a_second_that_counts(self):
        self.serve([f"127.0.0.1:{self.closed_port()}"])
        for _ in range(200):
            self.assertTrue(closed(self.connect(self.path)))
        time.sleep(1.1)
        self.assertTrue(closed(self.connect(self.path)))
        lines = self.wait_lines("relay.refused", 2)
        self.assertLess(len(lines), 20)
        self.assertTrue(any("more since the last line" in line for line in lines))

    def test_more_connections_than_allowed_are_closed_and_the_others_go_on(self):
        self.serve([f"127.0.0.1:{self.upstream().port}"], "--relay-connections", 3)
        clients = [self.connect(self.path) for _ in range(3)]
        for client in clients:
            self.assert_echoes(client)
        self.assertTrue(closed(self.connect(self.path)))
        self.assertIn("relay-limit", self.wait_lines("relay.refused")[0])
        clients.pop().close()
        time.sleep(0.3)
        self.assert_echoes(self.connect(self.path))

    def test_what_was_carried_and_refused_is_counted(self):
        process = self.serve([f"127.0.0.1:{self.upstream().port}",
                              f"127.0.0.1:{self.closed_port()}"], "--relay-connections", 2)
        clients = [self.connect(self.path) for _ in range(2)]
        for client in clients:
            self.assert_echoes(client, b"12345")
        self.assertTrue(closed(self.connect(self.path)))
        clients.pop().close()
        time.sleep(0.5)
        self.assertTrue(closed(self.connect(self.dir / "relay1.sock")))
        # The client hears of the refusal before the relay has counted its end.
        deadline = time.monotonic() + 20
        line = ""
        while "active=1" not in line and time.monotonic() < deadline:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            line = self.wait_lines("relay.counts")[-1]
        for count in ("accepted=3", "active=1", "ended=1", "refused_limit=1", "refused_upstream=1",
                      "refused_allowlist=0", "bytes_up=10", "bytes_down=10"):
            self.assertIn(count, line)

    def test_one_peer_has_its_own_limit(self):
        self.serve([f"127.0.0.1:{self.upstream().port}"], "--relay-connections-per-peer", 2)
        clients = [self.connect(self.path) for _ in range(2)]
        for client in clients:
            self.assert_echoes(client)
        self.assertTrue(closed(self.connect(self.path)))

    def test_an_idle_connection_is_closed_in_time_and_a_busy_one_is_not(self):
        self.serve([f"127.0.0.1:{self.upstream().port}"], "--relay-idle", 1)
        idle, busy = self.connect(self.path), self.connect(self.path)
        for _ in range(8):
            self.assert_echoes(busy)
            time.sleep(0.3)
        self.assertTrue(closed(idle))
        self.assert_echoes(busy)


class Allowlist(RelayCase):
    MALFORMED = [
        ("", "a document"),
        ("- a", "allowlist:"),
        ("whitelist: []", "allowlist:"),
        ("allowlist: 3", "a list"),
        ("allowlist:\n- kms:443", "{address, port}"),
        ("allowlist:\n- {address: a}", "both address and port"),
        ("allowlist:\n- {port: 1}", "both address and port"),
        ("allowlist:\n- {address: a, port: 0}", "1 to 65535"),
        ("allowlist:\n- {address: a, port: 65536}", "1 to 65535"),
        ("allowlist:\n- {address: a, port: x}", "1 to 65535"),
        ("allowlist:\n- {address: '', port: 1}", "253 bytes"),
        ("allowlist:\n- {address: " + "a" * 254 + ", port: 1}", "253 bytes"),
        ("allowlist:\n- {address: a, port: 1, port: 2}", "one port"),
        ("allowlist:\n- {address: a, port: 1, cid: 2}", "address or port"),
        ("allowlist:\n- &a {address: a, port: 1}\n- *a", "{address, port}"),
        ("allowlist: []\nother: 1", "nothing beside"),
        ("allowlist: []\n---\nallowlist: []", "one document"),
        ("allowlist: [", "YAML"),
    ]

    def proxy(self, *arguments):
        return subprocess.run([program("claviger-parent"), "proxy", *map(str, arguments)],
                              capture_output=True, text=True, timeout=30)

    def test_a_malformed_list_is_refused_with_its_place(self):
        path = self.dir / "list.yaml"
        for text, expected in self.MALFORMED:
            with self.subTest(text=text[:60]):
                path.write_text(text)
                ended = self.proxy("--config", path, f"unix:{self.dir}/r.sock", "127.0.0.1", 1)
                self.assertEqual(ended.returncode, 3, ended.stderr)
                self.assertIn("allowlist-format", ended.stderr)
                self.assertIn("line", ended.stderr)
                self.assertIn(expected, ended.stderr)

    def test_an_upstream_that_the_list_lacks_is_refused(self):
        self.allow(("kms.us-east-1.amazonaws.com", 443))
        for host, port in (("kms.us-east-1.amazonaws.com", 444),
                           ("kms.us-east-2.amazonaws.com", 443), ("127.0.0.1", 443)):
            ended = self.proxy("--config", self.dir / "list.yaml", f"unix:{self.dir}/r.sock",
                               host, port)
            self.assertEqual(ended.returncode, 7, ended.stderr)
            self.assertIn("relay-refused", ended.stderr)

    def test_the_command_line_is_that_of_vsock_proxy(self):
        link = self.dir / "vsock-proxy"
        link.symlink_to(program("claviger-parent"))
        cases = [(["--help"], 0), ([], 2), (["8000", "host"], 2), (["-4", "-6", "1", "h", "2"], 2),
                 (["-w", "0", "1", "h", "2"], 2), (["--config", "/none", "1", "127.0.0.1", "x"], 2)]
        for arguments, status in cases:
            with self.subTest(arguments=arguments):
                ended = subprocess.run([str(link), *arguments], capture_output=True, timeout=30)
                self.assertEqual(ended.returncode, status, ended.stderr)
        server = self.upstream()
        self.relay(server.port, "-4", "-w", "20")
        self.assert_echoes(self.connect(self.path))

    def test_reload_closes_the_door_and_lets_connections_go_on(self):
        server = self.upstream()
        process = self.relay(server.port)
        before = self.connect(self.path)
        self.assert_echoes(before)
        self.allow()
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while not self.lines("relay.refused"):
            self.assertLess(time.monotonic(), deadline)
            client = self.connect(self.path)
            client.settimeout(0.2)
            try:
                client.recv(1)
            except (TimeoutError, ConnectionError):
                pass
        self.assertIn("the allowlist no longer has", self.lines("relay.refused")[0])
        self.assert_echoes(before)
        (self.dir / "list.yaml").write_text("not a list")
        process.send_signal(signal.SIGHUP)
        self.wait_lines("reload.failed")
        self.assertTrue(closed(self.connect(self.path)), "a malformed list changes nothing")


class Ends(RelayCase):
    def test_a_busy_connection_ends_before_the_relay_does(self):
        def slowly(connection):
            for _ in range(10):
                connection.sendall(b"x" * 100)
                time.sleep(0.1)
            connection.close()
        process = self.relay(self.upstream(slowly).port)
        client = self.connect(self.path)
        self.assertNotEqual(client.recv(1), b"")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(len(read_all(client)), 999)
        self.assertEqual(process.wait(10), 0)

    def test_idle_connections_do_not_hold_up_the_end(self):
        process = self.relay(self.upstream().port)
        for _ in range(50):
            self.assert_echoes(self.connect(self.path))
        start = time.monotonic()
        self.assertEqual(self.stop(process), 0)
        self.assertLess(time.monotonic() - start, 4)


if __name__ == "__main__":
    unittest.main()
