"""Serve good and bad peers together for a while, and look what is left of it.

    python -m tests.soak --seconds 600

A server of its own process is asked right things by some threads (every answer is
checked) and wronged by others: spoilt captures, uploads that stop, downloads that
nobody reads, half packets, wrong secrets, bodies too large, more requests than
threads. Its memory, descriptors and threads are read from /proc every few seconds.
At the end all peers leave; what stays is compared with what was there before. Linux
only; exits with 1 where something was answered wrongly or has leaked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.apps.site import pattern
from tests.engine.front_end import FrontEnd, forward
from tests.fuzz.mutations import some_sequence
from tests.integration.programs import free_port

SECRET = "soak-secret"
WITH_SECRET = {"attributes": {"secret": SECRET}}
SETTINGS = {
    "secret": SECRET,
    "threads": "8",
    "read-timeout": "2",
    "write-timeout": "2",
    "queue-timeout": "1",
    "keep-alive-timeout": "20",
    "application-timeout": "5",
    "max-request-body": "1M",
    "max-header-bytes": "16K",
}
#: How much the memory may grow from the second quarter on, in KiB.
MOST_GROWTH = 8192


@dataclass
class Reading:
    """What a process holds at one moment."""

    seconds: float
    rss: int  # KiB
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f} s  {self.rss / 1024:7.1f} MiB"
            f"  {self.descriptors:4d} descriptors  {self.threads:3d} threads"
        )


def look_at(pid: int, began: float) -> Reading:
    """Read a process's size from /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Reading(
        time.monotonic() - began,
        int(found["VmRSS"]),
        descriptors,
        int(found["Threads"]),
    )


class Soak:
    """The peers of one server, and what they have seen."""

    def __init__(self, address: str, until: float) -> None:
        self.address = address
        self.until = until
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock = threading.Lock()

    def run(self, act: Callable[[random.Random], str], seed: int) -> None:
        """Do one thing again and again."""
        chance = random.Random(seed)
        while time.monotonic() < self.until and len(self.wrong) < 10:
            try:
                name = act(chance)
            except AssertionError as error:
                self.wrong.append(f"{act.__name__}: {error!r}")
                continue
            except (OSError, EOFError) as error:
                if act.__name__ == "be_good":
                    self.wrong.append(f"{act.__name__}: {error!r}")
                    continue
                name = f"{act.__name__}: {type(error).__name__}"
            with self._lock:
                self.done[name] += 1

    # -- what is done ----------------------------------------------------------------

    def be_good(self, chance: random.Random) -> str:
        """Ask right things over one connection, and check every answer."""
        with FrontEnd(self.address) as peer:
            for _ in range(chance.randrange(1, 40)):
                kind = chance.randrange(6)
                if kind == 0:
                    peer.cping()
                elif kind == 1:
                    size = chance.choice((0, 1, 8184, 8185, 100_000))
                    found = peer.ask("GET", "/download", **_query(f"size={size}"))
                    self.check(found, b"".join(pattern(size)))
                elif kind == 2:
                    body = chance.randbytes(chance.choice((1, 8186, 50_000)))
                    found = peer.ask("POST", "/echo", body=body, **WITH_SECRET)
                    self.check(found, body)
                elif kind == 3:
                    found = peer.ask("POST", "/unread", body=b"x" * 9000, **WITH_SECRET)
                    self.check(found, b'{"read": 0}')
                elif kind == 4:
                    headers = [("Transfer-Encoding", "chunked")]
                    found = peer.ask(
                        "PUT",
                        "/echo",
                        headers=headers,
                        chunked=True,
                        body=b"y" * 20_000,
                        **WITH_SECRET,
                    )
                    self.check(found, b"y" * 20_000)
                else:
                    self.check(
                        peer.ask("GET", "/hello", **WITH_SECRET), b"Hello, World!\n"
                    )
        return "good connections"

    @staticmethod
    def check(found: object, body: bytes) -> None:
        """One answer: 503 is honest where bad peers have all the threads."""
        status = found.status  # type: ignore[attr-defined]
        if status == 503:
            raise ConnectionAbortedError("503")
        assert status == 200, found
        assert found.body == body, "another body"  # type: ignore[attr-defined]

    def spoil(self, chance: random.Random) -> str:
        """Send spoilt captures, and leave as it comes."""
        gone = contextlib.suppress(BrokenPipeError, ConnectionResetError)
        with gone, FrontEnd(self.address) as peer:
            for packet in some_sequence(chance):
                peer.send_raw(packet)
            if chance.random() < 0.5:
                peer.sock.settimeout(0.2)
                peer.sock.recv(65536)
        return "spoilt sequences"

    def stop_in_an_upload(self, chance: random.Random) -> str:
        """Announce a body, send a part of it or nothing, and leave or wait."""
        with FrontEnd(self.address) as peer:
            headers = [("Content-Length", "50000")]
            peer.send(forward("POST", "/upload", headers=headers, **WITH_SECRET))
            if chance.random() < 0.5:
                peer.send_raw(
                    b"\x12\x34\x1f\xfc\x1f\xfa" + bytes(chance.randrange(8186))
                )
            if chance.random() < 0.2:
                time.sleep(3)
        return "uploads that stop"

    def stop_in_a_download(self, chance: random.Random) -> str:
        """Ask for much and read little."""
        with FrontEnd(self.address) as peer:
            asked = _query("size=5000000")
            peer.send(forward("GET", "/download", **asked))
            peer.sock.recv(chance.choice((1, 1000, 65536)))
            if chance.random() < 0.1:
                time.sleep(3)
        return "downloads that nobody reads"

    def stop_in_a_packet(self, chance: random.Random) -> str:
        """Send half a request, and wait until the server has had enough of it."""
        with FrontEnd(self.address) as peer:
            data = b"\x12\x34\x01\x00\x02\x02\x00\x08HTTP"
            peer.send_raw(data[: chance.randrange(1, len(data))])
            peer.sock.settimeout(5)
            assert peer.is_closed()
        return "half packets"

    def be_refused(self, chance: random.Random) -> str:
        """Wrong secret, too large a body or header."""
        with FrontEnd(self.address, packet_size=65536) as peer:
            kind = chance.randrange(3)
            if kind == 0:
                peer.send(forward("POST", "/", headers=[("Content-Length", "9")]))
                expected = 403
            elif kind == 1:
                headers = [("Content-Length", "2000000")]
                peer.send(forward("POST", "/", headers=headers, **WITH_SECRET))
                expected = 413
            else:
                headers = [("Cookie", "c" * 20_000)]
                peer.send(forward("GET", "/", headers=headers, **WITH_SECRET))
                expected = 431
            message = peer.receive()
            status = message.status  # type: ignore[union-attr]
            assert status in (expected, 503), (status, expected)
            peer.send_raw(b"\x12\x34\x00\x0b\x00\x09123456789")
        return "refusals"

    def fail(self, chance: random.Random) -> str:
        """Ask an application that fails, before its headers or after."""
        with FrontEnd(self.address) as peer:
            when = chance.choice(("before", "after"))
            with contextlib.suppress(EOFError):
                peer.ask("GET", "/fail", **_query(f"when={when}"))
        return "failures of the application"

    def idle(self, chance: random.Random) -> str:
        """Hold some connections without a word."""
        peers = [FrontEnd(self.address) for _ in range(20)]
        time.sleep(chance.random() * 3)
        for peer in peers:
            peer.close()
        return "idle connections, by the 20"


def _query(query: str) -> dict[str, object]:
    return {"attributes": {"secret": SECRET, "query_string": query}}


def main() -> int:
    """Run it, print what was seen, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=20, help="seconds to a reading")
    asked = parser.parse_args()
    port = free_port()
    flags = [text for name, value in SETTINGS.items() for text in (f"--{name}", value)]
    flags.append("--access-log")
    command = [sys.executable, "-m", "paste_ajp", "serve", "tests.apps.site:route"]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    with Path(os.devnull).open("w") as nowhere:
        server = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
    try:
        return soak(server, f"127.0.0.1:{port}", asked.seconds, asked.every)
    finally:
        server.terminate()
        server.wait(30)


def soak(
    server: subprocess.Popen[bytes], address: str, seconds: float, every: float
) -> int:
    """Let peers at a running server, and compare before and after."""
    _wait_for(address)
    began = time.monotonic()
    run = Soak(address, began + seconds)
    before = look_at(server.pid, began)
    print(before, flush=True)
    acts = [run.be_good] * 3
    acts += [run.spoil, run.stop_in_an_upload, run.stop_in_a_download, run.fail]
    acts += [run.stop_in_a_packet, run.be_refused, run.idle]
    threads = [
        threading.Thread(target=run.run, args=(act, number))
        for number, act in enumerate(acts)
    ]
    for thread in threads:
        thread.start()
    readings = []
    while time.monotonic() < run.until and len(run.wrong) < 10:
        time.sleep(min(every, max(0.1, run.until - time.monotonic())))
        readings.append(look_at(server.pid, began))
        print(readings[-1], flush=True)
    for thread in threads:
        thread.join()
    _wait_for(address)
    time.sleep(4)  # what lingers and what is half sent is given up
    after = look_at(server.pid, began)
    print(after, "with all peers gone")
    for name, count in sorted(run.done.items()):
        print(f"{count:8d} {name}")
    problems = list(run.wrong)
    settled = readings[len(readings) // 4].rss
    if after.rss - settled > MOST_GROWTH:
        problems.append(f"memory grew from {settled} to {after.rss} KiB")
    if after.descriptors > before.descriptors:
        problems.append(f"descriptors: {before.descriptors} -> {after.descriptors}")
    if after.threads > int(SETTINGS["threads"]) + 3:
        problems.append(f"{after.threads} threads")
    for problem in problems:
        print("WRONG:", problem)
    print("flat" if not problems else "not flat")
    return 1 if problems else 0


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with FrontEnd(address) as peer:
                peer.cping()
                return
        except (OSError, EOFError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
