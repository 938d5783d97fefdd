#!/usr/bin/env python3
"""Compare what servers cost when nobody asks for anything.

Per server the time from its start to its first answer, its memory (PSS) after that,
with --idle idle connections the memory of each, and the CPU that it takes for --secs
seconds with them.  Interleaved rounds, medians; nothing is pinned.  The application
is benchapp, so that its imports are part of the start.
"""

import argparse
import socket
import statistics
import sys
import time

import compare


def first_answer(server, ajpload):
    """Start a server; how many milliseconds until its first answer, and memory."""
    begin = time.monotonic()
    server.start(None)
    while not server.listening():
        if server.process.poll() is not None or time.monotonic() > begin + 30:
            break
        time.sleep(0.001)
    server.wait_ready(ajpload)
    return (time.monotonic() - begin) * 1e3, server.memory()


def at_rest(server, connections, secs):
    """KB for each of so many idle connections, and CPU milliseconds in `secs`."""
    before = server.memory()
    socks = []
    try:
        for _ in range(connections):
            address = "127.0.0.1", server.port
            socks.append(socket.create_connection(address, 10))
        time.sleep(2)  # until they are accepted, and who watches has gone to sleep
        each = (server.memory() - before) * 1e3 / connections if connections else 0
        cpu = server.cpu()
        time.sleep(secs)
        return each, (server.cpu() - cpu) * 1e3
    finally:
        for sock in socks:
            sock.close()


def measure(server, args):
    try:
        answer = first_answer(server, str(args.build / "ajpload"))
        return (*answer, *at_rest(server, args.idle, args.secs))
    except (OSError, RuntimeError) as error:
        print(f"left out: {server.name}: {error}", file=sys.stderr)
        return None
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    compare.server_options(parser)
    parser.set_defaults(case="hello", no_pin=True)
    parser.add_argument(
        "--only",
        default="paste_ajp,paste_ajp compiled,waitress",
        help="names of servers, comma-separated, in this order (%(default)s)",
    )
    parser.add_argument(
        "--idle",
        type=compare.number_of(int, 0),
        default=1000,
        help="idle connections (%(default)s)",
    )
    parser.add_argument("--base-port", type=int, default=28700)
    args = compare.prepare(parser)
    specs = compare.chosen(parser, "server", args.specs, args.only)
    compare.build_names(args)
    compare.allow_descriptors()
    names = compare.names_for("hello", args.names)
    samples = {spec["name"]: [] for spec in specs}
    for _ in range(args.rounds):
        for i, spec in enumerate(specs):
            result = measure(compare.Server(spec, args.base_port + i, names), args)
            if result:
                samples[spec["name"]].append(result)
    print("| server | start ms | MB | KB each | CPU ms at rest |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, runs in samples.items():
        if runs:
            start, memory, each, cpu = map(statistics.median, zip(*runs, strict=True))
            print(f"| {name} | {start:.0f} | {memory:.1f} | {each:.2f} | {cpu:.0f} |")
    compare.save(args.json, samples)
    compare.end(parser, samples)


if __name__ == "__main__":
    main()
