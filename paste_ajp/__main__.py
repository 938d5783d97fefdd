"""``python -m paste_ajp`` is ``paste-ajp``: where the program begins."""

import signal
import sys


def main() -> int:
    """Run the command line; a stop signal waits until that can handle it."""
    if hasattr(signal, "pthread_sigmask"):
        # First of all: a stop while modules are imported would be a kill, or a
        # traceback. The command line takes these by let_in_stops().
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    from paste_ajp.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
