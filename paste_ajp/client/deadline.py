"""How long a whole exchange may take, however busy the server looks.

A timeout bounds silence: a server that sends a byte now and then keeps it from
ever ending. A deadline bounds the sum.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """The moment when ``seconds`` from now are over; never, if None."""

    def __init__(
        self, seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    @property
    def is_set(self) -> bool:
        return self._end is not None

    @property
    def has_passed(self) -> bool:
        return self._end is not None and self._clock() >= self._end

    @property
    def problem(self) -> str:
        """What to say when it has passed."""
        return f"not done within {shown_seconds(self._seconds)} s"

    def limit(self, timeout: float | None) -> float | None:
        """Shorten a timeout to the time that is left; more than 0 in any case."""
        if self._end is None:
            return timeout
        left = max(self._end - self._clock(), 1e-6)  # 0 would mean not to wait
        return left if timeout is None else min(left, timeout)


def shown_seconds(seconds: float | None) -> str:
    """Write a time for people, who count in milliseconds at most."""
    return "0" if seconds is None else f"{seconds:.3f}".rstrip("0").rstrip(".")


def check_seconds(name: str, value: float | None) -> None:
    """Raises ValueError for a time that nothing can wait for."""
    if value is not None and not 0 < value < float("inf"):
        raise ValueError(f"{name} = {value}: expected a number of seconds, or None")
