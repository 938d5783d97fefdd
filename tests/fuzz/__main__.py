"""Fuzz paste_ajp with atheris (``pip install atheris``), by hand:

    python -m tests.fuzz decoder -runs=1000000
    python -m tests.fuzz connection -runs=1000000
    python -m tests.fuzz live -runs=100000

What follows the target's name is libFuzzer's: a folder for what it finds, limits.
The captures are the seeds. Without atheris, ``--blind`` spoils them by chance
alone. At the end it tells how many inputs ran; a find ends with its traceback.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import mutations

Target = Callable[[bytes], None]


def main(arguments: list[str]) -> int:
    """Run one target until libFuzzer has had its runs."""
    if not arguments or arguments[0] not in ("decoder", "connection", "live"):
        print(__doc__)
        return 2
    name, *flags = arguments
    if "--blind" in flags:
        return run_blindly(name, flags)
    import atheris

    with atheris.instrument_imports(include=["paste_ajp"]):
        from tests.fuzz import targets

    runs = int(next((flag[6:] for flag in flags if flag.startswith("-runs=")), "0"))
    count = 0
    began = time.monotonic()
    target, finish = pick(name, targets)

    def one_input(data: bytes) -> None:
        nonlocal count
        if runs and count >= runs:
            return  # all is checked and stopped
        target(data)
        count += 1
        if count == runs:  # libFuzzer ends the process without a word to Python
            finish()
            seconds = time.monotonic() - began
            print(f"{name}: {count} inputs in {seconds:.0f} s, nothing found")
            sys.stdout.flush()

    def spoil(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            return atheris.Mutate(data, most)
        if name == "decoder":
            return mutations.spoil_payload(data, chance)[:most]
        packets = mutations.spoil_sequence(mutations.cut(data), chance)
        return b"".join(packets)[:most]

    with tempfile.TemporaryDirectory(prefix="paste_ajp-fuzz-") as folder:
        write_seeds(name, Path(folder))
        atheris.Setup(
            [sys.argv[0], "-max_len=70000", "-timeout=20", *flags, folder],
            one_input,
            custom_mutator=spoil,
        )
        atheris.Fuzz()
    return 0


def pick(name: str, targets: object) -> tuple[Target, Callable[[], None]]:
    """Return what takes an input, and what to do at the end."""
    from tests.fuzz import targets as known

    assert targets is known
    if name == "decoder":
        return _forgetting(known.try_decoder), lambda: None
    if name == "connection":
        return known.try_connection, lambda: None
    live = known.LiveTarget()

    def finish() -> None:
        live.check_leaks()
        live.close()
        print(f"live: {live.answers} of {live.sequences} sequences were answered")

    return (lambda data: live.try_sequence(mutations.cut(data))), finish


def _forgetting(function: Callable[[bytes], object]) -> Target:
    def call(data: bytes) -> None:
        function(data)

    return call


def write_seeds(name: str, folder: Path) -> None:
    """Write the captures into a folder, as libFuzzer reads them."""
    seeds = (
        list(mutations.payloads())
        if name == "decoder"
        else [b"".join(packets) for packets in mutations.sequences()]
    )
    for number, seed in enumerate(seeds):
        (folder / f"capture-{number}").write_bytes(seed)


def run_blindly(name: str, flags: list[str]) -> int:
    """Spoil captures by chance, without a look at the code that they reach."""
    from tests.fuzz import targets

    runs = int(next((f[6:] for f in flags if f.startswith("-runs=")), "10000"))
    seed = int(next((f[6:] for f in flags if f.startswith("-seed=")), "1"))
    target, finish = pick(name, targets)
    began = time.monotonic()
    for number in range(runs):
        chance = random.Random(seed << 32 | number)
        if name == "decoder":
            data = mutations.spoil_payload(chance.choice(mutations.payloads()), chance)
        else:
            data = b"".join(mutations.some_sequence(chance))
        try:
            target(data)
        except BaseException:
            print(f"input {number} of seed {seed}: {data.hex()}")
            raise
    seconds = time.monotonic() - began
    finish()
    print(f"{name}: {runs} inputs in {seconds:.0f} s, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
