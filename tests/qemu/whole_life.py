"""The whole life inside a virtual machine: the NSM is a character device, the channel is vsock.

Run by tools/check-qemu as the guest's only program. What it adds to the other tests: the ioctl
transport of the NSM client against a real device node, and every address of the form vsock:CID:PORT.
"""
import json
import os
import stat
import sys
import unittest

sys.path.insert(0, os.path.join(os.environ["CLAVIGER_SOURCE"], "tests", "lib"))
from claviger_stack import Stack  # noqa: E402

# CID 1 is the guest itself (VMADDR_CID_LOCAL); in a deployment the parent is 3.
VSOCK = {"control": "vsock:1:5000", "services": "vsock:1:5001", "relay": "vsock:1:5002"}


class GuestStack(Stack):
    def address(self, name):
        return VSOCK.get(name) or super().address(name)

    def start_nsm(self, **more):
        self.nsm_arguments = ["--cuse", "nsm"]
        return super().start_nsm(**more)

    def nsm_address(self):
        return "device:/dev/nsm"


class WholeLife(unittest.TestCase):
    def test_state_outlives_a_reboot_over_dev_nsm_and_vsock(self):
        with GuestStack() as stack:
            stack.start()
            self.assertTrue(stat.S_ISCHR(os.stat("/dev/nsm").st_mode))
            status, _, body = stack.api("GET", "/v1/identity")
            self.assertEqual(status, 200, body)
            request = {"keyId": stack.keys["agent-state"], "encryptionContext": {}}
            done = stack.setup(request)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("ciphertextBlob", json.loads(done.stdout))
            status, _, body = stack.api("PUT", "/v1/state/memory", b"over vsock")
            self.assertIn(status, (200, 201), body)
            stack.restart_enclave()
            status, _, body = stack.api("GET", "/v1/state/memory")
            self.assertEqual((status, body), (200, b"over vsock"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
