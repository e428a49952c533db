#!/usr/bin/env python3
"""Sealing a file from end to end, `claviger seal` and `unseal` through the running daemon, beside
what else the same machine does with the same file in the same run, by the wall clock and by the
processor time of all programs that take part (on a busy machine that one says more):

    openssl      the bare cipher, `openssl speed -evp aes-256-gcm` at the stream's frame length
    two sockets  the file's bytes through a Unix socket to a process that only sends them back:
                 the floor of any service that is not the caller's own process
    client-node  @aws-crypto/client-node, the same suite, frame length and key, file to file
                 (left out where tests/npm has no node_modules)

then the daemon's memory above idle while it seals and unseals a stream larger than memory need be,
and messages of 1 KiB with a cached data key.

BENCH_MIB (1024) is the file's size, BENCH_STREAM_MIB (4096) the long stream's.
"""
import json
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CLAVIGER_SOURCE", str(SOURCE))
os.environ.setdefault("CLAVIGER_BUILD", str(SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests" / "lib"))
from claviger_stack import BUILD, REGION, Stack, policy_pcr, program  # noqa: E402

MIB = int(os.environ.get("BENCH_MIB", "1024"))
STREAM_MIB = int(os.environ.get("BENCH_STREAM_MIB", "4096"))
FRAME = 65536  # what streams are sealed with
PIECE = 256 * 1024
NPM = SOURCE / "tests" / "npm"


class Cost(NamedTuple):
    """What the file took: seconds."""
    wall: float
    processor: float


def openssl_cost() -> Cost:
    def rate(*more: str) -> float:
        done = subprocess.run(["openssl", "speed", "-mr", *more, "-evp", "aes-256-gcm", "-bytes",
                               str(FRAME), "-seconds", "3"], capture_output=True, text=True,
                              check=True)
        line = next(l for l in done.stdout.splitlines() if l.startswith("+F:"))
        return float(line.rsplit(":", 1)[1]) / (1 << 20)
    return Cost(MIB / rate("-elapsed"), MIB / rate())


def processor_time(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(work, *others: int) -> Cost:
    """Of this process, its children and the running processes that serve them."""
    def used() -> float:
        ours = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in ours) + sum(map(processor_time, others))
    before, started = used(), time.monotonic()
    work()
    return Cost(time.monotonic() - started, used() - before)


def echo(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while piece := connection.recv(PIECE):
            connection.sendall(piece)


def two_sockets(plain: pathlib.Path, out: pathlib.Path) -> None:
    """The same path as a seal's: a thread sends the file, another writes what comes back."""
    address = str(plain.parent / "echo.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    child = os.fork()
    if child == 0:
        echo(listener)
        os._exit(0)
    listener.close()
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(address)

        def send():
            with open(plain, "rb", 0) as source:
                while piece := source.read(PIECE):
                    stream.sendall(piece)
            stream.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        with open(out, "wb", 0) as copy:
            while piece := stream.recv(PIECE):
                copy.write(piece)
            os.fsync(copy.fileno())
        sender.join()
    os.waitpid(child, 0)
    os.unlink(address)


def claviger(stack: Stack, verb: str, source, to) -> None:
    subprocess.run([program("claviger"), verb, "--name", "bench", "--agent",
                    stack.address("agent"), "--output", str(to), str(source)], check=True)


def client_node(stack: Stack, *arguments) -> None:
    port = stack.kms_target.rsplit(":", 1)[1]
    environment = {**os.environ, "AWS_ENDPOINT_URL_KMS": f"https://localhost:{port}",
                   "AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": stack.credentials["AccessKeyId"],
                   "AWS_SECRET_ACCESS_KEY": stack.credentials["SecretAccessKey"],
                   "NODE_EXTRA_CA_CERTS": str(stack.kms_dir / "ca.pem")}
    verb, *rest = arguments
    done = subprocess.run(["node", str(NPM / "kms_stream.mjs"), verb, stack.keys["agent-state"],
                           *map(str, rest)], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)


def throughput(stack: Stack, directory: pathlib.Path) -> None:
    plain, sealed, opened = (directory / name for name in ("plain", "sealed", "opened"))
    block = os.urandom(1 << 20)
    with open(plain, "wb") as out:
        for _ in range(MIB):
            out.write(block)
    daemon = stack.running["clavigerd"].process.pid
    costs = {"openssl": openssl_cost(),
             "two sockets": cost(lambda: two_sockets(plain, opened)),
             "claviger seal": cost(lambda: claviger(stack, "seal", plain, sealed), daemon),
             "claviger unseal": cost(lambda: claviger(stack, "unseal", sealed, opened), daemon)}
    subprocess.run(["cmp", str(plain), str(opened)], check=True)
    if (NPM / "node_modules").is_dir() and shutil.which("node"):
        theirs = directory / "theirs"
        costs["client-node encrypt"] = cost(lambda: client_node(
            stack, "encrypt", FRAME, plain, theirs, "Purpose=AgentSecrets",
            "enclave=agent-runtime", "claviger:name=agent-state/bench", "claviger:generation=0"))
        costs["client-node decrypt"] = cost(
            lambda: client_node(stack, "decrypt", sealed, opened))
        subprocess.run(["cmp", str(plain), str(opened)], check=True)
        claviger(stack, "unseal", theirs, opened)
        subprocess.run(["cmp", str(plain), str(opened)], check=True)
    print(f"a file of {MIB} MiB, frames of {FRAME} bytes")
    print(f"{'':22} {'MiB/s':>7} {'of openssl':>10} {'of sockets':>10}   {'MiB a processor s':>17} "
          f"{'of openssl':>10} {'of sockets':>10}")
    for name, c in costs.items():
        ratios = [(costs[floor].wall / c.wall, costs[floor].processor / c.processor)
                  for floor in ("openssl", "two sockets")]
        print(f"{name:22} {MIB / c.wall:7.0f} {ratios[0][0]:10.2f} {ratios[1][0]:10.2f}   "
              f"{MIB / c.processor:17.0f} {ratios[0][1]:10.2f} {ratios[1][1]:10.2f}")


def peak_kib(pid: int) -> int:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def memory(stack: Stack) -> None:
    for verb in ("seal", "unseal"):
        stack.restart_enclave()
        command = f"{program('claviger')} {{}} --name n --agent {stack.address('agent')}"
        source = f"head -c {STREAM_MIB}M /dev/zero"
        if verb == "unseal":
            # Two daemons would be needed to seal apart from what is measured: the file is made first.
            sealed = stack.dir / "stream.sealed"
            subprocess.run(["bash", "-c", f"{source} | {command.format('seal')} > {sealed}"],
                           check=True)
            stack.restart_enclave()
            source = f"cat {sealed}"
        daemon = stack.running["clavigerd"].process.pid
        idle, before = peak_kib(daemon), time.monotonic()
        subprocess.run(["bash", "-c", f"set -o pipefail; {source} | {command.format(verb)} "
                        "> /dev/null"], check=True)
        print(f"{verb} {STREAM_MIB} MiB: {peak_kib(daemon) - idle} KiB above idle ({idle} KiB), "
              f"{STREAM_MIB / (time.monotonic() - before):.0f} MiB/s; goal: at most 8192 KiB",
              flush=True)


def small_messages(stack: Stack) -> None:
    body = stack.dir / "1k"
    body.write_bytes(os.urandom(1024))
    for clients in (1, 16):
        done = subprocess.run(
            [str(BUILD / "bench" / "load"), "run", f"unix:{stack.dir / 'agent.sock'}", str(clients),
             "3", "POST", "/v1/seal?name=bench", str(body)],
            capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"messages of 1 KiB with a cached data key, {clients:2} clients: {found['rps']} a "
              f"second, {found['failed']} failed")


def start(stack: Stack) -> None:
    stack.enclave_arguments = ["--agent-rate", "0", "--log-level", "error"]
    stack.prepare()
    policy = stack.default_policy()
    policy["keys"]["agent-state"]["cache"] = {
        "max_age_s": 3600, "max_messages": 4000000000, "max_bytes": 1 << 50}
    text = stack.write_policy(policy)
    account = stack.keys["agent-state"].split(":")[4]
    root = {"AWS": f"arn:aws:iam::{account}:root"}
    actions = ["kms:GenerateDataKey", "kms:Decrypt"]
    stack.kms("PutKeyPolicy", {
        "KeyId": stack.keys["agent-state"], "PolicyName": "default", "Policy": json.dumps({
            "Version": "2012-10-17", "Statement": [
                {"Sid": "enclave", "Effect": "Allow", "Principal": root, "Resource": "*",
                 "Action": actions, "Condition": {"StringEqualsIgnoreCase": {
                     "kms:RecipientAttestation:PCR16": policy_pcr(text)}}},
                {"Sid": "client-node", "Effect": "Allow", "Principal": root, "Resource": "*",
                 "Action": actions + ["kms:PutKeyPolicy"]}]})})
    stack.start_nsm()
    stack.start_parent()
    stack.start_enclave()


def main() -> None:
    with Stack() as stack, tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        start(stack)
        throughput(stack, pathlib.Path(directory))
        small_messages(stack)
        memory(stack)


if __name__ == "__main__":
    main()
