#!/usr/bin/env python3
"""States stored a second, against the store's engine alone making the same writes in the same run.

- the engine alone: SQLite's library making the same row updates under the same pragmas; etcd's JSON
  gateway taking a put of the same size, by as many clients;
- the store: the parent's state.put, as the enclave calls it, a compare-and-swap that is durable when
  it is answered;
- seals: PUT /v1/state/{name}, end to end. Each has a data key of its own, so KMS and the voucher for
  it are in it: POST /v1/seal, which is the same without the store, stands beside it.

Clients, daemon, parent, local KMS and etcd's three members share the machine and one disk.
BENCH_CHECK_PERF=1 adds `etcdctl check perf`, etcd's own verdict, which takes a minute.
"""
import contextlib
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("CLAVIGER_SOURCE", str(SOURCE))
os.environ.setdefault("CLAVIGER_BUILD", str(SOURCE / "build"))
for folder in ("lib", "parent"):
    sys.path.insert(0, str(SOURCE / "tests" / folder))
from claviger_stack import BUILD, Stack  # noqa: E402
from etcd_cluster import BINARY, Cluster  # noqa: E402
from python_parent import call  # noqa: E402

SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
CLIENTS = (1, 16)
SIZE = 4096
LOAD = str(BUILD / "bench" / "load")


def load(address: str, requests: list[list[str]]):
    """One client for each request at the same time: requests a second of all, the worst p99."""
    running = [subprocess.Popen([LOAD, "run", address, "1", str(SECONDS), *request],
                                stdout=subprocess.PIPE, text=True) for request in requests]
    answers = [json.loads(process.communicate()[0]) for process in running]
    failed = sum(answer["failed"] for answer in answers)
    if failed:
        raise SystemExit(f"{failed} requests failed at {address}: {requests[0][:2]}")
    return sum(answer["rps"] for answer in answers), max(answer["p99_us"] for answer in answers)


def row(what: str, clients: int, rate: float, p99_us: float, beside=""):
    print(f"{what:32} {clients:3} clients {rate:8.1f}/s  p99 {p99_us / 1000:8.1f} ms  {beside}",
          flush=True)


def sealed_size(stack) -> int:
    status, _, body = stack.api("POST", "/v1/seal?name=size", os.urandom(SIZE))
    assert status == 200, body
    return len(body)


def sqlite_alone(directory: pathlib.Path, size: int):
    """UPDATE after UPDATE, each durable before the next begins."""
    latencies = []
    with contextlib.closing(sqlite3.connect(directory / "floor.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE state (name TEXT PRIMARY KEY, generation INTEGER NOT NULL, "
                   "blob BLOB NOT NULL) STRICT, WITHOUT ROWID")
        for i in range(16):
            db.execute("INSERT INTO state VALUES (?, 1, ?)", (f"agent-state/{i}", os.urandom(size)))
        begun, generation, blob = time.monotonic(), 1, os.urandom(size)
        while time.monotonic() - begun < SECONDS:
            for i in range(16):
                at = time.monotonic()
                db.execute("UPDATE state SET generation = ?, blob = ? WHERE name = ? AND "
                           "generation = ?", (generation + 1, blob, f"agent-state/{i}", generation))
                latencies.append(time.monotonic() - at)
            generation += 1
        rate = len(latencies) / (time.monotonic() - begun)
    return rate, sorted(latencies)[int(len(latencies) * .99)] * 1e6


def etcd_alone(cluster, directory: pathlib.Path, clients: int, size: int):
    requests = []
    for i in range(clients):
        body = directory / f"put{i}"
        body.write_bytes(Cluster.body(key=f"floor/{i}", value=os.urandom(size)))
        requests.append(["POST", "/v3/kv/put", str(body), "application/json"])
    return load(f"tcp:{cluster.url(0).partition('//')[2]}", requests)


def put_states(services: str, name: str, size: int, latencies):
    """One client of the channel; a connection for each call, as the enclave has it."""
    blob, generation, begun = os.urandom(size), 0, time.monotonic()
    while time.monotonic() - begun < SECONDS:
        at = time.monotonic()
        generation += 1
        call(services, {"op": "state.put", "name": name, "generation": generation}, blob)
        latencies.append(time.monotonic() - at)


def store(stack, clients: int, size: int):
    with multiprocessing.Manager() as manager:
        latencies = [manager.list() for _ in range(clients)]
        processes = [multiprocessing.Process(target=put_and_send, args=(
            str(stack.dir / "services.sock"), f"store{clients}/{i}", size, latencies[i]))
            for i in range(clients)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        taken = sorted(latency for one in latencies for latency in one)
    return len(taken) / SECONDS, taken[int(len(taken) * .99)] * 1e6


def put_and_send(services, name, size, to):
    mine: list[float] = []
    put_states(services, name, size, mine)
    to.extend(mine)


def requests_of(stack, clients: int, method: str, path: str):
    body = stack.dir / "body"
    body.write_bytes(os.urandom(SIZE))
    return load(f"unix:{stack.dir / 'agent.sock'}",
                [[method, f"{path}{i}", str(body)] for i in range(clients)])


def measure(stack, engine: str, clients: int, floor: float, size: int):
    rate, p99 = store(stack, clients, size)
    row(f"the store, {engine}", clients, rate, p99, f"{rate / floor:.2f} of the engine alone")
    bare, p99 = requests_of(stack, clients, "POST", "/v1/seal?name=bench")
    row("seals that are not stored", clients, bare, p99)
    rate, p99 = requests_of(stack, clients, "PUT", "/v1/state/bench")
    row(f"seals, {engine}", clients, rate, p99,
        f"{rate / floor:.2f} of the engine alone, {rate / bare:.2f} of those not stored")


@contextlib.contextmanager
def serving(store: str = ""):
    with Stack() as stack:
        stack.store = store or stack.store
        stack.enclave_arguments = ["--agent-rate", "0", "--log-level", "error"]
        stack.prepare()
        stack.start_nsm()
        stack.start_parent()
        stack.start_enclave()
        yield stack


def measure_sqlite():
    with serving() as stack:
        size = sealed_size(stack)
        floor, p99 = sqlite_alone(stack.dir, size)
        row("SQLite alone", 1, floor, p99)
        for clients in CLIENTS:
            measure(stack, "sqlite", clients, floor, size)


def measure_etcd():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="claviger-etcd-"))
    cluster = Cluster(directory, 3, tls=False)
    try:
        with serving(f"etcd:{cluster.config}") as stack:
            size = sealed_size(stack)
            for clients in CLIENTS:
                floor, p99 = etcd_alone(cluster, directory, clients, size)
                row("etcd's gateway alone, 3 members", clients, floor, p99)
                measure(stack, "etcd", clients, floor, size)
        if os.environ.get("BENCH_CHECK_PERF") and shutil.which("etcdctl"):
            done = subprocess.run(["etcdctl", "--endpoints", cluster.url(0), "check", "perf",
                                   "--load", "l"], capture_output=True, text=True, check=False,
                                  env={**os.environ, "ETCDCTL_API": "3"})
            verdicts = re.findall(r"(?:PASS|FAIL|Error)[^\r\n]*", done.stdout + done.stderr)
            print("etcdctl check perf --load l:", *verdicts, sep="\n  ")
    finally:
        cluster.close()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    print(f"{SIZE} bytes sealed, names of their own, {SECONDS:.0f} s each")
    measure_sqlite()
    if BINARY is None:
        print("etcd is not installed: not measured")
        return
    measure_etcd()


if __name__ == "__main__":
    main()
