#!/usr/bin/env python3
"""Compare servers under the same load, in interleaved rounds (A B C A B C ...).

The load comes from ajpload for AJP and HTTP alike, so that the client costs the
same.  Prints one Markdown table per case; --json keeps every single sample.
"""

import argparse
import functools
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:
    version = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"{Path(sys.argv[0]).name}: needs Python 3.11 or newer, this is {version}")

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")

#: Options for ajpload. With "-k" the servers are started with that packet size too.
CASES = {
    "hello": "-c 16 -p / -e 13",
    "hello-c1": "-c 1 -p / -e 13",
    "hello-c64": "-c 64 -p / -e 13",
    "hello-c500": "-c 500 -p / -e 13",
    "hello-c2000": "-c 2000 -p / -e 13",
    "100k": "-c 16 -p /102400 -e 102400",
    "10m": "-c 4 -p /10485760 -e 10485760",
    "stream10m": "-c 4 -p /stream/10485760 -e 10485760",
    "file100m": "-c 4 -p /file/104857600 -e 104857600",
    "post64k": "-c 16 -p /echo -b 65536 -e 5",
    "post10m": "-c 4 -p /echo -b 10485760 -e 8",
    "100k-k65536": "-k 65536 -c 16 -p /102400 -e 102400",
    "10m-k65536": "-k 65536 -c 4 -p /10485760 -e 10485760",
    "post64k-k65536": "-k 65536 -c 16 -p /echo -b 65536 -e 5",
    "stream10m-k65536": "-k 65536 -c 4 -p /stream/10485760 -e 10485760",
    "file100m-k65536": "-k 65536 -c 4 -p /file/104857600 -e 104857600",
    "post10m-k65536": "-k 65536 -c 4 -p /echo -b 10485760 -e 8",
    "sleep": "-c 64 -p /sleep -e 13",
    "sleep-5": "-c 64 -p /sleep-5 -e 13",
    "sleep-0.5": "-c 64 -p /sleep-0.5 -e 13",
    "cpu": "-c 64 -p /cpu -e 13",
    "idle": "-c 16 -i 500 -p / -e 13",
    "idle10k": "-c 16 -i 10000 -p / -e 13",
}
#: What --case takes besides: the cases that ask one question.
SETS = {
    "all": list(CASES),
    "bodies": [
        case
        for case in CASES
        if case.startswith(("1", "stream", "file", "post")) and "-k" not in case
    ],
    "packets": [case for case in CASES if "-k65536" in case],
    # Who may run when: with --no-pin, see README.md.
    "threads": ["hello-c64", "sleep", "sleep-5", "sleep-0.5", "cpu"],
    "growth": ["hello", "hello-c64", "hello-c500", "hello-c2000", "idle10k"],
}


# ---- processes ----------------------------------------------------------------


def stat_fields(pid):
    """The fields of /proc/PID/stat after the command name; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def process_tree(root):
    """{pid: stat fields} of a process and its descendants."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    stats = {pid: stat_fields(pid) for pid in pids}
    tree = {root: stats.get(root)}
    found = True
    while found:
        found = [
            pid
            for pid, f in stats.items()
            if f and pid not in tree and int(f[1]) in tree
        ]
        tree.update((pid, stats[pid]) for pid in found)
    return {pid: f for pid, f in tree.items() if f}


def machine_busy():
    """CPU seconds that the machine has been busy."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICK


#: Kills the process groups that were added and not taken away.
GUARD = """
import os, signal, sys
left = []
for line in sys.stdin:
    group = int(line)
    if group > 0:
        left.append(group)
    elif group:
        left.remove(-group)
    else:
        left.pop()
for group in left:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


@functools.cache
def guard():
    """A process that ends the servers which we leave behind.

    SIGKILL leaves us no time for that, but closes its stdin. A line there is the group
    of a server that starts, -group of one that has stopped, 0 where the last one did
    not start after all.
    """
    return subprocess.Popen(
        [sys.executable, "-S", "-c", GUARD],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us alone
    )


def tell_guard(group):
    os.write(guard().stdin.fileno(), b"%d\n" % group)


def allow_descriptors():
    """Allow this process as many as 10,000 connections need, or as many as may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 25000 if hard == resource.RLIM_INFINITY else min(hard, 25000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server:
    """A server process; `spec` is a table of servers.toml."""

    def __init__(self, spec, port, names):
        self.name = spec["name"]
        self.port = port
        self.warm = spec.get("warm", 0)
        self.kind = spec["kind"]
        self.load_args = shlex.split(spec.get("load", ""))
        if self.kind == "http":
            self.load_args.append("--http")
        self.cmd = [
            word.format(port=port, **names) for word in shlex.split(spec["cmd"])
        ]
        self.process = None
        self.log = None

    def listening(self):
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", self.port))

    def start(self, cpus):
        guard()

        def child():
            tell_guard(os.getpid())  # here: we may be killed before we know it
            if cpus:
                os.sched_setaffinity(0, cpus)
            allow_descriptors()

        if self.listening():
            raise RuntimeError(f"something listens on port {self.port} already")
        env = dict(os.environ, PYTHONPATH=str(HERE))
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        try:
            self.process = subprocess.Popen(
                self.cmd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                start_new_session=True,
                preexec_fn=child,
            )
        except BaseException:
            tell_guard(0)
            raise

    def wait_ready(self, ajpload, secs=30):
        """Wait for the answer to a request.

        Where ajpload lacks the protocol, it is enough that something listens.
        """
        one = [
            ajpload,
            "-a",
            f"127.0.0.1:{self.port}",
            "-n",
            "1",
            "-d",
            "0.5",
            *self.load_args,
        ]
        deadline = time.monotonic() + secs
        while (
            not self.listening()
            if self.kind == "uwsgi"
            else subprocess.run(one, stdout=subprocess.DEVNULL, check=False).returncode
        ):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                lines = self.log.read().decode(errors="replace").splitlines()
                raise RuntimeError(f"no answer; {''.join(lines[-1:])}")
            time.sleep(0.1)

    def cpu(self):
        """CPU seconds of the tree so far, children that it has reaped included."""
        return (
            sum(
                sum(map(int, f[11:15])) for f in process_tree(self.process.pid).values()
            )
            / TICK
        )

    def memory(self):
        """Memory of the tree in MB (PSS: what processes share is divided)."""
        total = 0
        for pid in process_tree(self.process.pid):
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += int(text.split("\nPss:")[1].split()[0])
        return total / 1e3

    def stop(self):
        if not self.process:
            return
        pids = list(process_tree(self.process.pid))
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(3)
        for pid in pids:  # whoever is left, one by one
            fields = stat_fields(pid)
            if fields and int(fields[3]) == self.process.pid:  # still of our session
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()
        tell_guard(-self.process.pid)
        self.process = None


# ---- measuring ------------------------------------------------------------------


def build():
    """Compile ajpload and ajphello if they are missing or older than their source."""
    if not shutil.which("cc"):
        sys.exit("benchmarks: the load generator needs a C compiler (cc)")
    out = Path(tempfile.gettempdir()) / f"ajpbench-{os.getuid()}"
    out.mkdir(exist_ok=True)
    for name in ("ajpload", "ajphello"):
        source, program = HERE / f"{name}.c", out / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    return out


def run_load(server, case_args, secs, warm, ajpload, cpus):
    """One run of ajpload; its result with the server's CPU and memory added."""
    cmd = [
        ajpload,
        "-a",
        f"127.0.0.1:{server.port}",
        *shlex.split(case_args),
        *server.load_args,
        "-d",
        str(secs),
        "-t",
        str(warm),
        "--json",
        "--marks",
    ]
    load = subprocess.Popen(
        cmd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
    )
    load.stderr.readline()  # begin
    before, busy = server.cpu(), machine_busy()
    load.stderr.readline()  # end
    cpu, busy, memory = server.cpu() - before, machine_busy() - busy, server.memory()
    out, _ = load.communicate()
    result = json.loads(out)
    others = busy / result["secs"] - cpu / result["secs"] - result["client_cpu"]
    result.update(server_cpu=cpu, memory_mb=memory, others_cpu=max(0, others))
    return result


def wait_quiet(quiet, patience):
    """Wait until others leave the machine alone, `patience` seconds at most."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = machine_busy()
        time.sleep(0.25)
        if machine_busy() - before <= 0.25 * quiet:
            return


def run_case(servers, case_args, args, ajpload):
    """{name: [result of each round]}"""
    samples = {s.name: [] for s in servers}
    for number in range(args.rounds):
        for server in servers:
            tries = []
            while not tries or (
                len(tries) <= args.retries and tries[-1]["others_cpu"] > args.quiet
            ):
                wait_quiet(args.quiet, args.patience)
                tries.append(
                    run_load(
                        server, case_args, args.secs, args.warm, ajpload, args.load_cpus
                    )
                )
            result = min(tries, key=lambda r: r["others_cpu"])
            samples[server.name].append(result)
            print(
                f"  round {number + 1} {server.name}: {result['rps']:.0f}/s,"
                f" try {len(tries)}, others {result['others_cpu']:.2f} CPUs",
                file=sys.stderr,
            )
    return samples


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def remarks(runs):
    """What was not as it should be, summed over the rounds."""
    names = {
        "non2xx": "non-2xx",
        "protocol_errors": "protocol errors",
        "conn_errors": "connection errors",
        "timeouts": "time-outs",
        "idle_closed": "idle closed",
    }
    notes = [
        f"{sum(r[key] for r in runs)} {text}"
        for key, text in names.items()
        if any(r[key] for r in runs)
    ]
    starved = max(r["starved"] for r in runs)
    if starved:
        notes.append(f"{starved} connections starved")
    unanswered = max(r["idle"] - r["idle_served"] for r in runs)
    if unanswered:
        notes.append(f"{unanswered} idle unanswered")
    if any(r["reconnects"] > r["requests"] / 2 for r in runs if r["requests"]):
        notes.append("closes each time")
    if statistics.median(r["client_cpu"] for r in runs) > 0.95:
        notes.append("client at its limit")
    others = statistics.median(r["others_cpu"] for r in runs)
    if others > 0.2:
        notes.append(f"other processes took {others:.1f} CPUs")
    return ", ".join(notes)


def table(samples, file=sys.stdout):
    """Print a Markdown table; ratios are to the first server, MB is memory (PSS)."""
    print(
        "| server | req/s | min..max | ratio | CPU us/req | MB | p50 ms | p99 ms"
        " | remarks |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        file=file,
    )
    reference = None
    for name, runs in samples.items():
        rates = [r["rps"] for r in runs]
        rate = statistics.median(rates)
        reference = reference or rate
        requests = sum(r["requests"] for r in runs)
        cpu = sum(r["server_cpu"] for r in runs)
        cells = [
            name,
            number(rate),
            f"{number(min(rates))}..{number(max(rates))}",
            f"{rate / reference:.3f}" if reference else "-",
            number(cpu / requests * 1e6) if requests else "-",
            f"{statistics.median(r['memory_mb'] for r in runs):.0f}",
            f"{statistics.median(r['p50_ms'] for r in runs):.3g}",
            f"{statistics.median(r['p99_ms'] for r in runs):.3g}",
            remarks(runs),
        ]
        print(f"| {' | '.join(cells)} |", file=file)
    print(flush=True, file=file)


def number_of(kind, least):
    """Converts an argument to a number of that kind, from `least`."""

    def convert(text):
        value = kind(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: expected {least:g} or more")
        return value

    convert.__name__ = "number"
    return convert


def server_options(parser):
    """What --help lists of any of these programs."""
    parser.add_argument("--rounds", type=number_of(int, 1), default=5)
    parser.add_argument(
        "--secs",
        type=number_of(float, 0.1),
        default=3,
        help="measured time of each run",
    )
    parser.add_argument("--servers", type=Path, default=HERE / "servers.toml")
    parser.add_argument(
        "--bin",
        type=Path,
        default=Path(sys.executable).parent,
        help="directory of the servers' programs and of their python (%(default)s)",
    )
    parser.add_argument(
        "--compiled",
        type=Path,
        default=HERE.parent / ".venvs/compiled/bin",
        help="the same, where paste_ajp is compiled (%(default)s)",
    )
    parser.add_argument(
        "--json", type=Path, help="write all samples to this file, case by case"
    )


def common_options(parser):
    server_options(parser)
    parser.add_argument(
        "--case",
        default="hello",
        help=f"names, comma-separated, or {', '.join(SETS)} (%(default)s)",
    )
    parser.add_argument(
        "--warm", type=number_of(float, 0), default=1, help="warm-up of each run"
    )
    parser.add_argument(
        "--quiet",
        type=float,
        default=0.1,
        help="a run in which other processes took more CPUs "
        "than this is repeated, and the quietest counts (%(default)s)",
    )
    parser.add_argument(
        "--retries",
        type=number_of(int, 0),
        default=2,
        help="at most so often (%(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=10,
        help="seconds to wait for quiet before a run (%(default)s)",
    )
    parser.add_argument(
        "--no-pin",
        action="store_true",
        help="do not pin the server to CPU 0 and the load to CPU 1",
    )


def known(parser, what, names, there):
    """Those of `there`, a dict, that are named; ends the program for others."""
    for name in names:
        if name not in there:
            parser.error(f"no such {what}: {name!r}; there are {', '.join(there)}")
    return [there[name] for name in names]


def chosen(parser, what, specs, only):
    """The tables of servers.toml that --only names, in its order; all without it."""
    there = {spec["name"]: spec for spec in specs}
    names = [name.strip() for name in only.split(",")] if only else list(there)
    return known(parser, what, names, there)


def load_tables(parser, path):
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"--servers {path}: {error}")


def prepare(parser):
    args = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that servers are stopped
    pin = not args.no_pin and os.cpu_count() > 1
    args.server_cpus, args.load_cpus = ({0}, {1}) if pin else (None, None)
    args.tables = load_tables(parser, args.servers)
    args.specs = args.tables["server"]
    cases = {name: [name] for name in CASES} | SETS
    named = known(parser, "case", args.case.split(","), cases)
    args.cases = [case for some in named for case in some]
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json {args.json}: there is no folder {args.json.parent}")
    return args


def build_names(args):
    """Compile the load, and set `names`: what servers.toml may write in braces."""
    args.build = build()
    args.names = {
        "here": HERE,
        "bin": args.bin,
        "compiled": args.compiled,
        "python": args.bin / "python",
        "build": args.build,
    }


def names_for(case, names):
    """What may stand in a server's command, and depends on the case."""
    words = shlex.split(CASES[case])
    size = words[words.index("-k") + 1] if "-k" in words else 8192
    return {**names, "packet_size": size}


def save(path, results):
    if path:
        path.write_text(json.dumps(results, indent=1))


def end(parser, results):
    """A run that shows nothing has failed, whatever was left out and why."""
    if not any(results.values()):
        parser.exit(1, f"{parser.prog}: nothing was measured, see above\n")


def warm_up(server, args, ajpload):
    if server.warm:
        run_load(server, CASES["hello"], server.warm, 0, ajpload, args.load_cpus)


def for_case(specs, case):
    return [
        s
        for s in specs
        if case in s.get("cases", [case]) and case not in s.get("skip", [])
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    common_options(parser)
    parser.add_argument(
        "--group", default="ajp,http", help="groups, comma-separated (%(default)s)"
    )
    parser.add_argument(
        "--only", default="", help="names of servers, comma-separated, in this order"
    )
    parser.add_argument("--base-port", type=int, default=28100)
    args = prepare(parser)
    specs = chosen(parser, "server", args.specs, args.only)
    if not args.only:
        groups = dict.fromkeys(s["group"] for s in specs)
        known(parser, "group", args.group.split(","), {g: g for g in groups})
        specs = [s for s in specs if s["group"] in args.group.split(",")]
    build_names(args)
    ajpload = str(args.build / "ajpload")
    results = {}
    for case in args.cases:
        servers = [
            Server(s, s.get("port", args.base_port + i), names_for(case, args.names))
            for i, s in enumerate(for_case(specs, case))
        ]
        running = []
        try:
            for server in servers:
                running.append(server)
                try:
                    server.start(args.server_cpus)
                    server.wait_ready(ajpload)
                    warm_up(server, args, ajpload)
                except (OSError, RuntimeError) as error:
                    print(f"left out: {server.name}: {error}", file=sys.stderr)
                    running.remove(server)
                    server.stop()
            results[case] = run_case(running, CASES[case], args, ajpload)
        finally:
            for server in running:
                server.stop()
        print(f"### {case}: {CASES[case]}\n")
        table(results[case])
        save(args.json, results)
    end(parser, results)


if __name__ == "__main__":
    main()
