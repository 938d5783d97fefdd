"""Where output goes: a file, stdout or stderr, each of which may be a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO


class OutputError(Exception):
    """The output cannot be written; the text says why."""


class Output:
    """A file of that name, or stdout where it is None or ``-``.

    Raises OutputError where it cannot be opened, written or closed, but
    BrokenPipeError where who reads it has had enough.
    """

    def __init__(self, name: str | None) -> None:
        self._is_stdout = name is None or name == "-"
        self._file: BinaryIO | None = None
        with self._telling():
            if name is None or name == "-":
                self._file = _stdout().buffer
            else:
                self._file = _create(name)

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, data: bytes, *, flush: bool = False) -> None:
        """Write; a terminal sees it at once, others with ``flush``."""
        assert self._file is not None
        with self._telling():
            self._file.write(data)
            if flush or self._file.isatty():
                self._file.flush()

    def close(self) -> None:
        """Write what is left, and close the file; stdout stays open."""
        if self._file is None:
            return
        with self._telling():
            self._file.flush()
            if not self._is_stdout:
                self._file.close()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        if self._is_stdout:
            with _telling_of_stdout():
                yield
            return
        try:
            yield
        except OSError as error:
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
            raise OutputError(error.strerror or str(error)) from error


def say(text: str) -> None:
    """Write a text to stdout, in what characters it has; raises as Output does."""
    with _telling_of_stdout():
        stdout = _stdout()
        encoding = stdout.encoding or "utf-8"
        stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def flush_stdout() -> None:
    """Have what was said arrive; raises as Output does."""
    if sys.stdout is not None:
        with _telling_of_stdout():
            sys.stdout.flush()


def complain(text: str) -> None:
    """Write a line to stderr; where that cannot be, the exit status tells."""
    if sys.stderr is not None:  # print() would take stdout for it
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr)


@contextlib.contextmanager
def _telling_of_stdout() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        forget_stdout()
        raise OutputError(error.strerror or str(error)) from error


def forget_stdout() -> None:
    """Let what waits to be written to stdout go nowhere.

    Python would complain once more when it flushes stdout at the end.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    if nowhere != 1:
        os.close(nowhere)


def _create(name: str) -> BinaryIO:
    return Path(name).open("wb")


def _stdout() -> TextIO:
    if sys.stdout is None:  # closed when Python was started
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdout
