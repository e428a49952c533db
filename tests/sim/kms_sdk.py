"""The AWS SDK for JavaScript against claviger-kms; skipped where tests/npm has no node_modules."""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from kms_lab import PCRS, Lab  # noqa: E402

NPM = pathlib.Path(os.environ["CLAVIGER_SOURCE"]) / "tests" / "npm"


class JavaScript(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = cls.enterClassContext(Lab())
        cls.env = cls.lab.client_environment()

    def test_calls_right_and_wrong(self):
        document = self.lab.dir / "document"
        document.write_bytes(self.lab.document())
        done = subprocess.run(["node", str(NPM / "kms_client.mjs"), document, self.lab.recipient.key],
                              capture_output=True, text=True, timeout=300, env=self.env | {"PCR0": PCRS["0"]})
        self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr[-3000:])
        calls = int(done.stdout.splitlines()[-1].split()[0])
        self.assertGreaterEqual(calls, 40)
        # What the client sent arrived, and nothing else: one audit record a call or page.
        self.assertGreaterEqual(len(self.lab.audit()), calls)


if __name__ == "__main__":
    if not shutil.which("node") or not (NPM / "node_modules/@aws-sdk/client-kms").is_dir():
        print("skipped: no node, or no @aws-sdk/client-kms in tests/npm")
        sys.exit(77)
    unittest.main()
