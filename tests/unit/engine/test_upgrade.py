"""The start of a successor, without one."""

from __future__ import annotations

import socket
import threading

from paste_ajp.engine.listeners import Listener
from paste_ajp.engine.notify import Notifier
from paste_ajp.engine.upgrade import Upgrade


def test_stop_that_has_closed_the_listeners_needs_no_successor(monkeypatch, caplog):
    """Both signals in one moment: a traceback was what the log had of it."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    listener = Listener(socket.create_server(("127.0.0.1", 0)))
    listener.close()
    Upgrade(lambda successor: None).begin([listener], Notifier(""))
    for thread in threading.enumerate():
        if thread.name == "paste_ajp-upgrade":
            thread.join(10)
    assert raised == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
