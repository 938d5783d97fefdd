"""What a command reads: a file, or stdin, which may be closed."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO


def stdin() -> BinaryIO:
    """Give stdin. Raises OSError where it was closed when Python was started."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdin.buffer


def read_input(name: str) -> bytes:
    """Read a file, or stdin where it is ``-``. Raises OSError."""
    return stdin().read() if name == "-" else Path(name).read_bytes()


def open_input(path: Path) -> tuple[BinaryIO, int | None]:
    """Open a file; with its size, None where only its end tells it. Raises OSError.

    A pipe has none, and files of /proc are said to be empty whatever they hold.
    """
    file = path.open("rb")
    try:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or (not status.st_size and file.peek(1)):
            return file, None
    except BaseException:
        file.close()
        raise
    return file, status.st_size
