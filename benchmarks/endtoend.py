#!/usr/bin/env python3
"""Compare routes through Apache httpd: load > httpd > server, in interleaved rounds.

Gives every route an httpd of its own (event MPM, a private configuration from the
template below), starts the server behind it, and measures the two as one, in the
way of compare.py.  httpd and server share CPU 0, the load has CPU 1.  The routes
are the [[route]] tables of servers.toml; to add a server, add one there.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import compare

CONF = """\
ServerRoot {root}
PidFile {root}/httpd.pid
ErrorLog {root}/error.log
LogLevel warn
ServerName localhost
Listen 127.0.0.1:{listen}
{user}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_ajp_module {modules}/mod_proxy_ajp.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule proxy_uwsgi_module {modules}/mod_proxy_uwsgi.so
<IfFile {modules}/mod_wsgi.so>
    LoadModule wsgi_module {modules}/mod_wsgi.so
    WSGISocketPrefix {root}/wsgi
</IfFile>
StartServers 1
ServerLimit 1
ThreadLimit 200
ThreadsPerChild 200
MaxRequestWorkers 200
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60

{conf}
"""


def make_files(files):
    """The static files, and a copy of the application that httpd's user may read."""
    files.chmod(0o755)
    (files / "hello").write_text("Hello, World!")
    for size in (102400, 10485760):
        (files / str(size)).write_bytes(b"x" * size)
    shutil.copy(compare.HERE / "benchapp.py", files)


class Route:
    """An httpd with the server behind it: what run_load() measures as one."""

    def __init__(self, spec, listen, server, files, args):
        self.load_args = ["--http"]
        self.name, self.port, self.server = spec["name"], listen, server
        self.warm = spec.get("warm", 0)
        self.root = files / str(listen)
        self.root.mkdir(mode=0o755)
        conf = spec["conf"].format(files=files, port=listen + 1).strip()
        (self.root / "httpd.conf").write_text(
            CONF.format(
                root=self.root,
                listen=listen,
                modules=args.modules,
                conf=conf,
                user="User www-data\nGroup www-data" if os.getuid() == 0 else "",
            )
        )
        self.cmd = [args.httpd, "-f", str(self.root / "httpd.conf"), "-DFOREGROUND"]
        self.httpd = compare.Server(
            {"name": self.name, "kind": "http", "cmd": shlex.join(self.cmd)}, listen, {}
        )
        self.parts = [server, self.httpd] if server else [self.httpd]

    def start(self, cpus, ajpload):
        for part in self.parts:
            part.start(cpus)
            part.wait_ready(ajpload)

    def cpu(self):
        return sum(part.cpu() for part in self.parts)

    def memory(self):
        return sum(part.memory() for part in self.parts)

    def stop(self):
        for part in reversed(self.parts):
            part.stop()

    def errors(self):
        log = self.root / "error.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if ":error]" in line or ":crit]" in line]


def run_wrk(route, case_args, secs, warm, _ajpload, cpus):
    """In the place of compare.run_load(): the same with wrk (GET only)."""
    words = iter(shlex.split(case_args))
    options = dict(zip(words, words, strict=True))
    connections = options["-c"]
    url = f"http://127.0.0.1:{route.port}{options['-p']}"
    pin = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None

    def wrk(seconds):
        return subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", url],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=pin,
        ).stdout

    wrk(max(1, warm))
    before = route.cpu()
    out = wrk(secs)
    cpu = route.cpu() - before

    def millis(percent):
        value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)", out).groups()
        return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]

    sock = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out
    )
    errors = list(map(int, sock.groups())) if sock else [0] * 4
    non2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return {
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "requests": int(re.search(r"(\d+) requests in", out)[1]),
        "p50_ms": millis(50),
        "p99_ms": millis(99),
        "non2xx": int(non2xx[1]) if non2xx else 0,
        "conn_errors": sum(errors[:3]),
        "timeouts": errors[3],
        "protocol_errors": 0,
        "idle_closed": 0,
        "starved": 0,
        "idle": 0,
        "idle_served": 0,
        "reconnects": 0,
        "client_cpu": 0,
        "server_cpu": cpu,
        "memory_mb": route.memory(),
        "others_cpu": 0,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    compare.common_options(parser)
    parser.add_argument(
        "--only", default="", help="names of routes, comma-separated, in this order"
    )
    parser.add_argument("--httpd", default="/usr/sbin/apache2", help="(%(default)s)")
    parser.add_argument(
        "--modules", default="/usr/lib/apache2/modules", help="(%(default)s)"
    )
    parser.add_argument(
        "--wrk", action="store_true", help="load with wrk instead of ajpload --http"
    )
    parser.add_argument("--base-port", type=int, default=28400)
    args = compare.prepare(parser)
    specs = compare.chosen(parser, "route", args.tables["route"], args.only)
    if args.wrk and not shutil.which("wrk"):
        parser.error("--wrk: wrk is not installed")
    compare.build_names(args)
    servers = {s["name"]: s for s in args.specs}
    ajpload = str(args.build / "ajpload")
    if args.wrk:
        compare.run_load = run_wrk
    results = {}
    for case in args.cases:
        with tempfile.TemporaryDirectory(prefix="ajpbench-httpd-") as directory:
            files = Path(directory)
            make_files(files)
            routes = []
            try:
                for i, spec in enumerate(compare.for_case(specs, case)):
                    listen, server = args.base_port + 2 * i, None
                    if "server" in spec:
                        server = compare.Server(
                            servers[spec["server"]],
                            listen + 1,
                            compare.names_for(case, args.names),
                        )
                    route = Route(spec, listen, server, files, args)
                    routes.append(route)
                    try:
                        route.start(args.server_cpus, ajpload)
                        compare.warm_up(route, args, ajpload)
                    except (OSError, RuntimeError) as error:
                        print(f"left out: {route.name}: {error}", file=sys.stderr)
                        routes.remove(route)
                        route.stop()
                results[case] = compare.run_case(
                    routes, compare.CASES[case], args, ajpload
                )
            finally:
                for route in routes:
                    route.stop()
            for route in routes:
                errors = route.errors()
                if errors:
                    print(
                        f"{route.name}: httpd logged {len(errors)} errors",
                        *errors[-2:],
                        sep="\n  ",
                        file=sys.stderr,
                    )
        print(f"### {case}: {compare.CASES[case]}\n")
        compare.table(results[case])
        compare.save(args.json, results)
    compare.end(parser, results)


if __name__ == "__main__":
    main()
