"""The C client (tests/tools/kms_call.c) against the Lab's KMS and NSM: for tests and measuring."""
from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "sim"))
from kms_lab import ACCOUNT, HOST, Lab, PCRS  # noqa: E402
from claviger_stack import policy_pcr, program  # noqa: E402

REGION = "us-east-1"


class Client:
    """One enclave: it measures a policy into an NSM of its own and calls through the relay."""

    def __init__(self, lab: Lab, credentials: dict | None = None, region: str = REGION,
                 name: str = "client", debug: bool = False):
        self.lab = lab
        directory = lab.dir / name
        directory.mkdir()
        policy = json.dumps({
            "version": 1, "enclave": name,
            "attestation": {"root_sha256": (lab.nsm_dir / "root.sha256").read_text().strip(),
                            "pcrs": {"8": PCRS["8"]}, "allow_debug": debug},
            "kms": {"region": region, "endpoint": f"https://{HOST}",
                    "ca_file": str(lab.kms_dir / "ca.pem")},
            "keys": {"unused": {"key_id": f"arn:aws:kms:{region}:{ACCOUNT}:key/"
                                          "00000000-0000-0000-0000-000000000000",
                                "operations": ["Decrypt"]}},
            "agents": []}).encode()
        self.pcr16 = policy_pcr(policy)
        (directory / "policy.json").write_bytes(policy)
        (directory / "credentials.json").write_text(json.dumps(credentials or lab.credentials))
        socket_name = f"{name}.sock"
        lab.start_nsm(socket_name)
        self.process = subprocess.Popen(
            [program("kms-call"), str(directory / "policy.json"), f"unix:{lab.dir / socket_name}",
             f"tcp:127.0.0.1:{lab.port}", str(directory / "credentials.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lab.stack.callback(self.close)

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()

    def call(self, action: str, **more) -> dict:
        self.process.stdin.write(json.dumps({"action": action} | more) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"kms-call ended with status {self.process.wait(20)}"
        return json.loads(line)

    def ok(self, action: str, **more) -> dict:
        answer = self.call(action, **more)
        assert answer["code"] == "ok", answer
        return answer
