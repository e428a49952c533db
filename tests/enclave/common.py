"""What the agent API's end-to-end tests share: one running stack a class, and calls as another uid."""
import contextlib
import json
import os
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Stack  # noqa: E402

NOBODY = 65534
SEALED = b"what the agent knows"


def policy_of(stack: Stack, **more) -> dict:
    """The stack's policy, with every capability for this uid and members replaced."""
    policy = stack.default_policy()
    verbs = ("seal", "unseal", "delete", "derive", "public", "sign", "hmac", "attest",
             "decrypt", "generate")
    policy["agents"] = [{"uid": os.getuid(), "may": [f"{verb}:agent-state" for verb in verbs]}]
    policy.update(more)
    return policy


def as_uid(uid: int, call):
    """Run call() in a child with another uid and gid; its answer must be JSON."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.write(write, json.dumps(call()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)


class Case(unittest.TestCase):
    """Tests of one class share a stack, started with the class's policy()."""

    stack: Stack
    stack_type = Stack

    @classmethod
    def policy(cls, stack: Stack) -> dict:
        return policy_of(stack)

    @classmethod
    def setUpClass(cls) -> None:
        cls.exit = contextlib.ExitStack()
        try:
            cls.stack = cls.exit.enter_context(cls.stack_type())
            os.chmod(cls.stack.dir, 0o711)
            cls.stack.prepare()
            cls.stack.write_policy(cls.policy(cls.stack))
            cls.stack.start_nsm()
            cls.stack.start_parent()
            cls.stack.start_enclave()
        except BaseException:
            cls.exit.close()
            raise

    @classmethod
    def tearDownClass(cls) -> None:
        log = cls.stack.running["clavigerd"].log
        status = cls.stack.running["clavigerd"].stop()
        cls.exit.close()
        if "Sanitizer" in log or status != 0:
            raise AssertionError(f"clavigerd ended with {status}: {log[-3000:]}")

    def api(self, method, path, body=None, headers=None):
        return self.stack.api(method, path, body, headers)

    def json_api(self, method, path, body, **more):
        status, headers, answer = self.api(method, path, json.dumps(body).encode(),
                                           {"Content-Type": "application/json", **more})
        return status, json.loads(answer)

    def refused(self, answer, status, code):
        """The answer is a problem document with this status and code, complete and consistent."""
        found, headers, body = answer
        self.assertEqual(found, status, body)
        self.assertEqual(headers["Content-Type"], "application/problem+json")
        problem = json.loads(body)
        self.assertEqual((problem["code"], problem["status"]), (code, status), problem)
        self.assertEqual(problem["type"], f"urn:claviger:problem:{code}")
        self.assertEqual(problem["operation"], headers["Claviger-Operation"])
        self.assertTrue(problem["detail"] and problem["title"])
        return problem
