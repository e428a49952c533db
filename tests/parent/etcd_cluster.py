"""A cluster of etcd's own servers on loopback, with TLS and client certificates."""
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
import ssl

BINARY = shutil.which("etcd")


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Cluster:
    """Members on loopback, or each at an address of its own, started by a command in front."""

    def __init__(self, directory: pathlib.Path, members: int, addresses=None, prefixes=None,
                 tls=True):
        self.dir, self.tls = directory, tls
        self.address = addresses or ["127.0.0.1"] * members
        self.prefix = prefixes or [[]] * members
        self.make_certificates()
        ports = [2379, 2380] * members if addresses else free_ports(2 * members)
        self.client, self.peer = ports[::2], ports[1::2]
        self.process: list = [None] * members
        for i in range(members):
            self.start(i)
        self.config = directory / "etcd.json"
        self.write_config(self.config)
        for i in range(members):
            self.wait(i)

    def url(self, i: int, peer: bool = False) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address[i]}:{(self.peer if peer else self.client)[i]}"

    def make_certificates(self):
        def openssl(*arguments, text=None):
            subprocess.run(["openssl", *arguments], cwd=self.dir, check=True, capture_output=True,
                           input=text)
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                "-subj", "/CN=test root")
        names = ",".join(f"IP:{address}" for address in {"127.0.0.1", *self.address})
        (self.dir / "ext").write_text(f"subjectAltName={names}\n"
                                      "extendedKeyUsage=serverAuth,clientAuth\n")
        for name in ("server", "client"):
            openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                    f"/CN={name}")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                    "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", f"{name}.pem")

    def start(self, i: int):
        tls = {"cert-file": "server.pem", "key-file": "server.key", "trusted-ca-file": "ca.pem"}
        options = {
            "name": f"m{i}", "data-dir": f"m{i}", "log-level": "error",
            "listen-client-urls": self.url(i), "advertise-client-urls": self.url(i),
            "listen-peer-urls": self.url(i, True), "initial-advertise-peer-urls": self.url(i, True),
            "initial-cluster": ",".join(f"m{j}={self.url(j, True)}"
                                        for j in range(len(self.peer))),
        }
        flags = []
        if self.tls:
            options |= {**tls, **{f"peer-{k}": v for k, v in tls.items()}}
            flags = ["--client-cert-auth", "--peer-client-cert-auth"]
        with open(self.dir / f"m{i}.log", "ab") as log:
            self.process[i] = subprocess.Popen(
                [*self.prefix[i], BINARY, *(f"--{k}={v}" for k, v in options.items()), *flags],
                cwd=self.dir, stdout=log, stderr=log)

    def write_config(self, path, members=None, **more):
        chosen = range(len(self.client)) if members is None else members
        path.write_text(json.dumps({
            "endpoints": [self.url(i) for i in chosen], "prefix": "test/",
            **({"ca_file": str(self.dir / "ca.pem"), "cert_file": str(self.dir / "client.pem"),
                "key_file": str(self.dir / "client.key")} if self.tls else {}), **more}))

    def open(self, url: str, body=None, timeout: float = 10):
        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.dir / "ca.pem"))
            context.load_cert_chain(self.dir / "client.pem", self.dir / "client.key")
        return urllib.request.urlopen(urllib.request.Request(url, body), timeout=timeout,
                                      context=context)

    def wait(self, i: int, seconds: float = 60):
        deadline = time.monotonic() + seconds
        while True:
            try:
                with self.open(f"{self.url(i)}/health", timeout=2) as answer:
                    if json.load(answer)["health"] == "true":
                        return
            except OSError:
                pass
            assert time.monotonic() < deadline, (self.dir / f"m{i}.log").read_text()
            time.sleep(0.1)

    @staticmethod
    def body(**members) -> bytes:
        """A request for the JSON gateway; keys and values as text or bytes."""
        return json.dumps({
            name: base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
            if name in ("key", "range_end", "value") else value
            for name, value in members.items()}).encode()

    def call(self, method: str, **members) -> dict:
        """A call to the first member."""
        with self.open(f"{self.url(0)}/v3/{method}", self.body(**members)) as answer:
            return json.load(answer)

    def pairs(self) -> list[dict]:
        """Every pair of the first member, as its JSON gateway gives it, without the values."""
        return self.call("kv/range", key=b"\0", range_end=b"\0", keys_only=True).get("kvs", [])

    def keys(self, prefix: str) -> list[str]:
        found = [base64.b64decode(pair["key"]).decode() for pair in self.pairs()]
        return [key for key in found if key.startswith(prefix)]

    def kill(self, i: int):
        self.process[i].kill()
        self.process[i].wait()

    def cut_off(self, i: int):
        """The member stops answering without closing a connection, as behind a partition."""
        self.process[i].send_signal(signal.SIGSTOP)

    def restore(self, i: int):
        self.process[i].send_signal(signal.SIGCONT)

    def close(self):
        for process in self.process:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


class WithMember:
    """For a test's class: a cluster of one member that its cases share."""

    @classmethod
    def setUpClass(cls):
        cls.cluster_dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-etcd-"))
        cls.cluster = Cluster(cls.cluster_dir, 1)

    @classmethod
    def tearDownClass(cls):
        cls.cluster.close()
        shutil.rmtree(cls.cluster_dir, ignore_errors=True)
