"""What only the garbage collector would free: circles of objects."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_to_the_collector() -> Iterator[Counter[str]]:
    """Count, by type, what is dropped inside the block and not freed at once.

    The counter is filled when the block ends. `pytest.raises` makes such a circle
    itself: use contextlib.suppress there.
    """
    left: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield left
        gc.collect()
        left.update(type(found).__qualname__ for found in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
