"""A progress bar on stderr for transfers that take long."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 30
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Progress:
    """Shows how far a transfer is, from its second second on.

    ``total`` is None where nobody knows. Only where ``enabled``, which is up to
    whoever knows what else the terminal shows.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        enabled: bool,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = label
        self._total = total
        self._enabled = enabled
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._shown_at = self._started + 0.8
        self._was_shown = False
        self.count = 0

    def add(self, count: int) -> None:
        """Count bytes that were moved."""
        self.count += count
        now = self._clock()
        if self._enabled and now - self._shown_at >= 0.2:
            self._shown_at = now
            self._show(now)

    def finish(self) -> None:
        """Show the last state, and end the line."""
        if self._was_shown:
            self._show(self._clock())
            self._stream.write("\n")
            self._stream.flush()
            self._was_shown = False

    def _show(self, now: float) -> None:
        speed = self.count / max(now - self._started, 1e-6)
        text = f"{readable(self.count)}"
        if self._total:
            share = min(1.0, self.count / self._total)
            filled = round(share * _WIDTH)
            bar = "#" * filled + "." * (_WIDTH - filled)
            text = f"[{bar}] {share:4.0%}  {text} of {readable(self._total)}"
        self._stream.write(f"\r{self._label} {text}  {readable(speed)}/s \033[K")
        self._stream.flush()
        self._was_shown = True


def readable(count: float) -> str:
    """Write a number of bytes as people do: ``1.5 MiB``."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
