#!/usr/bin/env python3
"""Applies each sabotage of mutants.py to a scratch copy, builds it, and requires a test to fail.

    check.py [WORD …]       only sabotages whose name has one of the words

Ends with status 1 when a sabotage goes unnoticed, does not apply, or does not compile.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from mutants import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77


def copy_tree(to: pathlib.Path) -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, names.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)


def is_program(test: str) -> bool:
    """An end-to-end test, "room/test_what.py", maybe with " Class.test_case" behind it."""
    return test.split()[0].endswith(".py")


def target(test: str) -> str:
    """What has to be built for it: an end-to-end test may start any program."""
    return "all" if is_program(test) else "tests/test_" + test.replace("/", "_")


def make(build: pathlib.Path, tests) -> subprocess.CompletedProcess:
    return subprocess.run(["ninja", "-C", str(build), *sorted(set(map(target, tests)))],
                          capture_output=True, text=True, check=False)


def command(tree: pathlib.Path, test: str) -> list:
    if is_program(test):
        script, *case = test.split()
        return [sys.executable, tree / "tests" / script, *case]
    return [tree / "build" / target(test)]


def status(tree: pathlib.Path, test: str) -> int:
    """0: passed; SKIPPED: what it needs is not here; else it noticed."""
    vectors = os.environ.get("CLAVIGER_VECTORS", str(ROOT.parent / "shared" / "vectors"))
    env = {**os.environ, "CLAVIGER_VECTORS": vectors, "CLAVIGER_FIXTURES": str(tree / "tests"),
           "CLAVIGER_BUILD": str(tree / "build"), "CLAVIGER_SOURCE": str(tree)}
    process = subprocess.Popen(command(tree, test), env=env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(300)
    except subprocess.TimeoutExpired:
        return 1
    finally:
        # A test that hangs on a sabotage has programs of its own.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def sabotage(path: pathlib.Path, old: str, new: str) -> str:
    """Returns the file as it was."""
    text = path.read_text()
    if text.count(old) != 1:
        raise ValueError(f"the line occurs {text.count(old)} times")
    path.write_text(text.replace(old, new))
    return text


def verdict(tree: pathlib.Path, file: str, old: str, new: str, tests: list[str]) -> str:
    """"noticed by …", or what is wrong."""
    path = tree / file
    try:
        before = sabotage(path, old, new)
    except ValueError as problem:
        return f"DOES NOT APPLY: {problem}"
    try:
        built = make(tree / "build", tests)
        if built.returncode != 0:
            return "DOES NOT COMPILE: " + built.stdout[-600:]
        for test in tests:
            if status(tree, test) not in (0, SKIPPED):
                return f"noticed by {test}"
        return "UNNOTICED by " + ", ".join(tests)
    finally:
        path.write_text(before)


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(w in m[0] for w in words)]
    with tempfile.TemporaryDirectory(prefix="claviger-mutants-") as directory:
        tree = pathlib.Path(directory)
        copy_tree(tree)
        subprocess.run(["meson", "setup", str(tree / "build"), str(tree), "--buildtype=debug",
                        "-Doptimization=0", "-Dwerror=false"], check=True, capture_output=True)
        wanted = sorted({t for m in chosen for t in m[4]})
        built = make(tree / "build", wanted)
        if built.returncode != 0:
            print("the tree itself does not compile:", built.stdout[-2000:], built.stderr[-2000:])
            return 1
        before = {test: status(tree, test) for test in wanted}
        broken = [test for test in wanted if before[test] not in (0, SKIPPED)]
        if broken:
            print("fails without any sabotage:", ", ".join(broken))
            return 1
        missed = unjudged = 0
        for name, file, old, new, tests in chosen:
            able = [t for t in tests if before[t] == 0]
            if not able:
                unjudged += 1
                print(f"{name}: NOT JUDGED, its tests are skipped here: {', '.join(tests)}")
                continue
            found = verdict(tree, file, old, new, able)
            missed += not found.startswith("noticed")
            print(f"{name}: {found}", flush=True)
    if unjudged:
        print(f"{unjudged} not judged")
    print(f"{len(chosen) - missed - unjudged} of {len(chosen)} sabotages noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    # An interrupted run takes its scratch copy with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1:]))
