"""A fleet on one machine: hosts that are network namespaces, each with a member of the cluster, a
parent and some enclaves.

Two networks: the cluster's, which can be cut for each host, and the one on which KMS is. An enclave
has neither: it reaches its parent through Unix sockets, as it would through vsock. The namespaces
belong to processes of ours and are gone with them.
"""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import Process, Stack, UnixConnection  # noqa: E402
from etcd_cluster import BINARY, Cluster  # noqa: E402

HOSTS = 3
# What is tried is the store: KMS is asked seldom.
CACHE = {"max_age_s": 3600, "max_messages": 1 << 30, "max_bytes": 1 << 40}
CLUSTER_NET, SERVICE_NET = "10.77.0", "10.78.0"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def enter_namespace():
    """Run this program anew in a network of its own; ends it with 77 and the reason where that
    cannot be."""
    if os.environ.get("FLEET_NAMESPACE"):
        return
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if BINARY is None:
        missing.append("etcd")
    if missing:
        print(f"skipped: not installed: {', '.join(missing)}")
        sys.exit(77)
    prefix = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    trial = subprocess.run([*prefix, "sh", "-c", "ip link add v0 type veth peer name v1 && "
                            "ip link add v2 type bridge"], capture_output=True, text=True,
                           check=False)
    if trial.returncode != 0:
        print(f"skipped: no network namespaces here: {trial.stderr.strip()}")
        sys.exit(77)
    os.execvpe(prefix[0], [*prefix, sys.executable, *sys.argv],
               {**os.environ, "FLEET_NAMESPACE": "1"})


class Host:
    """A network namespace with a link to each network."""

    def __init__(self, number: int):
        self.number = number
        self.address = f"{CLUSTER_NET}.{11 + number}"
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.enter = ["nsenter", "--target", str(self.holder.pid), "--net"]
        self.wait_for_namespace()
        for net, bridge, name in ((CLUSTER_NET, "cluster", "c"), (SERVICE_NET, "service", "s")):
            link = f"{name}{number}"
            ip("link", "add", link, "type", "veth", "peer", "name", bridge, "netns",
               str(self.holder.pid))
            ip("link", "set", link, "master", bridge, "up")
            self.run("ip", "address", "add", f"{net}.{11 + number}/24", "dev", bridge)
            self.run("ip", "link", "set", bridge, "up")
        self.run("ip", "link", "set", "lo", "up")

    def wait_for_namespace(self):
        ours = os.readlink("/proc/self/ns/net")
        deadline = time.monotonic() + 20
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == ours:
            assert time.monotonic() < deadline, "no namespace"
            time.sleep(0.01)

    def run(self, *command):
        subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True)

    def cut(self):
        ip("link", "set", f"c{self.number}", "down")

    def heal(self):
        ip("link", "set", f"c{self.number}", "up")

    def close(self):
        self.holder.kill()
        self.holder.wait()


class Enclave:
    """One clavigerd and its NSM, on a host's parent."""

    def __init__(self, fleet: "Fleet", number: int):
        self.fleet, self.number = fleet, number
        self.name = f"enclave{number}"
        self.host = fleet.hosts[number % HOSTS]
        self.dir = fleet.stack.dir / self.name
        self.dir.mkdir()
        self.processes: list[Process] = []

    def start(self):
        stack, services = self.fleet.stack, self.fleet.parent_dir(self.host)
        boot = self.dir / "pcrs.json"
        boot.write_text(json.dumps(stack.pcrs))
        self.processes = [
            Process("claviger-nsm", ["serve", str(stack.nsm_dir), "--pcrs", str(boot), "--listen",
                                     f"unix:{self.dir}/nsm.sock"], self.dir).wait_ready()]
        self.processes.append(
            Process("clavigerd", ["--policy", str(stack.policy_file), "--nsm",
                                  f"unix:{self.dir}/nsm.sock", "--control",
                                  f"unix:{self.dir}/control.sock", "--services",
                                  f"unix:{services}/services.sock", "--relay",
                                  f"unix:{services}/relay.sock", "--agent",
                                  f"unix:{self.dir}/agent.sock"], self.dir))

    def wait_ready(self):
        self.processes[1].wait_ready()

    def kill(self):
        for process in reversed(self.processes):
            process.kill()

    def stop(self):
        for process in reversed(self.processes):
            process.stop()

    def api(self, method, path, body=None, headers=None, timeout=60):
        """An agent's call: (status, headers, body); 0 where the enclave is gone."""
        try:
            with contextlib.closing(UnixConnection(str(self.dir / "agent.sock"),
                                                   timeout)) as connection:
                connection.request(method, path, body, headers or {})
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
        except (OSError, http.client.HTTPException):
            return 0, {}, b""


class Fleet:
    """Everything that runs; the store is empty."""

    def __init__(self, enclaves: int, keys: list[str]):
        self.exit = contextlib.ExitStack()
        self.stack = self.exit.enter_context(Stack())
        try:
            self.build_networks()
            self.prepare(keys)
            self.start_cluster()
            self.parents = {}
            for host in self.hosts:
                self.start_parent(host)
            self.enclaves = [Enclave(self, i) for i in range(enclaves)]
            for enclave in self.enclaves:
                self.exit.callback(enclave.stop)
        except BaseException:
            self.close()
            raise

    def close(self):
        self.exit.close()

    def build_networks(self):
        ip("link", "set", "lo", "up")
        for net, bridge in ((CLUSTER_NET, "cluster"), (SERVICE_NET, "service")):
            if not pathlib.Path(f"/sys/class/net/{bridge}").exists():
                ip("link", "add", bridge, "type", "bridge")
                ip("address", "add", f"{net}.1/24", "dev", bridge)
                ip("link", "set", bridge, "up")
        self.hosts = []
        for i in range(HOSTS):
            self.hosts.append(Host(i))
            self.exit.callback(self.hosts[i].close)

    def prepare(self, keys):
        self.stack.kms_target = f"{SERVICE_NET}.1:0"
        self.stack.prepare()
        policy = self.stack.default_policy()
        only = policy["keys"].pop("agent-state")
        verbs = ("seal", "unseal", "delete", "derive", "public")
        for key in keys:
            policy["keys"][key] = {**only, "encryption_context": {"Purpose": key}, "cache": CACHE}
        policy["agents"][0]["may"] = [f"{verb}:{key}" for verb in verbs for key in keys]
        self.stack.write_policy(policy)

    def start_cluster(self):
        directory = self.stack.dir / "etcd"
        directory.mkdir()
        self.cluster = Cluster(directory, HOSTS, [host.address for host in self.hosts],
                               [host.enter for host in self.hosts])
        self.exit.callback(self.cluster.close)

    def parent_dir(self, host) -> pathlib.Path:
        return self.stack.dir / f"parent{host.number}"

    def start_parent(self, host):
        """Its own member first, as one would configure it."""
        directory = self.parent_dir(host)
        directory.mkdir(exist_ok=True)
        config = directory / "etcd.json"
        order = [(host.number + i) % HOSTS for i in range(HOSTS)]
        self.cluster.write_config(config, order)
        process = Process(
            "claviger-parent", ["serve", "--services", f"unix:{directory}/services.sock", "--relay",
                                f"unix:{directory}/relay.sock={self.stack.kms_target}", "--store",
                                f"etcd:{config}", "--credentials",
                                f"file:{self.stack.kms_dir}/credentials.json", "--baseline",
                                str(self.stack.baseline), "--baseline-signature",
                                f"{self.stack.baseline}.minisig"], directory, prefix=host.enter)
        self.parents[host.number] = process
        self.exit.callback(process.stop)
        process.wait_ready()

    def start_enclaves(self):
        """All at once."""
        threads = [threading.Thread(target=enclave.start) for enclave in self.enclaves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for enclave in self.enclaves:
            enclave.wait_ready()

    def stored_history(self, folder: str) -> list[tuple[str, bytes | None]]:
        """Every version of every pair of a folder that the cluster ever had, in order, by its own
        account: (name, value or None for a deletion)."""
        prefix = f"test/{folder}/".encode()
        request = {"key": prefix, "range_end": prefix[:-1] + b"0"}
        last = max((int(pair["mod_revision"]) for pair in
                    self.cluster.call("kv/range", keys_only=True, **request).get("kvs", [])),
                   default=0)
        body = b'{"create_request":' + Cluster.body(start_revision="1", **request) + b"}"
        found, reached = [], 0
        with self.cluster.open(f"{self.cluster.url(0)}/v3/watch", body, 30) as stream:
            while reached < last:
                for event in json.loads(stream.readline())["result"].get("events", []):
                    reached = int(event["kv"]["mod_revision"])
                    name = base64.b64decode(event["kv"]["key"])[len(prefix):].decode()
                    deleted = event.get("type") == "DELETE"
                    found.append((name, None if deleted else
                                  base64.b64decode(event["kv"].get("value", ""))))
        return found
