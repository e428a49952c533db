"""dstack's published SDK for JavaScript against clavigerd, unchanged.

Skipped where tests/npm has no node_modules (`npm ci` in tests/npm puts them there).
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

from common import Case, policy_of

NPM = pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "tests" / "npm"


class DstackSdk(Case):
    @classmethod
    def policy(cls, stack):
        stack.enclave_arguments = ["--dstack", stack.address("dstack")]
        return policy_of(stack)

    def test_the_published_sdk_runs_unchanged(self):
        done = subprocess.run(["node", NPM / "dstack_client.mjs", self.stack.dir / "dstack.sock"],
                              capture_output=True, text=True, timeout=90, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = json.loads(done.stdout)
        self.assertTrue(out["reachable"])
        self.assertEqual((out["key"], out["chain"]), (out["again"], 0))
        self.assertEqual(len({out["key"], out["purpose"], out["ed25519"]}), 3)
        self.assertEqual(out["info"]["tcb_info"]["mrtd"], self.stack.pcrs["0"])
        self.assertTrue(out["denied"])
        document = self.stack.dir / "quote.bin"
        document.write_bytes(bytes.fromhex(out["quote"]))
        self.stack.run("claviger", "inspect", str(document))


if __name__ == "__main__":
    if shutil.which("node") is None or not (NPM / "node_modules" / "@phala").is_dir():
        print("skipped: no node, or no @phala/dstack-sdk in tests/npm")
        sys.exit(77)
    unittest.main(verbosity=2)
