"""A program whose standard error is a terminal."""
import os
import pty
import signal
import subprocess
import time


class Terminal:
    """The running program; what it wrote to its terminal is in self.shown."""

    def __init__(self, arguments: list[str], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE):
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(arguments, stdin=stdin, stdout=stdout, stderr=slave)
        os.close(slave)

    def _read(self) -> bool:
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # the program has ended
            return False
        self.shown += piece.decode(errors="replace")
        return bool(piece)

    def wait_for(self, found, seconds: float = 60):
        """Read until found(shown) is true; its value."""
        deadline = time.monotonic() + seconds
        while not (value := found(self.shown)):
            if time.monotonic() > deadline or not self._read():
                raise AssertionError(f"not shown: {self.shown[-500:]!r}")
        return value

    def interrupt(self) -> int:
        """As Ctrl-C does; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        while self._read():
            pass
        os.close(self.master)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.wait(60)
