"""What holds for all tests."""

import signal

import pytest

from paste_ajp.logs import protocol_gate, server_gate

# Programs inherit what is ignored: under nohup, or in the background of a script, the
# servers that the tests start would not hear of these.
for name in ("SIGHUP", "SIGINT"):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        default = signal.SIG_DFL if name == "SIGHUP" else signal.default_int_handler
        signal.signal(number, default)


@pytest.fixture(autouse=True)
def _open_gates():
    """Each test has a log of its own to fill."""
    protocol_gate.reset()
    server_gate.reset()
