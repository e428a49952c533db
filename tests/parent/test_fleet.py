"""A fleet's life: hosts with enclaves of one policy before one cluster, of which a member is killed,
another is cut off and an enclave dies.

FLEET_SECONDS sets how long the enclaves seal and unseal (default 60).
"""
import json
import os
import random
import subprocess
import sys
import threading
import time
import unittest

import fleet
from fleet import HOSTS, Fleet
from history import DONE, REFUSED, UNSURE, History, digest
from parts import program

SECONDS = float(os.environ.get("FLEET_SECONDS", "60"))
ENCLAVES = 8
KEYS = [f"key{i}" for i in range(4)]
SHARED = [f"shared{i}" for i in range(2)]
PATIENCE = 120  # s, beyond its time, for what a phase must show on a slow machine
# Of the whole time: (name, share).
PHASES = (("whole", .12), ("member 0 dead", .22), ("back", .1), ("host 1 cut off", .24),
          ("healed", .1), ("enclave 7 dead", .22))


class Agent(threading.Thread):
    """One enclave's agent: keeps names of its own, and some that all of them write."""

    def __init__(self, enclave, history: History, counts: dict):
        super().__init__()
        self.enclave, self.history, self.counts = enclave, history, counts
        self.own = [f"{enclave.name}/{i}" for i in range(3)]
        self.known: dict[str, int] = {}
        self.random = random.Random(enclave.number)
        self.stopping, self.phase, self.serial = False, "", 0
        self.wrong: list[str] = []

    def run(self):
        for name in self.own:
            while not self.stopping and self.known.get(name, 0) == 0:
                self.read(name)
                if name in self.known:
                    self.write(name)
        while not self.stopping:
            name = self.random.choice(self.own if self.random.random() < .6 else SHARED)
            if name not in self.known or self.random.random() < .4:
                self.read(name)
            else:
                self.write(name)

    def count(self, what: str):
        key = (self.phase, self.enclave.host.number, what)
        self.counts[key] = self.counts.get(key, 0) + 1

    def ask(self, method, name, body=None, headers=None):
        """(outcome, status, generation, body) and when."""
        begun = time.monotonic()
        status, answered, data = self.enclave.api(
            method, f"/v1/state/{name}?key={KEYS[0]}", body, headers)
        ended = time.monotonic()
        outcome = UNSURE
        if status == 0:
            time.sleep(.1)  # the enclave is gone
        if status in (200, 201, 404):
            outcome = DONE
        elif status in (409, 412):
            outcome = REFUSED
        elif status not in (0, 503, 504):
            self.wrong.append(f"{self.enclave.name} {method} {name}: {status} {data[:300]!r}")
        code = json.loads(data)["code"] if status in (503, 504) else str(status)
        self.count(f"{method} {outcome}" if outcome != UNSURE else code)
        generation = int(answered["ETag"].strip('"')) if status in (200, 201) else 0
        return outcome, generation, data, begun, ended

    def read(self, name):
        outcome, generation, data, begun, ended = self.ask("GET", name)
        if outcome != DONE:
            return
        content = digest(data) if generation else ""
        self.history.note("read", self.enclave.name, name, generation, content, begun, ended)
        self.known[name] = generation

    def write(self, name):
        """The generation after the one it knows; a big one now and then."""
        self.serial += 1
        generation = self.known.pop(name) + 1
        size = 1_500_000 if self.random.random() < .03 else self.random.randrange(3000)
        body = f"{self.enclave.name} {self.serial} {name} {generation}\n".encode() + bytes(size)
        condition = {"If-Match": f'"{generation - 1}"'} if generation > 1 else \
            {"If-None-Match": "*"}
        outcome, answered, _, begun, ended = self.ask("PUT", name, body, condition)
        if outcome == DONE and answered != generation:
            self.wrong.append(f"{name}: asked for generation {generation}, got {answered}")
        self.history.note("write", self.enclave.name, name, generation, digest(body), begun, ended,
                          outcome)
        if outcome == DONE:
            self.known[name] = generation


class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.fleet = Fleet(ENCLAVES, KEYS)
        try:
            cls.fleet.start_enclaves()
        except BaseException:
            cls.fleet.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.fleet.close()

    def derive(self, enclave, key, start, answers):
        body = json.dumps({"path": "wallet/main", "purpose": "payments",
                           "algorithm": "ed25519"}).encode()
        start.wait()
        status, _, data = enclave.api("POST", f"/v1/keys/derive?key={key}", body,
                                      {"Content-Type": "application/json"})
        answers[enclave.name, key] = (status, json.loads(data) if data else None)

    def test_1_enclaves_that_start_together_make_one_root_and_derive_the_same_keys(self):
        for key in KEYS:
            start, answers = threading.Barrier(ENCLAVES), {}
            threads = [threading.Thread(target=self.derive, args=(enclave, key, start, answers))
                       for enclave in self.fleet.enclaves]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({status for status, _ in answers.values()}, {200}, answers)
            self.assertEqual(len({(a["root_id"], a["key"]) for _, a in answers.values()}), 1)
        written = [name for name, _ in self.fleet.stored_history("key")]
        self.assertEqual(sorted(written), KEYS, "each root was written once, for ever")

    def test_2_a_change_on_one_host_is_seen_by_an_enclave_that_waits_on_another(self):
        writer, waiting = self.fleet.enclaves[0], self.fleet.enclaves[1]
        self.assertNotEqual(writer.host, waiting.host)
        path = f"/v1/state/watched?key={KEYS[0]}"
        answers = []
        thread = threading.Thread(target=lambda: answers.append(
            waiting.api("GET", path + "&wait=25")))
        thread.start()
        time.sleep(.5)
        self.assertEqual(writer.api("PUT", path, b"from host 0")[0], 201)
        thread.join()
        self.assertEqual((answers[0][0], answers[0][2]), (200, b"from host 0"))

    def test_3_nothing_acknowledged_is_lost_and_no_generation_is_written_twice(self):
        history, counts = History(), {}
        agents = [Agent(enclave, history, counts) for enclave in self.fleet.enclaves]
        for agent in agents:
            agent.start()
        acts = {"member 0 dead": lambda: self.fleet.cluster.kill(0),
                "back": lambda: self.fleet.cluster.start(0),
                "host 1 cut off": self.fleet.hosts[1].cut, "healed": self.fleet.hosts[1].heal,
                "enclave 7 dead": lambda: self.take_over(agents, history)}
        acknowledged = {}
        try:
            for phase, share in PHASES:
                for agent in agents:
                    agent.phase = phase
                acts.get(phase, lambda: None)()
                acknowledged[phase] = self.run_phase(phase, SECONDS * share, history, counts)
        finally:
            for agent in agents:
                agent.stopping = True
            for agent in agents:
                agent.join()
        self.report(history, counts, acknowledged)
        self.assertEqual([wrong for agent in agents for wrong in agent.wrong], [])
        final = self.final_states(history)
        self.assertEqual(history.violations(final), [])
        self.stored_as_acknowledged(history, final)
        self.a_minority_says_that_it_is_one(counts)

    def run_phase(self, phase, seconds, history, counts):
        """Writes acknowledged a second. It lasts longer where what it must show has not come."""
        begun, before = time.monotonic(), self.writes(history)
        while True:
            time.sleep(.2)
            took, done = time.monotonic() - begun, self.writes(history) - before
            if took >= seconds and done > 0 and self.shown(phase, counts):
                return done / took
            self.assertLess(took, seconds + PATIENCE, f"{phase}: {done} writes, {counts}")

    @staticmethod
    def writes(history):
        return sum(1 for e in list(history.events) if e.kind == "write" and e.outcome == DONE)

    @staticmethod
    def shown(phase, counts):
        """The host that is cut off says so; afterwards it writes again."""
        need = {"host 1 cut off": "store-unavailable", "healed": f"PUT {DONE}"}.get(phase)
        return need is None or counts.get((phase, 1, need), 0) > 0

    def take_over(self, agents, history):
        """The enclave dies in the middle of its work; another one, on another host, goes on with
        its states from the last acknowledged generation."""
        dead, heir = agents[7], agents[0]
        self.assertNotEqual(dead.enclave.host, heir.enclave.host)
        dead.enclave.kill()
        dead.stopping = True
        dead.join()
        for name in dead.own:
            last = history.acknowledged(name)
            self.assertGreater(last, 0, "the enclave had written before it died")
            status, headers, body = heir.enclave.api("GET", f"/v1/state/{name}?key={KEYS[0]}")
            self.assertEqual(status, 200, body)
            self.assertGreaterEqual(int(headers["ETag"].strip('"')), last)
        heir.own += dead.own

    def final_states(self, history):
        """By an enclave of the last host, which was neither killed nor cut off."""
        final = {}
        for name in history.names():
            status, headers, body = self.fleet.enclaves[2].api(
                "GET", f"/v1/state/{name}?key={KEYS[0]}")
            self.assertIn(status, (200, 404), body)
            final[name] = (int(headers["ETag"].strip('"')), digest(body)) if status == 200 \
                else (0, "")
        return final

    def stored_as_acknowledged(self, history, final):
        """The cluster's own account: each name's generations are 1, 2, 3 and so on, each once."""
        versions = {}
        for name, value in self.fleet.stored_history("state"):
            self.assertIsNotNone(value, f"{name} was deleted")
            versions.setdefault(name.partition("/")[2], []).append(json.loads(value))
        for name in history.names():
            held = versions.get(name, [])
            generations = [version["generation"] for version in held]
            self.assertEqual(generations, list(range(1, len(held) + 1)), name)
            self.assertEqual(len({version["id"] for version in held}), len(held))
            self.assertEqual(len(held), final[name][0], name)
            self.assertGreaterEqual(len(held), history.acknowledged(name))
        done = subprocess.run([program("claviger"), "store", "check",
                               f"etcd:{self.fleet.cluster.config}"], capture_output=True, text=True,
                              check=False, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def a_minority_says_that_it_is_one(self, counts):
        cut = {what for (phase, host, what) in counts
               if phase == "host 1 cut off" and host == 1 and not what.endswith((DONE, REFUSED))}
        self.assertLessEqual(cut, {"store-unavailable", "deadline"})

    def report(self, history, counts, acknowledged):
        outcomes = {}
        for event in history.events:
            key = f"{event.kind}s {event.outcome}"
            outcomes[key] = outcomes.get(key, 0) + 1
        print(f"{ENCLAVES} enclaves on {HOSTS} hosts, {SECONDS:.0f} s: {outcomes}",
              file=sys.stderr)
        for phase, _ in PHASES:
            failed = {}
            for (at, host, what), n in counts.items():
                if at == phase and not what.endswith((DONE, REFUSED)):
                    failed[f"host {host} {what}"] = n
            print(f"  {phase}: {acknowledged[phase]:.1f} writes/s acknowledged; not answered: "
                  f"{failed or 'none'}", file=sys.stderr)


if __name__ == "__main__":
    fleet.enter_namespace()
    unittest.main(verbosity=2)
