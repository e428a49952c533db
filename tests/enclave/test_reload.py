"""Reloads of the daemon: what is not measured is renewed, no request is lost, a revoked release ends."""
import json
import signal
import threading
import time
import unittest

from common import SEALED, Case  # also finds tests/lib
from python_parent import Refused, call

INTERVAL_S = 2.1  # CLV_RELOAD_INTERVAL_MS, and a little


class ReloadCase(Case):
    def overview(self) -> dict:
        return json.loads(self.api("GET", "/v1/status")[2])

    def reload(self):
        return call(str(self.stack.dir / "control.sock"), {"op": "reload"})

    def wait_log(self, event: str, count: int = 1, program: str = "clavigerd") -> None:
        deadline = time.monotonic() + 20
        while self.stack.running[program].log.count(event) < count:
            self.assertLess(time.monotonic(), deadline,
                            f"no {event}: {self.stack.running[program].log[-2000:]}")
            time.sleep(0.05)


class Reload(ReloadCase):
    def test_no_request_is_lost_through_many_reloads(self):
        stop, answers, daemon = threading.Event(), [], self.stack.running["clavigerd"].process

        def work(name):
            while not stop.is_set():
                status = self.api("PUT", f"/v1/state/{name}", SEALED)[0]
                answers.append((status, self.api("GET", f"/v1/state/{name}")[0]))
        threads = [threading.Thread(target=work, args=(f"agent{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        for i in range(1, 4):
            daemon.send_signal(signal.SIGHUP)
            self.wait_log(" reloaded ", i)
            time.sleep(INTERVAL_S)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertGreater(len(answers), 2)
        self.assertEqual({status for pair in answers for status in pair} - {200, 201}, set())

    def test_it_fetches_credentials_and_looks_at_the_baseline_again(self):
        time.sleep(INTERVAL_S)
        before = self.overview()
        time.sleep(INTERVAL_S)
        self.assertEqual(self.reload(), ({}, b""))
        after = self.overview()
        self.assertEqual(after["credentials"]["fetches"], before["credentials"]["fetches"] + 1)
        self.assertLess(after["baseline"]["checked_s_ago"], before["baseline"]["checked_s_ago"])
        self.assertTrue(after["baseline"]["match"])

    def test_a_flood_of_reloads_is_one(self):
        time.sleep(INTERVAL_S)
        before = self.overview()["credentials"]["fetches"]
        for _ in range(50):
            self.reload()
        self.assertLessEqual(self.overview()["credentials"]["fetches"], before + 2)

    def test_a_baseline_that_lacks_this_image_is_told_and_service_goes_on(self):
        good = [{"name": "1.0.0", "pcrs": self.stack.pcrs}]
        other = [{"name": "2.0.0", "pcrs": {**self.stack.pcrs, "0": "11" * 48}}]
        try:
            self.stack.sign_baseline(other)
            time.sleep(INTERVAL_S)
            with self.assertRaises(Refused) as refused:
                self.reload()
            self.assertEqual(refused.exception.code, "baseline-no-match")
            found = self.overview()["baseline"]
            self.assertEqual((found["match"], found["problem"]), (False, "baseline-no-match"))
            self.assertEqual(self.api("PUT", "/v1/state/still", SEALED)[0], 201)
        finally:
            self.stack.sign_baseline(good)
        time.sleep(INTERVAL_S)
        self.reload()
        self.assertTrue(self.overview()["baseline"]["match"])

    def test_a_baseline_that_nobody_of_the_policy_signed_says_nothing(self):
        text = self.stack.baseline.read_text()
        try:
            self.stack.baseline.write_text(text.replace("1.0.0", "1.0.1"))
            time.sleep(INTERVAL_S)
            with self.assertRaises(Refused) as refused:
                self.reload()
            self.assertEqual(refused.exception.code, "baseline-signature")
            self.assertTrue(self.overview()["baseline"]["match"])
        finally:
            self.stack.baseline.write_text(text)

    def test_debug_lines_are_turned_on_and_off_by_a_signal(self):
        daemon = self.stack.running["clavigerd"]

        def lines() -> int:
            self.api("GET", "/healthz")
            time.sleep(0.1)
            return daemon.log.count(" debug ")
        quiet = lines()
        self.assertEqual(lines(), quiet)
        daemon.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        self.assertGreater(lines(), quiet)
        daemon.process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        loud = lines()
        self.assertEqual(lines(), loud)

    def test_the_parents_reload_is_passed_on(self):
        time.sleep(INTERVAL_S)
        before = self.overview()["credentials"]["fetches"]
        self.stack.running["claviger-parent"].process.send_signal(signal.SIGHUP)
        self.wait_log("enclave.reloaded", 1, "claviger-parent")
        self.assertGreater(self.overview()["credentials"]["fetches"], before)

    def test_the_overview_names_no_key_no_state_and_no_agent(self):
        self.api("PUT", "/v1/state/very-private-name", SEALED)
        text = json.dumps(self.overview())
        for hidden in ("agent-state", "very-private-name", "uid", self.stack.keys["agent-state"],
                       self.stack.credentials["AccessKeyId"],
                       self.stack.credentials["SecretAccessKey"]):
            self.assertNotIn(hidden, text)
        self.assertGreaterEqual(self.overview()["store"]["generation"], 1)


class Kms(ReloadCase):
    def test_the_health_of_kms_is_in_the_overview_and_the_metrics(self):
        self.assertEqual(self.api("PUT", "/v1/state/a", SEALED)[0], 201)
        self.assertNotIn("last_failure", self.overview()["kms"])
        self.stack.put_key_policy("agent-state", "00" * 48)
        try:
            self.assertEqual(self.api("PUT", "/v1/state/a", SEALED)[0], 502)
        finally:
            self.stack.write_policy(self.stack.policy_file.read_bytes())
        kms = self.overview()["kms"]
        self.assertEqual((kms["circuit"], kms["failures"]), ("closed", 1))
        self.assertEqual(kms["last_failure"]["type"], "AccessDeniedException")
        self.assertEqual(kms["last_failure"]["http_status"], 400)
        self.assertRegex(kms["last_failure"]["request_id"], r"^[0-9a-f-]{36}$")
        metrics = self.api("GET", "/metrics")[2].decode()
        for line in ("claviger_kms_failures_total 1", "claviger_kms_circuit_open 0",
                     "claviger_baseline_match 1", "claviger_states_stored_total 1"):
            self.assertIn(f"\n{line}\n", metrics)


class Revoked(ReloadCase):
    @classmethod
    def tearDownClass(cls) -> None:
        cls.exit.close()

    def test_a_revoked_release_ends_the_daemon(self):
        self.stack.sign_baseline([{"name": "1.0.0", "pcrs": self.stack.pcrs}], ["1.0.0"])
        with self.assertRaises(Refused) as refused:
            self.reload()
        self.assertEqual(refused.exception.code, "baseline-revoked")
        daemon = self.stack.running["clavigerd"]
        self.assertEqual(daemon.wait_end(), 5)
        self.assertIn("reload.revoked", daemon.log)
        self.assertIn("(baseline-revoked)", daemon.log.strip().splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
