"""The systemd units: sound by systemd's own tools, confined, and true to the programs they start."""
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from claviger_stack import BUILD, SOURCE, program  # noqa: E402

UNITS = ("claviger-parent.service", "claviger-parent.socket", "clavigerd.service")
SERVICES = [unit for unit in UNITS if unit.endswith(".service")]
EXPOSURE_MAX = 2.0  # of 10, as systemd-analyze security counts


def settings(unit: str) -> dict[str, list[str]]:
    text = (BUILD / "packaging" / "systemd" / unit).read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def run(*command, **more):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120,
                          **more)


class Units(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="claviger-"))
        self.addCleanup(shutil.rmtree, self.dir, True)

    def built(self) -> list[pathlib.Path]:
        """The units, starting the programs of this build."""
        out = []
        for unit in UNITS:
            text = (BUILD / "packaging" / "systemd" / unit).read_text()
            text = re.sub(r"^ExecStart=\S*/([\w-]+)", lambda m: f"ExecStart={program(m.group(1))}",
                          text, flags=re.M)
            out.append(self.dir / unit)
            out[-1].write_text(text)
        return out

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze")
    def test_systemd_finds_nothing_wrong(self):
        done = run("systemd-analyze", "verify", *self.built(),
                   env={**os.environ, "SYSTEMD_UNIT_PATH": f"{self.dir}:"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line for line in done.stderr.splitlines() if "claviger" in line], [])

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze")
    def test_the_services_are_confined(self):
        for unit in SERVICES:
            done = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                       self.dir / unit if self.built() else "")
            found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
            self.assertIsNotNone(found, done.stdout + done.stderr)
            self.assertLess(float(found.group(1)), EXPOSURE_MAX, done.stdout)

    def test_the_sockets_are_those_of_the_example_and_of_the_daemon(self):
        example = json.loads((SOURCE / "packaging/systemd/parent.json").read_text())
        addresses = [example["services"]] + [rule.split("=")[0] for rule in example["relay"]]
        listen = [re.sub(r"^vsock::", "vsock:any:", value)
                  for value in settings("claviger-parent.socket")["ListenStream"]]
        self.assertEqual(listen, addresses)
        command = shlex.split(settings("clavigerd.service")["ExecStart"][0])
        daemon = dict(zip(command[1::2], command[2::2]))
        port = lambda address: address.rsplit(":", 1)[1]
        self.assertEqual([port(daemon["--services"]), port(daemon["--relay"])],
                         [port(address) for address in addresses])
        self.assertEqual(port(daemon["--control"]), port(example["enclave"]))

    def test_the_commands_are_ones_that_the_programs_take(self):
        for unit in SERVICES:
            command = shlex.split(settings(unit)["ExecStart"][0])
            name = pathlib.Path(command[0]).name
            done = run(program(name), *command[1:])
            self.assertIn("/etc/claviger/", done.stderr, "the file is what it lacks here")
            self.assertNotIn("(usage)", done.stderr)

    def test_the_example_of_the_parents_configuration_serves(self):
        config = json.loads((SOURCE / "packaging/systemd/parent.json").read_text())
        for name in ("baseline", "baseline_signature"):
            config[name] = str(self.dir / name)
            (self.dir / name).write_text("x")
        allowed = "".join(f"- {{address: {host}, port: {port}}}\n" for host, port in
                          (rule.split("=")[1].rsplit(":", 1) for rule in config["relay"]))
        config["relay_allowlist"] = str(self.dir / "list.yaml")
        (self.dir / "list.yaml").write_text("allowlist:\n" + allowed)
        config["services"] = f"unix:{self.dir}/services.sock"
        config["relay"] = [f"unix:{self.dir}/relay{i}.sock=" + rule.split("=")[1]
                           for i, rule in enumerate(config["relay"])]
        config["store"] = f"sqlite:{self.dir}/store.db"
        config["metrics"] = "tcp:127.0.0.1:0"
        (self.dir / "parent.json").write_text(json.dumps(config))
        ready = self.dir / "ready"
        process = subprocess.Popen([program("claviger-parent"), "serve", "--config",
                                    str(self.dir / "parent.json"), "--ready-file", str(ready)],
                                   stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(ready.exists())
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        self.assertEqual(process.wait(20), 0)

    def test_what_is_installed_is_where_systemd_looks(self):
        done = run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.dir)
        self.assertEqual(done.returncode, 0, done.stderr)
        installed = {str(path.relative_to(self.dir)) for path in self.dir.rglob("*")
                     if path.is_file()}
        for end in ("bin/claviger", "bin/claviger-parent", "bin/clavigerd",
                    *(f"lib/systemd/system/{unit}" for unit in UNITS),
                    "lib/sysusers.d/claviger.conf", "lib/tmpfiles.d/claviger.conf",
                    "share/claviger/parent.json"):
            self.assertTrue(any(path.endswith(end) for path in installed), end)
        unit = next(path for path in installed if path.endswith("system/claviger-parent.service"))
        start = re.search(r"^ExecStart=(\S+)", (self.dir / unit).read_text(), re.M).group(1)
        self.assertTrue((self.dir / start.lstrip("/")).is_file(), start)

    @unittest.skipUnless(shutil.which("systemd-sysusers") and os.getuid() == 0,
                         "systemd-sysusers, and root")
    def test_the_user_and_the_folders_are_made(self):
        source = SOURCE / "packaging" / "systemd"
        (self.dir / "etc").mkdir()
        done = run("systemd-sysusers", f"--root={self.dir}", source / "claviger.sysusers")
        self.assertEqual(done.returncode, 0, done.stderr)
        user = next(line.split(":") for line in (self.dir / "etc/passwd").read_text().splitlines()
                    if line.startswith("claviger:"))
        done = run("systemd-tmpfiles", "--create", f"--root={self.dir}",
                   source / "claviger.tmpfiles")
        self.assertEqual(done.returncode, 0, done.stderr)
        store, etc = (self.dir / "var/lib/claviger").stat(), (self.dir / "etc/claviger").stat()
        self.assertEqual((store.st_mode & 0o777, store.st_uid), (0o700, int(user[2])))
        self.assertEqual((etc.st_mode & 0o777, etc.st_uid), (0o750, 0))


if __name__ == "__main__":
    unittest.main()
