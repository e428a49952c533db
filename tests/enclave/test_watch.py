"""An agent waits for a state to change: told at once by an honest parent, and deceived by none."""
import contextlib
import threading
import time
import unittest

from common import SEALED, Case  # also finds tests/lib
from python_parent import Refused
from test_hostile import HostileCase

WAITING_MAX = 16  # of one agent: agents.h


class Waiter(threading.Thread):
    """A GET that waits; its answer is there after join()."""

    def __init__(self, case, path, etag=None):
        super().__init__()
        self.case, self.path, self.etag, self.answer = case, path, etag, None
        self.start()

    def run(self):
        headers = {"If-None-Match": self.etag} if self.etag else {}
        with contextlib.suppress(ConnectionError):
            self.answer = self.case.api("GET", self.path, None, headers)


class Watch(Case):
    def test_a_change_is_answered_with_the_new_state(self):
        self.assertEqual(self.api("PUT", "/v1/state/watched", b"1")[0], 201)
        waiter = Waiter(self, "/v1/state/watched?wait=25", '"1"')
        time.sleep(0.3)
        self.assertTrue(waiter.is_alive(), waiter.answer)
        self.assertEqual(self.api("PUT", "/v1/state/watched", b"2")[0], 200)
        waiter.join()
        status, headers, body = waiter.answer
        self.assertEqual((status, headers["ETag"], body), (200, '"2"', b"2"))

    def test_a_state_that_changed_already_is_answered_without_waiting(self):
        for body in (b"1", b"2"):
            self.api("PUT", "/v1/state/earlier", body)
        self.assertEqual(self.api("GET", "/v1/state/earlier?wait=25", None,
                                  {"If-None-Match": '"1"'})[2], b"2")

    def test_an_unchanged_state_is_said_to_be_unchanged(self):
        self.assertEqual(self.api("PUT", "/v1/state/still", b"1")[0], 201)
        for path in ("/v1/state/still", "/v1/state/still?wait=1"):
            status, headers, body = self.api("GET", path, None, {"If-None-Match": '"1"'})
            self.assertEqual((status, headers["ETag"], body), (304, '"1"', b""))

    def test_a_state_that_is_not_there_yet_is_waited_for(self):
        self.refused(self.api("GET", "/v1/state/coming?wait=1"), 404, "state-not-found")
        waiter = Waiter(self, "/v1/state/coming?wait=25")
        time.sleep(0.3)
        self.assertEqual(self.api("PUT", "/v1/state/coming", b"here")[0], 201)
        waiter.join()
        self.assertEqual(waiter.answer[2], b"here")

    def test_a_deletion_is_a_change(self):
        self.assertEqual(self.api("PUT", "/v1/state/going", b"1")[0], 201)
        waiter = Waiter(self, "/v1/state/going?wait=25", '"1"')
        time.sleep(0.3)
        self.assertEqual(self.api("DELETE", "/v1/state/going")[0], 204)
        waiter.join()
        self.refused(waiter.answer, 404, "state-not-found")

    def test_what_cannot_be_waited_for_is_refused(self):
        for path, headers in (("?wait=0", {}), ("?wait=26", {}), ("?wait=x", {}), ("?wait=", {}),
                              ("?wait=1", {"If-None-Match": "*"}),
                              ("", {"If-None-Match": '"1"', "If-Match": '"1"'}),
                              ("?wait=1", {"If-None-Match": '"0"'})):
            with self.subTest(path=path, headers=headers):
                self.refused(self.api("GET", f"/v1/state/a{path}", None, headers), 400,
                             "api-parameter")
        self.refused(self.api("PUT", "/v1/state/a?wait=1", b"x"), 400, "api-parameter")

    def test_those_that_wait_are_bounded_and_starve_nobody(self):
        waiters = [Waiter(self, f"/v1/state/never{i}?wait=4") for i in range(WAITING_MAX + 4)]
        self.assertEqual(self.api("PUT", "/v1/state/meanwhile", SEALED)[0], 201)
        self.assertEqual(self.api("GET", "/v1/state/meanwhile")[2], SEALED)
        self.assertTrue(any(waiter.is_alive() for waiter in waiters))
        for waiter in waiters:
            waiter.join()
        statuses = [waiter.answer[0] for waiter in waiters]
        self.assertEqual(statuses.count(429), 4, statuses)
        self.assertEqual(statuses.count(404), WAITING_MAX)
        self.refused(self.api("GET", "/v1/state/never?wait=1"), 404, "state-not-found")


class WatchLies(HostileCase):
    def setUp(self):
        self.api("PUT", "/v1/state/a", b"the state a")
        self.generation = self.stack.parent.states["agent-state/a"][0]
        self.stack.parent.calls.clear()

    def watch(self, wait=25):
        return self.api("GET", f"/v1/state/a?wait={wait}", None,
                        {"If-None-Match": f'"{self.generation}"'})

    def test_a_false_alarm_is_no_change(self):
        with self.lying(state_watch=lambda c, d: ({"generation": self.generation + 7}, b"")):
            self.assertEqual(self.watch()[0], 304)
        self.assertEqual(self.stack.parent.calls, ["state.watch", "state.get"])

    def test_a_parent_that_does_not_wait_is_not_asked_again(self):
        self.assertEqual(self.watch()[0], 304)
        self.assertEqual(self.stack.parent.calls, ["state.watch"])

    def test_what_is_said_to_be_new_is_verified_as_always(self):
        old = self.stack.parent.states["agent-state/a"][1]
        newer = {"generation": self.generation + 1}
        with self.lying(state_watch=lambda c, d: (newer, b""), state_get=lambda c, d: (newer, old)):
            self.refused(self.watch(), 422, "seal-context")

    def test_nonsense_and_faults_are_errors_of_the_parent(self):
        for lie, status, code in (
                (lambda c, d: ({"generation": -1}, b""), 502, "frame-format"),
                (lambda c, d: ({"generation": "2"}, b""), 502, "frame-format"),
                (lambda c, d: ({}, b""), 502, "frame-format"),
                (lambda c, d: ({"generation": 2}, b"x" * 100), 503, "store-failed"),
                (self.refusing("store-busy"), 503, "store-busy"),
                (self.refusing("store-unavailable"), 503, "store-unavailable"),
                (self.refusing("capability-missing"), 503, "store-failed")):
            with self.subTest(code=code), self.lying(state_watch=lie):
                self.refused(self.watch(), status, code)

    @staticmethod
    def refusing(code):
        def refuse(call, data):
            raise Refused(code)
        return refuse


class Stopping(Case):
    def test_the_daemon_ends_while_an_agent_waits(self):
        self.api("PUT", "/v1/state/a", b"1")
        waiter = Waiter(self, "/v1/state/a?wait=25", '"1"')
        time.sleep(0.3)
        self.assertTrue(waiter.is_alive(), waiter.answer)
        self.assertEqual(self.stack.running["clavigerd"].stop(), 0)
        waiter.join()
        self.assertIsNone(waiter.answer, "the connection ended with the daemon")


if __name__ == "__main__":
    unittest.main()
