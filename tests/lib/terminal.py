"""A program whose standard error is a terminal."""
import os
import pty
import signal
import subprocess
import threading
import time


class Terminal:
    """The running program; what it wrote to its terminal so far is in self.shown."""

    def __init__(self, arguments: list[str], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(arguments, stdin=stdin, stdout=stdout, stderr=slave)
        os.close(slave)
        # All the time: a terminal that nobody reads fills up, and stops who writes to it.
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        try:
            while piece := os.read(self.master, 65536):
                self.shown += piece.decode(errors="replace")
        except OSError:  # the program has ended
            pass

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown[-500:]!r}"
            time.sleep(0.01)

    def interrupt(self) -> int:
        """As Ctrl-C does; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        status = self.process.wait(120)
        self.reader.join()
        os.close(self.master)
        return status
