#!/usr/bin/env python3
"""The agents' API: requests a second, latency and memory, against a plain libmicrohttpd handler that
answers constant bytes of about the same size over the same kind of socket, in the same run.

Derivation and sealing run with the policy's key cache on, so that what is measured is the daemon and
not KMS. Clients and daemon share the machine's processors.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CLAVIGER_SOURCE", str(SOURCE))
os.environ.setdefault("CLAVIGER_BUILD", str(SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tests" / "lib"))
from claviger_stack import BUILD, Stack  # noqa: E402

SECONDS = os.environ.get("BENCH_SECONDS", "2")
CLIENTS = (1, 16, 256)
LOAD = str(BUILD / "bench" / "load")
CACHE = {"max_age_s": 3600, "max_messages": 4000000000, "max_bytes": 1 << 50}


def memory(pid: int) -> str:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return f"{int(line.split()[1]) / 1024:.1f} MiB"
    return "?"


def load(socket: str, clients: int, *request: str) -> dict:
    done = subprocess.run([LOAD, "run", f"unix:{socket}", str(clients), SECONDS, *request],
                          capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def start(stack: Stack) -> None:
    stack.enclave_arguments = ["--agent-rate", "0", "--log-level", "error"]
    stack.prepare()
    policy = stack.default_policy()
    policy["keys"]["agent-state"]["cache"] = CACHE
    policy["agents"][0]["may"] += ["derive:agent-state"]
    stack.write_policy(policy)
    stack.start_nsm()
    stack.start_parent()
    stack.start_enclave()


def main() -> None:
    with Stack() as stack:
        start(stack)
        body, key, raw = (stack.dir / name for name in ("4k", "key.json", "raw.json"))
        body.write_bytes(os.urandom(4096))
        key.write_text('{"path":"wallet/main","purpose":"bench","algorithm":"ed25519"}')
        raw.write_text('{"path":"wallet/main","purpose":"bench","algorithm":"raw"}')
        plain = str(stack.dir / "plain.sock")
        floor = subprocess.Popen([LOAD, "serve", f"unix:{plain}", "600"])
        while not os.path.exists(plain):
            time.sleep(0.01)
        agent = str(stack.dir / "agent.sock")
        daemon = stack.running["clavigerd"].process.pid
        rows = [
            ("constant bytes (floor)", plain, floor.pid, ("GET", "/")),
            ("identity", agent, daemon, ("GET", "/v1/identity")),
            ("derive raw", agent, daemon,
             ("POST", "/v1/keys/derive", str(raw), "application/json")),
            ("derive ed25519", agent, daemon,
             ("POST", "/v1/keys/derive", str(key), "application/json")),
            ("constant, 4 KiB sent (floor)", plain, floor.pid, ("POST", "/", str(body))),
            ("seal 4 KiB", agent, daemon, ("POST", "/v1/seal?name=bench", str(body))),
        ]
        rate = {}
        try:
            print(f"idle: clavigerd {memory(daemon)}, floor {memory(floor.pid)}")
            print(f"{'':28} {'clients':>7} {'requests/s':>10} {'p50':>9} {'p99':>9} {'failed':>6}"
                  f" {'of floor':>8}  memory after")
            for name, socket, pid, request in rows:
                for clients in CLIENTS:
                    r = load(socket, clients, *request)
                    if socket == plain:
                        rate[clients] = r["rps"]
                    print(f"{name:28} {clients:7} {r['rps']:10} {r['p50_us']:6} us {r['p99_us']:6} us"
                          f" {r['failed']:6} {r['rps'] / rate[clients]:8.2f}  {memory(pid)}",
                          flush=True)
        finally:
            floor.kill()
            floor.wait()


if __name__ == "__main__":
    main()
