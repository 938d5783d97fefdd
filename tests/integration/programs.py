"""Programs that a test starts, waits for, looks at and stops.

A ``Program`` is a child process with a folder of its own. It is stopped by its
process id, within a deadline. What it logged during a test that failed is added
to the report (``conftest.py`` does that, over ``running``).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

#: The programs that are running now.
running: list[Program] = []
#: What those said that were stopped in the current test: name and log.
last_words: list[tuple[str, str]] = []

#: Where system programs lie that a plain user's PATH leaves out.
SYSTEM_PATH: Final = os.pathsep.join(
    (os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin")
)


def in_ci() -> bool:
    """Whether this run must not skip a test for want of a program."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def missing(what: str) -> None:
    """Skip the test because ``what`` is not there; in CI that is a failure."""
    if in_ci():
        pytest.fail(f"{what} is not installed, and CI needs it")
    pytest.skip(f"{what} is not installed")


def require(*names: str) -> str:
    """Find a program by the first of its names that is there, or skip the test."""
    for name in names:
        found = shutil.which(name, path=SYSTEM_PATH)
        if found:
            return found
    missing(names[0])
    raise AssertionError("missing() does not return")


def require_file(what: str, *places: str) -> Path:
    """Find a file or folder in the first place that has it, or skip the test."""
    for place in places:
        if Path(place).exists():
            return Path(place)
    missing(what)
    raise AssertionError("missing() does not return")


def free_port() -> int:
    """A loopback port that nobody listens on.

    It lies below the range from which the kernel takes the ports of outgoing
    connections, so that none of those takes it before it is used.
    """
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def wait_until(
    condition: Callable[[], object], seconds: float, what: str | Callable[[], str]
) -> None:
    """Ask again and again until ``condition`` holds; fail after ``seconds``.

    ``what`` says in the failure what was waited for. Another process gives no
    event to wait for, so this asks, every 10 ms.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"after {seconds:g} s still waiting for {text}")
        time.sleep(0.01)


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A new folder that every user may read, removed at the end.

    pytest's own temporary folders are closed to the user that httpd turns into.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"paste_ajp-{name}-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Program:
    """A child process that logs to files in ``folder``."""

    #: What stops it cleanly.
    stop_signal = signal.SIGTERM
    #: How long it may take until it answers, in seconds.
    start_seconds = 20.0

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        answers: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.command = [os.fspath(part) for part in command]
        self.folder = folder
        self.env = {**os.environ, **(env or {})}
        self.cwd = cwd or folder
        self._pass_fds = pass_fds
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    def launch(self) -> None:
        """Start it, and return at once."""
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.env,
                cwd=self.cwd,
                pass_fds=self._pass_fds,
                # httpd's prefork signals its whole process group when it stops
                start_new_session=True,
            )
        running.append(self)

    def start(self) -> None:
        """Start it and return when it answers, or fail with its log."""
        self.launch()
        try:
            wait_until(
                lambda: not self.is_running() or self._answers(),
                self.start_seconds,
                lambda: f"{self.name} to answer; its log:\n{self.log}",
            )
            if not self.is_running():
                raise AssertionError(
                    f"{self.name} ended with status {self.exit_status} "
                    f"before it answered; its log:\n{self.log}"
                )
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """Wait for its end, and return the exit status."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {seconds:g} s; its log:\n{self.log}"
            ) from None

    def stop(self, seconds: float = 15) -> int:
        """Stop it, by force after ``seconds``; return the exit status."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self in running:
            running.remove(self)
            last_words.append((self.name, self.new_log))
        return self._process.returncode

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """All that it has logged, from every file of its folder."""
        texts = []
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text("utf-8", "replace")
            if text:
                texts.append(f"-- {path.name}\n{text}")
        return "".join(texts)

    def forget_log(self) -> None:
        """Take the log up to now as read; ``new_log`` is what comes after."""
        self._seen = len(self.log)

    @property
    def new_log(self) -> str:
        """The log since ``forget_log``, the last 20,000 characters of it."""
        return self.log[self._seen :][-20000:]
