"""Restarts under load, for as long as one likes: ``python -m tests.soak.restarts 60``.

Prints one line for each front end and each way to restart, and fails where a single
request has failed.
"""

from __future__ import annotations

import sys

from tests.integration import restarts


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 60.0
    wanted = arguments[1:]
    failed = 0
    runs = {
        f"{name} {front_end}": (run, front_end)
        for name, run in (
            ("reload", restarts.reload_again_and_again),
            ("successor", restarts.follow_again_and_again),
            ("upgrade", restarts.upgrade_again_and_again),
        )
        for front_end in restarts.FRONT_ENDS
    }
    for title, (run, front_end) in runs.items():
        if not wanted or any(word in title for word in wanted):
            print(f"{title.split()[0]}: ", end="", flush=True)
            failed += len(run(front_end, seconds).failed)
    if not wanted or "balancer" in wanted:
        failed += len(restarts.balance_again_and_again(seconds).failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
