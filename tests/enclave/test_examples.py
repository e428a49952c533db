"""The examples run as their texts say, and the clients do what the API does."""
import asyncio
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from common import NOBODY, SEALED, Case, as_uid, policy_of  # also finds tests/lib

EXAMPLES = pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "examples"
sys.path[:0] = [str(EXAMPLES / "python"), str(pathlib.Path(__file__).parents[1] / "vault")]
from claviger import AsyncClient, Client, Problem  # noqa: E402
from derivation import SECP256K1  # noqa: E402


class Examples(Case):
    @classmethod
    def policy(cls, stack):
        policy = policy_of(stack)
        policy["agents"].append({"uid": NOBODY, "may": [
            "sign:agent-state/wallet/*", "public:agent-state/wallet/*",
            "seal:agent-state/wallet/*", "unseal:agent-state/wallet/*"]})
        return policy

    def socket(self):
        return str(self.stack.dir / "agent.sock")

    def python(self, name, *arguments, text="", check=True):
        done = subprocess.run([sys.executable, EXAMPLES / "python" / name, *arguments], input=text,
                              capture_output=True, text=True, timeout=90, check=False)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def node(self, name, *arguments, text=""):
        if shutil.which("node") is None:
            self.skipTest("node is not installed")
        return subprocess.run(["node", EXAMPLES / "node" / name, *arguments], input=text,
                              capture_output=True, text=True, timeout=90, check=True).stdout

    def test_the_chat_agent_continues_after_a_crash_of_both(self):
        chat = ("chat_agent.py", "--socket", self.socket())
        self.assertEqual(self.python(*chat, text="hello\nwhat is new\n").stdout,
                         "resumed after 0 turns\nturn 1: hello\nturn 2: what is new\n")
        self.stack.restart_enclave()
        self.assertEqual(self.python(*chat, text="hello\n").stdout,
                         "resumed after 2 turns\nyou said that before, in turn 1\n")

    def test_the_tool_agent_unseals_its_key_for_one_call(self):
        tool = ("tool_agent.py", "--socket", self.socket())
        self.python(*tool, "store", "weather", text="s3cret-api-key\n")
        called = self.python(*tool, "call", "weather", "Zurich").stdout
        self.assertRegex(called, r"^weather\(Zurich\) signed [0-9a-f]{64}\n$")
        self.assertNotIn("s3cret", called)
        missing = self.python(*tool, "call", "mail", "x", check=False)
        self.assertEqual((missing.returncode, "state-not-found" in missing.stderr), (1, True))

    def test_the_wallet_signs_with_a_key_that_it_may_not_read(self):
        wallet = ("wallet.py", "--socket", self.socket())
        address = self.python(*wallet, "address").stdout.strip()
        paid = json.loads(self.python(*wallet, "pay", "10 to bob").stdout)
        self.assertEqual(paid["order"], f"{address}: 10 to bob")
        self.assertTrue(SECP256K1.verifies(
            bytes.fromhex(paid["public_key"]), hashlib.sha256(paid["order"].encode()).digest(),
            bytes.fromhex(paid["signature"])))

    @unittest.skipUnless(os.getuid() == 0, "needs root to be another agent")
    def test_an_agent_that_may_only_sign_cannot_carry_the_key_away(self):
        def attempt():
            of = {"path": "wallet/main", "purpose": "payments", "algorithm": "secp256k1"}
            with Client(self.socket()) as claviger:
                claviger.sign(of, b"order")
                try:
                    claviger.derive_key(of)
                except Problem as problem:
                    return [problem.status, problem.code]
            return None
        self.assertEqual(as_uid(NOBODY, attempt), [403, "capability-missing"])

    def test_many_agents_of_one_process_do_not_disturb_each_other(self):
        out = self.python("async_agents.py", "--socket", self.socket(), "8").stdout
        self.assertEqual(out, "8 agents, each at generation [3]\n")

    def verified(self, document, options):
        """The status of `claviger verify`, which says user_data where the example says report data;
        the last of two values counts for the example, and is the only one here."""
        options = dict(zip(options[::2], options[1::2]))
        arguments = [word.replace("--report-data", "--user-data")
                     for pair in options.items() for word in pair]
        return self.stack.run("claviger", "verify", str(document), *arguments,
                              check=False).returncode

    def test_evidence_convinces_a_stranger_and_nothing_else_does(self):
        nonce, data = secrets.token_bytes(32), secrets.token_bytes(64)
        document = self.stack.dir / "evidence.bin"
        with Client(self.socket()) as claviger:
            document.write_bytes(claviger.attest(nonce, data))
        root = (self.stack.nsm_dir / "root.sha256").read_text().strip()
        good = ["--root-sha256", root, "--nonce", nonce.hex(), "--report-data", data.hex(),
                "--pcr", f"0={self.stack.pcrs['0']}"]
        self.assertIn("verified", self.python("verify_evidence.py", str(document), *good).stdout)
        self.assertEqual(self.verified(document, good), 0)
        for change, status in ((["--nonce", "00"], 5), (["--report-data", "00"], 5),
                               (["--pcr", "0=" + "11" * 48], 5), (["--pcr", "31=" + "11" * 48], 5),
                               (["--root-sha256", "00" * 32], 4)):
            refused = self.python("verify_evidence.py", str(document), *good, *change, check=False)
            self.assertEqual((refused.returncode, refused.stderr[:8]), (1, "refused:"))
            self.assertEqual(self.verified(document, [*good, *change]), status)
        changed = bytearray(document.read_bytes())
        for at in range(0, len(changed), max(1, len(changed) // 20)):
            changed[at] ^= 1
            document.write_bytes(changed)
            refused = self.python("verify_evidence.py", str(document), *good, check=False)
            self.assertEqual(refused.returncode, 1, f"byte {at} changed")
            self.assertNotEqual(self.verified(document, good), 0, f"byte {at} changed")
            changed[at] ^= 1

    def test_the_trail_shows_what_was_asked_of_kms_and_that_this_enclave_asked(self):
        with Client(self.socket()) as claviger:
            claviger.seal("trail", SEALED)
            last = claviger.evidence()[-1]
        self.assertEqual(last["action"], "GenerateDataKey")
        self.assertIn(b"agent-state/trail", last["operation"])
        document = self.stack.dir / "call.bin"
        document.write_bytes(last["document"])
        root = (self.stack.nsm_dir / "root.sha256").read_text().strip()
        digest = hashlib.sha384(last["operation"]).hexdigest()
        expected = ["--root-sha256", root, "--report-data", digest]
        self.assertIn("verified",
                      self.python("verify_evidence.py", str(document), *expected).stdout)
        self.assertEqual(self.verified(document, expected), 0)

    def test_the_python_client_streams_and_compares_generations(self):
        with Client(self.socket()) as claviger:
            stored = claviger.put_state("client", iter([b"a" * 70000, b"b"]), generation=0)
            self.assertEqual((stored.generation, stored.size), (1, 70001))
            with claviger.open_state("client") as state:
                self.assertEqual(state.read(70000), b"a" * 70000)
            with self.assertRaises(Problem) as refused:
                claviger.put_state("client", b"x", generation=0)
            self.assertEqual((refused.exception.status, refused.exception.code),
                             (412, "api-precondition"))
            self.assertIn("client", [s.name for s in claviger.list_states("cl")])
            self.assertEqual(claviger.unseal("m", claviger.seal("m", SEALED)), SEALED)
            of = {"path": "p", "purpose": "q", "algorithm": "hmac-sha256"}
            key = bytes.fromhex(claviger.derive_key(of)["key"])
            self.assertEqual(claviger.hmac(of, b"text"), hmac.digest(key, b"text", "sha256"))
            claviger.delete_state("client", generation=1)
            self.assertTrue(claviger.ready())
            self.assertEqual(claviger.identity()["release"], "1.0.0")

    def test_the_asynchronous_client_gives_the_same_answers(self):
        async def run():
            async with AsyncClient(self.socket()) as claviger:
                sealed = await claviger.seal("m", SEALED)
                with self.assertRaises(Problem):
                    await claviger.unseal("n", sealed)
                return await claviger.unseal("m", sealed)
        self.assertEqual(asyncio.run(run()), SEALED)

    def test_the_node_examples_do_the_same(self):
        self.assertEqual(self.node("chat_agent.mjs", self.socket(), text="a\nb\n"),
                         "resumed after 0 turns\nturn 1: a\nturn 2: b\n")
        self.stack.restart_enclave()
        self.assertEqual(self.node("chat_agent.mjs", self.socket(), text="c\n"),
                         "resumed after 2 turns\nturn 3: c\n")
        paid = json.loads(self.node("wallet.mjs", self.socket(), "5 to ann"))
        self.assertTrue(paid["holds"])

    def test_the_node_tool_agent_unseals_the_same_key_for_one_call(self):
        self.assertEqual(self.node("tool_agent.mjs", self.socket(), "store", "maps",
                                   text="another-api-key\n"),
                         "stored the key of maps as generation 1\n")
        called = self.node("tool_agent.mjs", self.socket(), "call", "maps", "Bern")
        self.assertEqual(called, self.python("tool_agent.py", "--socket", self.socket(), "call",
                                             "maps", "Bern").stdout)
        self.assertNotIn("another-api-key", called)

    def test_each_client_can_be_read_in_one_sitting(self):
        for client in ("python/claviger.py", "node/claviger.mjs"):
            self.assertLess(len((EXAMPLES / client).read_text().splitlines()), 300, client)

    def test_a_client_outlives_its_connection(self):
        """The daemon closes idle ones; a restart is the same, at once."""
        with Client(self.socket()) as claviger:
            claviger.put_state("outlives", b"before")
            self.stack.restart_enclave()
            self.assertEqual(claviger.get_state("outlives").data, b"before")

    def test_a_call_that_is_given_up_costs_no_other_its_answer(self):
        async def run():
            async with AsyncClient(self.socket()) as claviger:
                stored = await claviger.put_state("waited", b"x")
                waiting = asyncio.create_task(claviger.wait_state("waited", stored.generation, 2))
                await asyncio.sleep(0.2)
                waiting.cancel()
                answers = await asyncio.gather(*(claviger.get_state("waited") for _ in range(8)))
                return {a.data for a in answers}, await claviger.wait_state("waited", 1000, 1)
        answers, later = asyncio.run(run())
        self.assertEqual((answers, later.data), ({b"x"}, b"x"))

    def test_a_client_that_gives_up_half_a_body_still_works(self):
        def body():
            yield b"half"
            raise KeyError("no more")
        with Client(self.socket()) as claviger:
            with self.assertRaises(KeyError):
                claviger.put_state("half", body())
            with self.assertRaises(Problem) as missing:
                claviger.get_state("half")
            self.assertEqual(missing.exception.code, "state-not-found")

    def test_the_node_client_does_what_the_python_client_does(self):
        script = self.stack.dir / "client.mjs"
        script.write_text(f"""
import {{ Readable }} from 'node:stream';
import {{ Claviger, Problem }} from '{EXAMPLES / "node" / "claviger.mjs"}';
const c = new Claviger('{self.socket()}');
const stored = await c.putState('from-node/o',
                                Readable.from([Buffer.from('pieces'), Buffer.from(' two')]),
                                {{ generation: 0 }});
const read = await c.getState('from-node/o', {{ generation: 1 }});
const refused = await c.putState('from-node/o', 'x', {{ generation: 0 }}).catch((e) => e);
const of = {{ path: 'p', purpose: 'q', algorithm: 'hmac-sha256' }};
console.log(JSON.stringify({{
  stored, data: read.data.toString(), code: refused.code,
  problem: refused instanceof Problem,
  listed: (await c.listStates('from-node')).length,
  unsealed: (await c.unseal('m', await c.seal('m', 'text'))).toString(),
  tag: (await c.hmac(of, 'text')).toString('hex'),
  document: (await c.attest({{ nonce: 'n' }})).length > 1000,
  ready: await c.ready(), release: (await c.identity()).release }}));
c.close();
""")
        if shutil.which("node") is None:
            self.skipTest("node is not installed")
        done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        with Client(self.socket()) as claviger:
            tag = claviger.hmac({"path": "p", "purpose": "q", "algorithm": "hmac-sha256"}, b"text")
        self.assertEqual(out, {
            "stored": {"name": "from-node/o", "generation": 1, "size": 10}, "data": "pieces two",
            "code": "api-precondition", "problem": True, "listed": 1, "unsealed": "text",
            "tag": tag.hex(), "document": True, "ready": True, "release": "1.0.0"})


class Try(unittest.TestCase):
    """tools/try: an enclave for a newcomer."""

    def setUp(self):
        self.dir = self.enterContext(tempfile.TemporaryDirectory())
        self.env = {**os.environ, "TMPDIR": self.dir}
        self.program = str(EXAMPLES.parent / "tools" / "try")

    def test_a_command_runs_with_an_enclave_that_is_gone_afterwards(self):
        done = subprocess.run([self.program, sys.executable, EXAMPLES / "python" / "wallet.py",
                               "pay", "1 to bob"], env=self.env, capture_output=True, text=True,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 to bob", json.loads(done.stdout)["order"])
        self.assertEqual(os.listdir(self.dir), [])

    def test_it_serves_until_it_is_told_to_stop(self):
        with subprocess.Popen([self.program], env=self.env, stdout=subprocess.PIPE,
                              text=True) as running:
            line = next(line for line in running.stdout if "CLAVIGER_SOCKET=" in line)
            with Client(line.strip().split("=")[1]) as claviger:
                self.assertTrue(claviger.ready())
            running.send_signal(signal.SIGINT)
            self.assertEqual(running.wait(60), 0)
        self.assertEqual(os.listdir(self.dir), [])


if __name__ == "__main__":
    unittest.main()
