"""Starts the real programs in a directory of their own, for the demo and the end-to-end tests.

    with Stack() as stack:
        stack.start()
        status, headers, body = stack.api("GET", "/v1/identity")

Everything listens on Unix sockets in the directory or on free loopback ports. Leaving the block
ends every process and removes the directory. Standard library only.
"""
from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("CLAVIGER_SOURCE",
                                     pathlib.Path(__file__).resolve().parents[2]))
BUILD = pathlib.Path(os.environ.get("CLAVIGER_BUILD", SOURCE / "build"))
REGION = "us-east-1"
ENDPOINT = f"https://kms.{REGION}.amazonaws.com"
READY_SECONDS = 40


def program(name: str) -> str:
    """The path of a built program: in build/src/<room>/, or in build/tests/ for the tests' own."""
    for folder in ("src", "tests"):
        for path in BUILD.glob(f"{folder}/**/{name}"):
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    raise FileNotFoundError(f"{name} is not built in {BUILD}")


def pcr(text: str) -> str:
    """A made-up measurement: the SHA-384 of a text, as hex."""
    return hashlib.sha384(text.encode()).hexdigest()


def policy_pcr(policy: bytes) -> str:
    """What PCR16 holds once the policy's bytes are measured into it."""
    return hashlib.sha384(bytes(48) + hashlib.sha384(policy).digest()).hexdigest()


class Failed(Exception):
    """A program ended when it should have served."""

    def __init__(self, name: str, status: int, log: str):
        super().__init__(f"{name} ended with status {status}: {log.strip()[-600:]}")
        self.status = status
        self.log = log


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float = 30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Process:
    """One running program and what it wrote."""

    def __init__(self, name: str, arguments: list[str], directory: pathlib.Path, env=None,
                 prefix=()):
        self.name = name
        self.ready_file = directory / f"{name}.ready"
        self.log_file = directory / f"{name}.log"
        self.ready_file.unlink(missing_ok=True)
        self.ready: dict = {}
        with open(self.log_file, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                [*prefix, program(name), *arguments, "--ready-file", str(self.ready_file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    @property
    def log(self) -> str:
        with open(self.log_file, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def wait_ready(self, seconds: float = READY_SECONDS) -> "Process":
        deadline = time.monotonic() + seconds
        while not self.ready_file.exists():
            status = self.process.poll()
            if status is not None:
                raise Failed(self.name, status, self.log)
            if time.monotonic() > deadline:
                self.kill()
                raise Failed(self.name, -1, "not ready in time\n" + self.log)
            time.sleep(0.01)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def wait_end(self, seconds: float = READY_SECONDS) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


class Stack:
    """The NSM, the KMS, the parent and the enclave daemon, wired as in a deployment."""

    def __init__(self) -> None:
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-"))
        self.nsm_dir = self.dir / "nsm"
        self.kms_dir = self.dir / "kms"
        self.running: dict[str, Process] = {}  # by name: the one started last
        self.started: list[Process] = []
        self.pcrs = {str(i): pcr(f"image {i}") for i in range(3)}
        self.keys: dict[str, str] = {}
        self.policy_file = self.dir / "policy.json"
        self.release_key = self.dir / "release.key"
        self.baseline = self.dir / "baseline.json"
        self.kms_target = ""
        self.store = f"sqlite:{self.dir / 'store.db'}"
        self.nsm_arguments: list[str] = []
        self.enclave_arguments: list[str] = []
        self.parent_arguments: list[str] = []
        self.prefix: dict[str, list[str]] = {}  # by program: what it is started with

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        for process in reversed(self.started):
            process.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def address(self, name: str) -> str:
        return f"unix:{self.dir / name}.sock"

    def nsm_address(self) -> str:
        """Where the daemon finds its NSM."""
        return self.address("nsm")

    def run(self, name: str, *arguments: str, check: bool = True, **more):
        """A program that ends by itself: the completed process, its output as text."""
        return subprocess.run([program(name), *arguments], check=check, capture_output=True,
                              text=True, timeout=240, stdin=more.pop("stdin", subprocess.DEVNULL),
                              **more)

    def spawn(self, name: str, *arguments: str, ready: bool = True, env=None) -> Process:
        process = Process(name, list(arguments), self.dir, env, self.prefix.get(name, ()))
        self.running[name] = process
        self.started.append(process)
        return process.wait_ready() if ready else process

    # -- what a deployer prepares ------------------------------------------------------------

    def prepare(self) -> None:
        """Everything that exists before the first start: roots, keys, policy, baseline."""
        self.run("claviger-nsm", "init", str(self.nsm_dir))
        self.run("claviger-kms", "init", str(self.kms_dir))
        self.credentials = json.loads((self.kms_dir / "credentials.json").read_text())
        self.start_kms()
        for name in ("agent-state", "other"):
            status, answer = self.kms("CreateKey", {"Description": name})
            assert status == 200, answer
            self.keys[name] = answer["KeyMetadata"]["Arn"]
        subprocess.run(["minisign", "-G", "-W", "-f", "-p", f"{self.release_key}.pub", "-s",
                        str(self.release_key)], check=True, capture_output=True)
        self.sign_baseline([{"name": "1.0.0", "pcrs": self.pcrs}])
        self.write_policy(self.default_policy())

    def default_policy(self) -> dict:
        return {
            "version": 1,
            "enclave": "agent-runtime",
            "attestation": {
                "root_sha256": (self.nsm_dir / "root.sha256").read_text().strip(),
                "release_keys": [pathlib.Path(f"{self.release_key}.pub").read_text()
                                 .splitlines()[1]],
            },
            "kms": {"region": REGION, "endpoint": ENDPOINT,
                    "ca_file": str(self.kms_dir / "ca.pem")},
            "keys": {
                "agent-state": {
                    "key_id": self.keys["agent-state"],
                    "operations": ["GenerateDataKey", "Decrypt"],
                    "encryption_context": {"Purpose": "AgentSecrets", "enclave": "${enclave}"},
                },
            },
            "agents": [{"uid": os.getuid(),
                        "may": ["seal:agent-state", "unseal:agent-state", "delete:agent-state"]}],
        }

    def write_policy(self, policy: dict | bytes, grant: bool = True) -> bytes:
        """Write the policy file; with grant, let the KMS key answer exactly this measurement."""
        text = policy if isinstance(policy, bytes) else json.dumps(policy, indent=2).encode()
        self.policy_file.write_bytes(text)
        if grant:
            self.put_key_policy("agent-state", policy_pcr(text))
        return text

    def put_key_policy(self, name: str, pcr16: str) -> None:
        account = self.keys[name].split(":")[4]
        root = {"AWS": f"arn:aws:iam::{account}:root"}
        document = {"Version": "2012-10-17", "Statement": [
            {"Sid": "administration", "Effect": "Allow", "Principal": root, "Resource": "*",
             "Action": ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"]},
            {"Sid": "this enclave only", "Effect": "Allow", "Principal": root, "Resource": "*",
             "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
             "Condition": {"StringEqualsIgnoreCase": {
                 "kms:RecipientAttestation:ImageSha384": self.pcrs["0"],
                 "kms:RecipientAttestation:PCR16": pcr16}}}]}
        status, answer = self.kms("PutKeyPolicy", {
            "KeyId": self.keys[name], "PolicyName": "default", "Policy": json.dumps(document)})
        assert status == 200, answer

    def sign_baseline(self, releases: list[dict], revoked: list[str] | None = None) -> None:
        document = {"version": 1, "releases": releases, "revoked": revoked or []}
        self.baseline.write_text(json.dumps(document, indent=2))
        subprocess.run(["minisign", "-S", "-s", str(self.release_key), "-m", str(self.baseline),
                        "-x", f"{self.baseline}.minisig"], check=True, capture_output=True)

    # -- the processes ------------------------------------------------------------------------

    def start(self) -> None:
        self.prepare()
        self.start_nsm()
        self.start_parent()
        self.start_enclave()

    def start_nsm(self, pcrs: dict | None = None, directory: pathlib.Path | None = None) -> Process:
        """A new NSM process is a new boot of the enclave: fresh registers under the same root."""
        if "claviger-nsm" in self.running:
            self.running["claviger-nsm"].stop()
        boot = self.dir / "pcrs.json"
        boot.write_text(json.dumps(self.pcrs if pcrs is None else pcrs))
        return self.spawn("claviger-nsm", "serve", str(directory or self.nsm_dir), "--pcrs",
                          str(boot), "--listen", self.address("nsm"), *self.nsm_arguments)

    def start_kms(self) -> Process:
        listen = f"tcp:{self.kms_target}" if self.kms_target else "tcp:127.0.0.1:0"
        process = self.spawn("claviger-kms", "serve", str(self.kms_dir), "--listen", listen,
                             "--attestation-root", str(self.nsm_dir / "root.pem"),
                             "--region", REGION)
        self.kms_target = process.ready["listen"].removeprefix("tcp:")
        return process

    def start_parent(self, relay_to: str | None = None) -> Process:
        if "claviger-parent" in self.running:
            self.running["claviger-parent"].stop()
        return self.spawn(
            "claviger-parent", "serve", "--enclave", self.address("control"),
            "--services", self.address("services"),
            "--relay", f"{self.address('relay')}={relay_to or self.kms_target}",
            "--store", self.store,
            "--credentials", f"file:{self.kms_dir / 'credentials.json'}",
            "--baseline", str(self.baseline), "--baseline-signature", f"{self.baseline}.minisig",
            *self.parent_arguments)

    def start_enclave(self, policy: pathlib.Path | None = None, ready: bool = True) -> Process:
        return self.spawn(
            "clavigerd", "--policy", str(policy or self.policy_file), "--nsm", self.nsm_address(),
            "--control", self.address("control"), "--services", self.address("services"),
            "--relay", self.address("relay"), "--agent", self.address("agent"),
            *self.enclave_arguments, ready=ready)

    def restart_enclave(self, **more) -> Process:
        """The enclave dies without warning and boots again, as the parent would start it."""
        if "clavigerd" in self.running:
            self.running["clavigerd"].kill()
        self.start_nsm()
        return self.start_enclave(**more)

    # -- what the sides do --------------------------------------------------------------------

    def setup(self, request: dict | str, document: pathlib.Path | None = None):
        """The parent's key setup: the completed process (status, stdout JSON, stderr)."""
        text = request if isinstance(request, str) else json.dumps(request)
        path = self.dir / "request.json"
        path.write_text(text)
        extra = ["--document", str(document)] if document else []
        return self.run("claviger-parent", "setup", "--enclave", self.address("control"),
                        "--store", self.store, *extra, str(path),
                        check=False)

    def api(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        """The agent's call: (status, headers, body)."""
        with contextlib.closing(UnixConnection(str(self.dir / "agent.sock"))) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

    def kms(self, operation: str, parameters: dict, credentials: dict | None = None):
        """A signed request straight to the KMS, as an administrator makes it: (status, JSON)."""
        body = json.dumps(parameters).encode()
        host = f"kms.{REGION}.amazonaws.com"
        headers = sign(credentials or self.credentials, host, operation, body)
        address, port = self.kms_target.rsplit(":", 1)
        context = ssl.create_default_context(cafile=str(self.kms_dir / "ca.pem"))
        with socket.create_connection((address, int(port)), 20) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname=host) as tls:
                connection = http.client.HTTPConnection(host)
                connection.sock = tls
                connection.request("POST", "/", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                return answer.status, json.loads(text) if text else {}

    def reveal(self, blob_base64: str) -> bytes:
        """The data key inside a CiphertextBlob, read from the KMS's database."""
        out = self.run("claviger-kms", "reveal", str(self.kms_dir), "--blob", blob_base64)
        return base64.b64decode(out.stdout.strip())


def sign(credentials: dict, host: str, operation: str, body: bytes) -> dict:
    """Signature Version 4 for one KMS request: the headers to send."""
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"content-type": "application/x-amz-json-1.1", "host": host, "x-amz-date": stamp,
               "x-amz-target": f"TrentService.{operation}"}
    if credentials.get("Token"):
        headers["x-amz-security-token"] = credentials["Token"]
    names = ";".join(sorted(headers))
    canonical = "POST\n/\n\n" + "".join(f"{k}:{headers[k]}\n" for k in sorted(headers)) + \
        f"\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{day}/{REGION}/kms/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + credentials["SecretAccessKey"]).encode()
    for part in (day, REGION, "kms", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials['AccessKeyId']}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}")
    return headers
